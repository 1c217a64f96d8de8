"""Layouts: every adapter gives the same references, and says in which line a list is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import build
from pipeline.errors import DataError, TelltaleError, UsageError
from pipeline.layouts import Layouts, Listing, Reference, list_input
from pipeline.splitting import FIT

AWKWARD = ["a b.jpg", "50%.jpg", "no#1.jpg", "quo'te\".jpg", "line\nbreak.jpg", "größe-写真.jpg", "back\\slash.jpg"]


def _touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def _listed(source: Path, **values: Any) -> Listing:
    return list_input(str(source), build(Layouts, values))


def _paths(listing: Listing) -> list[str]:
    return [reference.path for reference in listing.references]


def test_folders_give_label_and_source(tmp_path: Path) -> None:
    _touch(tmp_path, "real/canon/1.jpg", "real/canon/deep/er/2.jpg", "ai/gan/3.png", "README.txt", "real/canon/.hidden")
    listing = _listed(tmp_path)
    assert listing.layout == "folders"
    assert listing.references == [
        Reference("ai/gan/3.png", 1, "gan"),
        Reference("real/canon/1.jpg", 0, "canon"),
        Reference("real/canon/deep/er/2.jpg", 0, "canon"),
    ]
    assert listing.inputs == []


def test_names_of_all_kinds_are_listed(tmp_path: Path) -> None:
    _touch(tmp_path, *(f"real/a/{name}" for name in AWKWARD), "ai/x y/1.jpg")
    assert sorted(_paths(_listed(tmp_path))) == sorted([*(f"real/a/{name}" for name in AWKWARD), "ai/x y/1.jpg"])


def test_a_file_without_a_source_folder_is_a_problem_not_lost(tmp_path: Path) -> None:
    _touch(tmp_path, "real/1.jpg", "ai/gan/3.png")
    problem = _listed(tmp_path).references[1].problem
    assert problem is not None
    assert problem[0] == "no_source"


def test_a_name_that_is_no_text_is_a_problem_not_a_crash(tmp_path: Path) -> None:
    _touch(tmp_path, "ai/gan/3.png", "real/a/1.jpg")
    with open(os.fsencode(tmp_path / "real" / "a") + b"/caf\xe9.jpg", "wb"):
        pass
    (bad,) = (reference for reference in _listed(tmp_path).references if reference.problem)
    assert bad.problem is not None
    assert bad.problem[0] == "bad_name"
    assert bad.shown == "real/a/caf\\xe9.jpg"
    assert b"caf\xe9".hex() in bad.problem[1]


def test_loops_and_broken_links_are_listed(tmp_path: Path) -> None:
    _touch(tmp_path, "ai/gan/3.png")
    (tmp_path / "real/a").mkdir(parents=True)
    (tmp_path / "real/a/loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "real/a/up").symlink_to("..")
    assert _paths(_listed(tmp_path)) == ["ai/gan/3.png", "real/a/loop.jpg", "real/a/up"]


def test_a_csv_list_gives_everything(tmp_path: Path) -> None:
    rows = ["1.jpg,x,real,canon,,", '"a, b/""2"".jpg",y,AI, gan ,test,pair 7', "./c/3.jpg,,ai,gan,,"]
    text = "\n".join(["path,note,label,source,split,group", *rows, ""])
    (tmp_path / "list.csv").write_text("\ufeff" + text, encoding="utf-8")
    listing = _listed(tmp_path / "list.csv")
    assert listing.layout == "list"
    assert listing.references == [
        Reference("1.jpg", 0, "canon"),
        Reference('a, b/"2".jpg', 1, "gan", "test", "pair 7"),
        Reference("c/3.jpg", 1, "gan"),
    ]
    assert [(item["path"], item["bytes"]) for item in listing.inputs] == [("list.csv", len(text.encode()) + 3)]


def test_a_parquet_list_gives_the_same_as_csv(tmp_path: Path) -> None:
    rows = [
        {"path": name, "label": "real", "source": "a", "split": None, "group": str(k)} for k, name in enumerate(AWKWARD)
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "list.parquet")
    found = _listed(tmp_path / "list.parquet").references
    assert sorted((item.path, item.group) for item in found) == sorted((row["path"], row["group"]) for row in rows)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("b.jpg,fake,s,,", ["list.csv:3", "'fake'", "'real' nor 'ai'"]),
        ("b.jpg,,s,,", ["list.csv:3", "label"]),
        ("b.jpg,ai,,,", ["list.csv:3", "source"]),
        ("b.jpg,ai,s,dev,", ["list.csv:3", "'dev'", "val"]),
        (",ai,s,,", ["list.csv:3", "no path"]),
        ("../b.jpg,ai,s,,", ["list.csv:3", "'../b.jpg'", "out of"]),
        ("x/../../b.jpg,ai,s,,", ["list.csv:3", "out of"]),
        ("/etc/b.jpg,ai,s,,", ["list.csv:3", "out of"]),
        ("a.jpg,ai,s,,", ["list.csv:3", "listed already", "list.csv:2"]),
        ("b.jpg,ai,s", ["list.csv:3", "3 fields", "5"]),
        ('"b.jpg,ai,s,,', ["list.csv", "not a readable CSV"]),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, words: list[str]) -> None:
    (tmp_path / "list.csv").write_text(f"path,label,source,split,group\na.jpg,real,s,,\n{line}\n")
    with pytest.raises(DataError) as caught:
        _listed(tmp_path / "list.csv")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("path,label", ["'source' is missing", "found: path, label"]),
        ("", ["'path' is missing", "found: none"]),
        ("path,label,source,spilt", ["'spilt'", "did you mean 'split'"]),
    ],
)
def test_a_wrong_header_is_named(tmp_path: Path, header: str, words: list[str]) -> None:
    (tmp_path / "list.csv").write_text(header + "\n")
    with pytest.raises(DataError) as caught:
        _listed(tmp_path / "list.csv")
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize("name", ["list.csv", "list.parquet"])
def test_a_list_of_rubbish_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\xff\xd8\xff\xe0 not a list")
    with pytest.raises(DataError, match="not a readable"):
        _listed(tmp_path / name)


def test_cifake_keeps_its_test_set(tmp_path: Path) -> None:
    _touch(tmp_path, "train/REAL/1.jpg", "train/FAKE/1.jpg", "test/REAL/1.jpg", "test/FAKE/1.jpg")
    assert _listed(tmp_path, layout="cifake").references == [
        Reference("test/FAKE/1.jpg", 1, "stable_diffusion_1_4", "test"),
        Reference("test/REAL/1.jpg", 0, "cifar10", "test"),
        Reference("train/FAKE/1.jpg", 1, "stable_diffusion_1_4", FIT),
        Reference("train/REAL/1.jpg", 0, "cifar10", FIT),
    ]


def test_two_folders_are_named_in_the_settings(tmp_path: Path) -> None:
    _touch(tmp_path, "photos/1.jpg", "made/up/2.jpg")
    names = {"real": "photos", "ai": "made/up", "ai_source": "dalle"}
    assert _listed(tmp_path, layout="two_folders", two_folders=names).references == [
        Reference("made/up/2.jpg", 1, "dalle"),
        Reference("photos/1.jpg", 0, "real"),
    ]
    with pytest.raises(UsageError, match=r"no folder 'real'.*two_folders\.real"):
        _listed(tmp_path, layout="two_folders")


@pytest.mark.parametrize("by_file", [False, True])
def test_ai_vs_human_reads_its_list(tmp_path: Path, by_file: bool) -> None:
    (tmp_path / "train.csv").write_text(",file_name,label\n0,train_data/a.jpg,1\n1,train_data/b.jpg,0\n")
    listing = _listed(tmp_path / "train.csv" if by_file else tmp_path, layout="ai_vs_human")
    assert [(item.path, item.label) for item in listing.references] == [
        ("train_data/a.jpg", 1),
        ("train_data/b.jpg", 0),
    ]
    assert [item["path"] for item in listing.inputs] == ["train.csv"]


def test_ai_vs_human_names_a_wrong_line(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("file_name,label\na.jpg,1\nb.jpg,2\n")
    with pytest.raises(DataError, match=r"train\.csv:3.*'2'"):
        _listed(tmp_path, layout="ai_vs_human")


@pytest.mark.parametrize(
    ("make", "values", "words"),
    [
        ("nothing", {}, "no such file or folder"),
        ("empty folder", {}, "real/<source>"),
        ("text file", {}, r"\.csv or \.parquet"),
        ("csv file", {"layout": "cifake"}, "needs a folder"),
        ("empty folder", {"layout": "list"}, "needs a"),
        ("empty folder", {"layout": "cifake"}, "no pictures in it"),
        ("empty folder", {"layout": "ai_vs_human"}, "no such list"),
        ("empty class folders", {}, "no pictures in it"),
        ("header only", {}, "no pictures in it"),
    ],
)
def test_an_input_that_is_none_is_refused(tmp_path: Path, make: str, values: dict[str, Any], words: str) -> None:
    place = tmp_path / {"text file": "x.txt", "csv file": "x.csv", "header only": "x.csv"}.get(make, "x")
    if make == "empty folder":
        place.mkdir()
    elif make == "empty class folders":
        (place / "real" / "a").mkdir(parents=True)
    elif make != "nothing":
        place.write_text("path,label,source\n")
    with pytest.raises(TelltaleError, match=words):
        _listed(place, **values)


def test_a_file_uri_is_an_input(tmp_path: Path) -> None:
    _touch(tmp_path / "a b", "real/canon/1.jpg")
    assert _paths(list_input((tmp_path / "a b").as_uri(), Layouts())) == ["real/canon/1.jpg"]
