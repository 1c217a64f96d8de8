"""What the command line's paths mean: files, folders, patterns, a list on standard input."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from detection.inputs import Found, find, read
from pipeline.errors import StorageError, UsageError

NAMES = ["b.jpg", "a b.jpg", 'sub/c\'s "#1" 100%.png', "sub/d\n2.jpg", "sub/deep/é–写.webp", "sub/deep/[x].jpg"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder `in` of files with awkward names."""
    for name in [*NAMES, ".hidden/e.jpg", ".f.jpg"]:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths(*arguments: str, stdin: bytes = b"", separator: bytes = b"\n") -> list[str]:
    return [found.path for found in find(arguments, io.BytesIO(stdin), separator)]


def test_a_folder_is_all_its_files_sorted(folder: Path) -> None:
    assert paths("in") == sorted(f"in/{name}" for name in NAMES)


def test_arguments_keep_their_order(folder: Path) -> None:
    assert paths("in/b.jpg", "in/sub/deep", "in/a b.jpg") == [
        "in/b.jpg",
        "in/sub/deep/[x].jpg",
        "in/sub/deep/é–写.webp",
        "in/a b.jpg",
    ]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in/*.jpg", ["in/a b.jpg", "in/b.jpg"]),
        ("in/?.jpg", ["in/b.jpg"]),
        ("in/**/*.jpg", ["in/a b.jpg", "in/b.jpg", "in/sub/deep/[x].jpg", "in/sub/d\n2.jpg"]),
        ("in/**", sorted(f"in/{name}" for name in NAMES)),
        ("in/s*", sorted(f"in/{name}" for name in NAMES if name.startswith("sub/"))),
        ("in/sub/deep/[x].jpg", ["in/sub/deep/[x].jpg"]),  # a file of that very name
    ],
)
def test_patterns(folder: Path, pattern: str, expected: list[str]) -> None:
    assert paths(pattern) == sorted(expected)


def test_a_pattern_meets_each_file_once_though_links_lead_back(folder: Path) -> None:
    (folder / "in/sub/back").symlink_to(folder / "in")
    assert paths("in/**/*.webp") == ["in/sub/deep/é–写.webp"]


def test_a_list_on_standard_input_is_taken_to_the_letter(folder: Path) -> None:
    (folder / "*.jpg").write_bytes(b"")
    listed = b"in/b.jpg\n\n*.jpg\nin/sub/deep\nno such"
    assert paths("-", "in/a b.jpg", stdin=listed) == [
        "in/b.jpg",
        "*.jpg",
        "in/sub/deep/[x].jpg",
        "in/sub/deep/é–写.webp",
        "no such",
        "in/a b.jpg",
    ]


def test_a_list_may_end_names_with_nul(folder: Path) -> None:
    listed = b"in/sub/d\n2.jpg\0in/b.jpg\0"
    assert paths("-", stdin=listed, separator=b"\0") == ["in/sub/d\n2.jpg", "in/b.jpg"]


def test_a_name_that_is_not_unicode_is_found_and_read(folder: Path) -> None:
    name = os.fsdecode(b"in/\xff.jpg")
    Path(name).write_bytes(b"x")
    (found,) = find(["-"], io.BytesIO(b"in/\xff.jpg\n"))
    assert found == Found(name)
    assert read(found, 10) == b"x"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["in/*.tiff"], "no file matches"),
        (["in/b.jpg", "no/**"], "no/.*no file matches"),
        (["empty"], "no pictures in empty"),
        ([""], "empty path"),
        (["-", "-"], "given twice"),
        (["-"], "no pictures in -"),
        (["ftp://bucket/key"], "scheme 'ftp' is not supported"),
    ],
)
def test_naming_nothing_is_wrong_usage(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        paths(*arguments)


def test_wrong_arguments_are_refused_before_anything_is_read(folder: Path) -> None:
    with pytest.raises(UsageError, match="no file matches"):
        find(["in", "*.tiff"], io.BytesIO())  # not even iterated


def test_links_that_lead_nowhere_are_reported_not_followed(folder: Path) -> None:
    (folder / "in/dangling.jpg").symlink_to("nowhere")
    (folder / "in/self.jpg").symlink_to("self.jpg")
    (folder / "in/up").symlink_to(".")
    bad = [found for found in find(["in"], io.BytesIO()) if found.problem]
    assert [found.path for found in bad] == ["in/dangling.jpg", "in/self.jpg", "in/up"]
    for found in [*bad, Found("in/dangling.jpg"), Found("in/self.jpg"), Found("nothing.jpg")]:
        with pytest.raises(StorageError, match=found.path):
            read(found, 10)


def test_a_pipe_in_a_folder_does_not_hang(folder: Path) -> None:
    os.mkfifo(folder / "in/pipe")
    (bad,) = [found for found in find(["in"], io.BytesIO()) if found.problem]
    assert bad.path == "in/pipe"
    with pytest.raises(StorageError, match="not a regular file"):
        read(bad, 10)


def test_no_more_is_read_than_the_limit_and_one_byte(folder: Path) -> None:
    assert len(read(Found("/dev/zero"), 1000)) == 1001
