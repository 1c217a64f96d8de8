"""S3 over a wire with faults: the right bytes or a clear error, one winner, and no secret in any message."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from pipeline.errors import OutputExistsError, StorageError, TelltaleError, UnavailableError, UsageError
from pipeline.storage import Folder, _s3
from tests.faulty import FAULTS, SLOW, Fault, FaultyProxy
from tests.servers import ACCESS_KEY, BUCKET, SECRET_KEY

DATA = random.Random(0).randbytes(6_000_000)
PART = 5 << 20  # the smallest part that S3 takes
READS: dict[str, Callable[[Folder], object]] = {
    "read": lambda folder: folder.read("big") == DATA,
    "open": lambda folder: folder.open("big").read() == DATA,
    "list": lambda folder: [entry.path for entry in folder.list()] == ["big"],
    "is_file": lambda folder: folder.is_file("big"),
}


@pytest.fixture
def folder(wire: FaultyProxy, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Folder:
    """A folder with one large file, on the far side of the wire; answers are waited for less than `SLOW` seconds."""
    monkeypatch.setattr(_s3, "READ_SECONDS", SLOW / 2)
    monkeypatch.setattr(_s3, "PART_BYTES", PART)
    folder = Folder(f"s3://{BUCKET}/{abs(hash(request.node.name))}")
    folder.put("big", DATA)
    wire.seen.clear()
    return folder


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("action", READS)
def test_reading_survives_faults(folder: Folder, wire: FaultyProxy, fault: Fault, action: str) -> None:
    wire.spoil(fault, fault)
    assert READS[action](folder)
    assert wire.unused == 0


@pytest.mark.parametrize("fault", [*FAULTS, "lost"])
@pytest.mark.parametrize("size", [1000, len(DATA)], ids=["one piece", "in parts"])
@pytest.mark.parametrize("create", [False, True], ids=["put", "create"])
def test_writing_survives_faults(folder: Folder, wire: FaultyProxy, fault: Fault, size: int, create: bool) -> None:
    data = DATA[:size]
    wire.spoil(fault, fault)
    (folder.create if create else folder.put)("new", data)
    assert wire.unused == 0
    wire.spoil_always(None)
    assert folder.read("new") == data


def test_a_key_that_the_store_was_too_busy_to_remove_is_asked_for_again(folder: Folder, wire: FaultyProxy) -> None:
    wire.spoil("busy", "busy", method="POST")
    folder.remove("")
    assert wire.unused == 0
    assert not folder.exists("big")


def test_a_key_that_may_not_be_removed_is_told(folder: Folder, wire: FaultyProxy) -> None:
    wire.spoil("denied", method="POST")
    with pytest.raises(StorageError, match=r"cannot remove: permission denied \(AccessDenied\)"):
        folder.remove("")
    assert folder.exists("big")


@pytest.mark.parametrize("size", [1000, len(DATA)], ids=["one piece", "in parts"])
def test_a_taken_name_stays_taken_even_if_answers_are_lost(folder: Folder, wire: FaultyProxy, size: int) -> None:
    folder.create("new", DATA[:size])
    wire.spoil("lost", "lost")
    with pytest.raises(OutputExistsError, match="already there"):
        folder.create("new", b"x" * size)
    assert folder.read("new") == DATA[:size]


@pytest.mark.parametrize("fault", ["500", "503", "drop", "cut", "short"])
def test_faults_without_end_become_one_clear_error(
    folder: Folder, wire: FaultyProxy, monkeypatch: pytest.MonkeyPatch, fault: Fault
) -> None:
    monkeypatch.setattr("pipeline.storage._remote._PAUSE", 0.01)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # boto3's own patience with a busy store is longer than a test's
    monkeypatch.setattr(_s3, "_clients", {})
    wire.spoil_always(fault)
    for action in (READS["read"], READS["open"], lambda folder: folder.put("new", DATA)):
        with pytest.raises(UnavailableError, match=rf"^{folder.uri}/(big|new): cannot (read|write): .*[Rr]un the same"):
            action(folder)
    wire.spoil_always(None)
    assert not folder.exists("new")


def test_a_picture_takes_one_request(folder: Folder, wire: FaultyProxy) -> None:
    folder.put("picture", DATA[:100_000])
    wire.seen.clear()
    with folder.open("picture") as stream:
        assert stream.read() == DATA[:100_000]
    assert [method for method, _ in wire.seen] == ["GET"]


def test_a_file_replaced_while_it_is_read_is_an_error_and_no_mixture(folder: Folder) -> None:
    with folder.open("big") as stream:
        assert stream.read(10) == DATA[:10]
        folder.put("big", DATA[::-1])
        stream.seek(5_000_000)
        with pytest.raises(StorageError, match="replaced while it was read"):
            stream.read(10)


def test_reading_on_and_on_needs_few_requests_and_little_memory(folder: Folder, wire: FaultyProxy) -> None:
    with folder.open("big") as stream:
        while stream.read(1000):
            held = stream._held  # type: ignore[attr-defined]
            assert len(held) <= 8 << 20
    assert len(wire.seen) < 8


def _no_bucket(monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder("s3://no-such-bucket/x")


def _wrong_secret(monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET_KEY}-wrong")
    _s3._clients.clear()
    return Folder(f"s3://{BUCKET}/x")


def _unknown_key(monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", f"{ACCESS_KEY}2")
    return Folder(f"s3://{BUCKET}/x")


def _no_keys(monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    return Folder(f"s3://{BUCKET}/x")


def _no_server(monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{ACCESS_KEY}:{SECRET_KEY.replace('/', '%2F')}@127.0.0.1:9")
    return Folder(f"s3://{BUCKET}/x")


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (_no_bucket, "no such bucket"),
        (_wrong_secret, "the secret key is not the right one"),
        (_unknown_key, "the access key is not known there"),
        (_no_keys, "no usable credentials"),
        (_no_server, "the store does not answer"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_is(
    s3: str, monkeypatch: pytest.MonkeyPatch, prepare: Callable[[pytest.MonkeyPatch], Folder], words: str
) -> None:
    folder = prepare(monkeypatch)
    for action in (lambda: folder.read("a"), lambda: folder.put("a", b"1"), lambda: list(folder.list())):
        with pytest.raises(StorageError, match=words) as caught:
            action()
        told = f"{caught.value} {caught.value.__cause__!r}"
        assert not any(secret in told for secret in (SECRET_KEY, ACCESS_KEY, "%2F"))
    _s3._clients.clear()


@pytest.mark.parametrize(
    "uri",
    [
        "s3://AKIAKEY:sec/ret@lake/x",
        "s3://AKIAKEY:secret@lake/x",
        "s3a://AKIAKEY@lake",
        "gs://AKIAKEY:secret@lake/x",
        "hdfs://AKIAKEY:secret@host:9000/x",
        "hdfs://AKIAKEY:sec/ret@host/x",
        "ftp://AKIAKEY:secret@host/x",
        "file://AKIAKEY:secret@host/x",
        "s3:///x",
        "s3:/x",
    ],
)
def test_a_uri_with_a_secret_in_it_is_refused_and_not_repeated(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        Folder(uri)
    assert not any(word in str(caught.value) for word in ("AKIAKEY", "sec"))


def test_errors_cross_process_borders(s3: str) -> None:
    import pickle

    with pytest.raises(TelltaleError) as caught:
        Folder(f"s3://{BUCKET}/x").read("no")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own bytes
