"""Folders: names taken to the letter, nothing half-written under a final name, errors that say what to do."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pipeline.errors import OutputExistsError, StorageError, UsageError
from pipeline.storage import STAGING, Entry, Folder, local_path

AWKWARD = ["a b.jpg", "x#y%20z.jpg", 'it\'s "quoted".jpg', "line\nbreak.jpg", "été-図.jpg", "_DSC0001.jpg", "a:b.jpg"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_survive_writing_listing_and_reading(tmp_path: Path, name: str) -> None:
    folder = Folder(str(tmp_path / "ünï #1%"))
    folder.put(f"sub/{name}", b"bytes")
    assert list(folder.list()) == [Entry(f"sub/{name}", 5)]
    assert folder.read(f"sub/{name}") == b"bytes"


def test_a_file_uri_is_percent_decoded_and_a_path_is_not(tmp_path: Path) -> None:
    assert local_path("file:///a%20b/c%23d") == Path("/a b/c#d")
    assert local_path("file:/a") == Path("/a")
    assert local_path("/a%20b") == Path("/a%20b")
    assert local_path("c:d") == Path("c:d")


def test_a_scheme_that_is_not_supported_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="scheme 'ftp'"):
        Folder("ftp://host/key")


def test_put_replaces_and_create_does_not(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.put("a", b"1")
    folder.put("a", b"2")
    with pytest.raises(OutputExistsError, match="another run has published it"):
        folder.create("a", b"3")
    assert folder.read("a") == b"2"
    assert [entry.path for entry in folder.list(hidden=True)] == ["a"]


def test_of_many_creators_exactly_one_succeeds(tmp_path: Path) -> None:
    outcomes: list[int] = []

    def attempt(number: int) -> None:
        try:
            Folder(str(tmp_path)).create("manifest.json", str(number).encode())
            outcomes.append(number)
        except OutputExistsError:
            pass

    threads = [threading.Thread(target=attempt, args=(n,)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 1
    assert Folder(str(tmp_path)).read("manifest.json") == str(outcomes[0]).encode()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOTSUP])
def test_where_there_are_no_hard_links_of_many_creators_exactly_one_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "link", no_link)
    test_of_many_creators_exactly_one_succeeds(tmp_path)


def test_what_is_staged_but_not_published_is_hidden_and_removed(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    with folder.staged() as staged:
        staged.stream.write(b"half")
        staged.stream.flush()
        assert list(folder.list()) == []
        assert [entry.path.split("/")[0] for entry in folder.list(hidden=True)] == [STAGING]
    assert list(folder.list(hidden=True)) == []


def test_loops_and_broken_links_are_listed_as_unreadable(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    (tmp_path / "self").symlink_to(tmp_path / "self")
    assert list(Folder(str(tmp_path)).list()) == [Entry("broken", -1), Entry("self", -1), Entry("sub/loop", -1)]


def test_a_linked_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a").write_bytes(b"x")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "linked").symlink_to(tmp_path / "elsewhere")
    assert list(Folder(str(tmp_path / "raw")).list()) == [Entry("linked/a", 1)]


def test_a_missing_file_names_itself(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nothing\.bin: cannot read"):
        Folder(str(tmp_path)).read("nothing.bin")


def test_a_full_disk_leaves_nothing_and_says_what_to_do(tiny_disk: Path) -> None:
    folder = Folder(str(tiny_disk))
    with pytest.raises(StorageError, match="the disk is full"):
        folder.put("big", b"x" * (4 << 20))
    assert list(folder.list(hidden=True)) == []
    folder.put("small", b"x")


def test_many_writers_in_one_folder_do_not_take_the_staging_folder_from_one_another(tmp_path: Path) -> None:
    """Tasks write side by side; the one that ends removes the empty staging folder, which another is about to use."""

    def write(number: int) -> None:
        for turn in range(150):
            Folder(str(tmp_path)).put(f"{number}-{turn}", b"x")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    assert len(list(Folder(str(tmp_path)).list(hidden=True))) == 8 * 150
