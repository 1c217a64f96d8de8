"""What a Folder promises, kept on every kind of storage that this machine can serve: a disk, S3, GCS.

HDFS keeps the same promises in tests/cluster/, where its daemons are.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import threading
from pathlib import Path

import pytest

from pipeline.errors import OutputExistsError, StorageError
from pipeline.storage import STAGING, Entry, Folder, split_uri
from tests.servers import BUCKET

AWKWARD = ["a b.jpg", "x#y%20z.jpg", 'it\'s "quoted".jpg', "line\nbreak.jpg", "été-図.jpg", "a:b.jpg", "a?b+c&d=.jpg"]


@pytest.fixture(params=["file", "s3", "s3a", "gs"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An empty folder of its own, which does not exist yet."""
    if request.param == "file":
        return Folder(str(tmp_path / "folder"))
    request.getfixturevalue("gcs" if request.param == "gs" else "s3")
    return Folder(f"{request.param}://{BUCKET}/{tmp_path.name}-{request.param}")


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_survive_writing_listing_and_reading(folder: Folder, name: str) -> None:
    folder.put(f"sub/{name}", b"bytes")
    assert list(folder.list()) == [Entry(f"sub/{name}", 5)]
    assert folder.read(f"sub/{name}") == b"bytes"
    parent, last = split_uri(folder.locate(f"sub/{name}"))
    assert (parent.read(last), parent.uri.rstrip("/")) == (b"bytes", folder.child("sub").uri)


def test_listings_are_in_the_order_of_a_disk(folder: Folder, tmp_path: Path) -> None:
    paths = ["a/b", "a-b", "a.b", "a0", "é", "Z", "a/B/c", "z/😀", "z/￮"]
    local = Folder(str(tmp_path / "local"))
    for path in [*paths, ".hidden", "a/.git/x", f"{STAGING}/left"]:
        folder.put(path, b"x")
        local.put(path, b"x")
    assert list(folder.list()) == list(local.list())
    assert len(list(folder.list())) == len(paths)
    assert [entry.path for entry in folder.list(hidden=True)] == [entry.path for entry in local.list(hidden=True)]


def test_put_replaces_and_create_does_not(folder: Folder) -> None:
    folder.put("a", b"1")
    folder.put("a", b"2")
    with pytest.raises(OutputExistsError, match="another run has published it"):
        folder.create("a", b"3")
    assert folder.read("a") == b"2"
    assert [entry.path for entry in folder.list(hidden=True)] == ["a"]


def test_of_many_creators_exactly_one_succeeds(folder: Folder) -> None:
    outcomes: list[int] = []
    together = threading.Barrier(16)

    def attempt(number: int) -> None:
        together.wait()
        try:
            Folder(folder.uri).create("manifest.json", str(number).encode())
            outcomes.append(number)
        except OutputExistsError:
            pass

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert folder.read("manifest.json") == str(outcomes[0]).encode()


def test_what_is_not_published_is_never_seen(folder: Folder) -> None:
    with folder.staged() as staged:
        staged.stream.write(b"half")
        assert not folder.exists("a")
    assert not folder.is_file("a")
    assert not folder.exists() or list(folder.list(hidden=True)) == []


def test_files_and_folders_are_told_apart(folder: Folder) -> None:
    assert not folder.exists()
    folder.put("sub/a", b"1")
    told = [(folder.exists(name), folder.is_file(name), folder.is_folder(name)) for name in ("sub", "sub/a", "su", "a")]
    assert told == [(True, False, True), (True, True, False), (False, False, False), (False, False, False)]
    assert folder.exists()
    assert folder.is_folder()


def test_an_empty_file_is_a_file(folder: Folder) -> None:
    folder.put("empty", b"")
    with folder.open("empty") as stream:
        assert stream.read() == b""
    assert (folder.read("empty"), folder.is_file("empty")) == (b"", True)
    assert list(folder.list()) == [Entry("empty", 0)]


def test_any_part_of_a_file_can_be_read_in_any_order(folder: Folder) -> None:
    data = random.Random(0).randbytes(9_000_000)
    folder.put("big", data)
    assert folder.sha256("big") == (hashlib.sha256(data).hexdigest(), len(data))
    with folder.open("big") as stream:
        places = random.Random(1)
        for _ in range(40):
            start, size = places.randrange(len(data)), places.choice([1, 100, 70_000, 3_000_000])
            assert stream.seek(start) == start
            assert stream.read(size) == data[start : start + size]
        assert stream.seek(-5, os.SEEK_END) == len(data) - 5
        assert stream.read() == data[-5:]
        assert (stream.read(), stream.tell()) == (b"", len(data))
        stream.seek(0)
        assert b"".join(iter(lambda: stream.read(333_333), b"")) == data


@pytest.mark.parametrize("ask", [lambda f: f.open("no"), lambda f: f.read("no"), lambda f: f.sha256("no")])
def test_a_missing_file_names_itself(folder: Folder, ask: object) -> None:
    folder.put("there", b"")
    with pytest.raises(StorageError, match=r"/no: cannot read: No such file") as caught:
        ask(folder)  # type: ignore[operator]
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_a_missing_folder_cannot_be_listed(folder: Folder) -> None:
    with pytest.raises(StorageError, match="not a folder"):
        list(folder.list())


def test_removing_takes_a_file_or_a_whole_folder_and_nothing_else(folder: Folder) -> None:
    for path in ("a", "ab", "sub/a", "sub/deep/b", "sub2/c"):
        folder.put(path, b"x")
    folder.remove("nothing")
    folder.remove("a")
    folder.remove("sub")
    assert [entry.path for entry in folder.list(hidden=True)] == ["ab", "sub2/c"]
    folder.remove("")
    assert not folder.exists()


def test_a_folder_survives_pickling(folder: Folder) -> None:
    folder.put("a", b"1")
    assert pickle.loads(pickle.dumps(folder)).read("a") == b"1"  # noqa: S301 - our own bytes


def test_a_folder_holds_itself_and_what_is_below_it(folder: Folder, tmp_path: Path) -> None:
    for other, held in ((folder, True), (folder.child("a/b"), True), (Folder(f"{folder.uri}2"), False)):
        assert folder.holds(other) is held
    assert not folder.child("a").holds(folder)
    assert Folder(str(tmp_path)).holds(folder) is not folder.remote
