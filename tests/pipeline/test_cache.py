"""The local cache: bytes checked when they come, never over its limit, shared by processes, the oldest gone first."""

from __future__ import annotations

import fcntl
import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pipeline.cache import CachedFolder, cache_folder, cached
from pipeline.errors import ConfigError, IntegrityError, StorageError
from pipeline.manifest import check_files
from pipeline.storage import Folder
from tests.faulty import FaultyProxy
from tests.servers import BUCKET

SIZE = 300_000


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("TELLTALE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _data(number: int) -> bytes:
    return random.Random(number).randbytes(SIZE)


def _entry(number: int) -> dict[str, Any]:
    return {"path": f"f{number}", "bytes": SIZE, "sha256": hashlib.sha256(_data(number)).hexdigest()}


ENTRIES = [_entry(number) for number in range(6)]


@pytest.fixture
def remote(wire: FaultyProxy, tmp_path: Path) -> Folder:
    """A remote folder of six files."""
    folder = Folder(f"s3://{BUCKET}/{tmp_path.name}-cache")
    for number in range(6):
        folder.put(f"f{number}", _data(number))
    wire.seen.clear()
    return folder


def _copies(place: Path) -> set[int]:
    names = {entry["sha256"]: number for number, entry in enumerate(ENTRIES)}
    return {names[path.name] for path in place.iterdir() if path.name != "lock"}


def test_a_file_is_fetched_once(remote: Folder, wire: FaultyProxy, place: Path) -> None:
    folder = cached(remote, ENTRIES)
    for _ in range(3):
        assert folder.read("f0") == _data(0)
        with folder.open("f0") as stream:
            stream.seek(-3, os.SEEK_END)
            assert stream.read() == _data(0)[-3:]
    assert {method for method, _ in wire.seen} == {"GET"}
    before = len(wire.seen)
    check_files(folder, {"files": ENTRIES[:1]})
    assert [method for method, _ in wire.seen[before:]] == ["HEAD"]  # is it still there?
    assert (_copies(place), place.stat().st_mode & 0o777) == ({0}, 0o700)


def test_a_local_folder_is_read_where_it_is(tmp_path: Path, place: Path) -> None:
    folder = Folder(str(tmp_path))
    assert cached(folder, ENTRIES) is folder
    assert not place.exists()


def test_what_no_manifest_names_is_read_past_the_cache(remote: Folder, place: Path) -> None:
    folder = cached(remote, ENTRIES[:1])
    assert folder.read("f1") == _data(1)
    assert not place.exists()


def test_bytes_that_differ_from_the_manifest_are_refused_and_not_kept(remote: Folder, place: Path) -> None:
    remote.put("f0", _data(9))
    remote.put("f1", _data(1) + b"more")
    for name in ("f0", "f1"):
        with pytest.raises(IntegrityError, match=f"/{name}: changed: sha256 .* the manifest says"):
            cached(remote, ENTRIES).open(name)
    assert _copies(place) == set()


def test_the_file_not_used_for_longest_goes_first(remote: Folder, place: Path) -> None:
    folder = cached(remote, ENTRIES, gb=3 * SIZE / 1e9)
    for number in (0, 1, 2, 0, 3):
        folder.read(f"f{number}")
        time.sleep(0.02)  # file times have to differ
    assert _copies(place) == {0, 2, 3}


def test_who_has_a_file_open_keeps_it(remote: Folder) -> None:
    folder = cached(remote, ENTRIES, gb=SIZE / 1e9)
    with folder.open("f0") as stream:
        folder.read("f1")
        folder.read("f2")
        assert stream.read() == _data(0)


def test_a_file_larger_than_the_cache_is_refused_with_advice(remote: Folder) -> None:
    with pytest.raises(ConfigError, match=r"f0: has .*Raise cache_gb"):
        cached(remote, ENTRIES, gb=0.5 * SIZE / 1e9).open("f0")


def test_a_copy_cut_short_is_fetched_again(remote: Folder, place: Path) -> None:
    folder = cached(remote, ENTRIES)
    folder.read("f0")
    os.truncate(place / ENTRIES[0]["sha256"], 10)
    assert folder.read("f0") == _data(0)


def test_a_full_disk_is_said_with_advice(remote: Folder, tiny_disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLTALE_CACHE", str(tiny_disk / "cache"))
    folder = cached(remote, ENTRIES)
    for number in range(6):  # what the cache itself has is given back
        assert folder.read(f"f{number}") == _data(number)
    for path in (tiny_disk / "cache").iterdir():
        path.unlink()
    (tiny_disk / "other").write_bytes(b"x" * 900_000)
    with pytest.raises(StorageError, match=r"the disk is full.*lower cache_gb"):
        folder.read("f0")


def test_the_cache_lies_in_the_users_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLTALE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/telltale/data")
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache_folder() == Path("/home/me/.cache/telltale/data")
    monkeypatch.delenv("HOME")
    assert cache_folder().name == "data"


def _read_all(folder: Folder, seed: int, most: int, place: str, turns: int) -> None:
    order = [number for _ in range(turns) for number in range(6)]
    random.Random(seed).shuffle(order)
    for number in order:
        assert folder.read(f"f{number}") == _data(number)
        with open(Path(place, "lock"), "rb") as lock:  # nobody makes room or takes it meanwhile
            fcntl.flock(lock, fcntl.LOCK_EX)
            sizes = {path.name[:6] + path.suffix: path.stat().st_size for path in Path(place).iterdir()}
            assert sum(sizes.values()) <= most, sizes


@pytest.mark.parametrize("kept", [2, 6])
def test_processes_share_a_cache_and_its_limit(remote: Folder, wire: FaultyProxy, place: Path, kept: int) -> None:
    folder = cached(remote, ENTRIES, gb=kept * SIZE / 1e9)
    context = multiprocessing.get_context("spawn")
    started = [context.Process(target=_read_all, args=(folder, seed, kept * SIZE, str(place), 5)) for seed in range(4)]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    if kept == 6:
        assert len([path for method, path in wire.seen if method == "GET"]) <= 2 * 6  # once each, in two pieces


def _hang(uri: str, entries: list[Mapping[str, Any]]) -> None:
    CachedFolder(uri, entries, 10**9).open("f0")


def test_what_a_killed_process_was_fetching_is_fetched_by_another(
    remote: Folder, wire: FaultyProxy, place: Path
) -> None:
    wire.spoil_always("slow")
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hang, args=(remote.uri, ENTRIES))
    process.start()
    deadline = time.monotonic() + 60
    while not list(place.glob("*.part") if place.exists() else ()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    wire.spoil_always(None)
    assert cached(remote, ENTRIES, gb=SIZE / 1e9).read("f1") == _data(1)  # what was left takes no room for ever
    assert cached(remote, ENTRIES, gb=SIZE / 1e9).read("f0") == _data(0)
    assert _copies(place) == {0}
