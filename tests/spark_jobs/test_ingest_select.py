"""What becomes of every file: rows, duplicates and rejects always add up to the files."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any, NamedTuple

import numpy as np
import pytest

from pipeline.content import raw_sha256
from pipeline.records import SPLITS
from pipeline.references import Reference, References
from pipeline.splitting import Fractions, Split
from spark_jobs._admit import admit
from spark_jobs._facts import Fact, Facts, pack, raw_hash
from spark_jobs._select import Rows, select
from spark_jobs._write import part_line, part_plan

ALL_TRAIN = Split(fractions=Fractions(1.0, 0.0, 0.0))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Row(NamedTuple):
    """A row as a person sees it."""

    path: str
    label: int
    image_id: str
    group_id: str
    split: str


class Found(NamedTuple):
    """A selection as lists: the rows by their paths."""

    rows: list[Row]
    rejects: list[dict[str, Any]]
    counts: dict[str, Any]
    bad: int


class Input:
    """References and facts made by hand, in the order of their paths: `add(path, label, bytes, pixels)`."""

    def __init__(self) -> None:
        self.listed: list[Reference] = []
        self.found: list[Fact] = []

    def add(self, path: str, label: int, data: str, pixels: str | None = None, **more: Any) -> Input:
        self.listed.append(Reference(path, label, more.pop("source", "ai" if label else "real"), **more))
        mark = hashlib.sha256((pixels or data).encode()).digest()[:16]
        self.found.append(Fact(len(self.found), _sha(data), mark))
        return self

    def bad(self, path: str, reason: str = "truncated") -> Input:
        problem = (reason, "its name") if reason == "bad_name" else None
        self.listed.append(Reference(path, 0, "real", problem=problem))
        sha256 = None if problem else _sha(path)
        self.found.append(Fact(len(self.found), sha256, reason=reason, detail="cut"))
        return self

    def columns(self) -> tuple[References, Facts]:
        references, facts = References(self.listed), Facts(len(self.found))
        assert references == self.listed, "not given in the order of their paths"
        facts.add(pack(self.found))
        return references, facts

    def select(self, links: list[tuple[int, int]] | None = None, split: Split = ALL_TRAIN, keep: bool = True) -> Found:
        references, facts = self.columns()
        pairs = np.array(links or [], np.int64).reshape(-1, 2)
        result = select(references, facts, admit(references, facts), pairs, split, keep)
        counts, rejects = result.counts, list(result.rejects)
        assert counts["files"] == counts["rows"] + counts["duplicates"] + counts["rejected"]
        rows = [
            Row(
                references[file].path,
                references[file].label,
                facts.sha_of(file) or "",
                group.tobytes().hex(),
                SPLITS[split],
            )
            for file, split, group in zip(result.rows.files, result.rows.splits, result.rows.groups, strict=True)
        ]
        assert [(SPLITS.index(row.split), row.image_id) for row in rows] == sorted(
            (SPLITS.index(row.split), row.image_id) for row in rows
        )
        assert Counter([row.path for row in rows] + [item["path"] for item in rejects]) == Counter(
            reference.shown for reference in self.listed
        )
        assert [item["path"] for item in rejects] == sorted(item["path"] for item in rejects)
        assert len(list(result.rejects.faulty())) == result.rejects.bad
        return Found(sorted(rows), rejects, counts, result.rejects.bad)


def _reasons(selection: Found) -> dict[str, str]:
    return {item["path"]: item["reason"] for item in selection.rejects}


def test_the_first_of_exact_duplicates_is_kept() -> None:
    found = Input().add("a", 0, "same").add("b", 0, "same").add("c", 0, "same").add("d", 1, "other").select()
    assert [(item["path"], item["reason"], item["duplicate_of"]) for item in found.rejects] == [
        ("b", "duplicate", "a"),
        ("c", "duplicate", "a"),
    ]
    assert [row.path for row in found.rows] == ["a", "d"]
    assert found.counts["duplicates"] == 2


def test_the_same_bytes_under_both_labels_are_rejected_with_their_duplicates() -> None:
    found = Input().add("a", 0, "x").add("b", 0, "x").add("c", 1, "x").add("d", 0, "y").select()
    assert _reasons(found) == dict.fromkeys("abc", "cross_label_pixels")
    assert found.bad == 3


def test_the_same_pixels_in_other_bytes_under_both_labels_are_rejected() -> None:
    found = Input().add("a", 0, "png", "p").add("b", 1, "bmp", "p").add("c", 0, "z").select()
    assert _reasons(found) == dict.fromkeys("ab", "cross_label_pixels")


def test_the_same_pixels_under_one_label_form_a_group() -> None:
    found = Input().add("a", 0, "png", "p").add("b", 0, "bmp", "p").add("c", 1, "z").select()
    groups = [row.group_id for row in found.rows]
    assert groups[0] == groups[1] != groups[2]
    assert found.counts["groups"] == 2


def test_a_group_is_named_by_its_smallest_picture_whatever_the_paths() -> None:
    one = Input().add("a", 0, "1").add("b", 0, "2").select([(0, 1)])
    other = Input().add("a", 0, "2").add("z", 0, "1").select([(0, 1)])
    smallest = min(_sha("1"), _sha("2"))
    assert {row.group_id for row in one.rows + other.rows} == {_sha(smallest)[:16]}


def test_an_explicit_group_joins_even_by_a_copy_that_is_left_out() -> None:
    found = (
        Input().add("a", 0, "x", group="g").add("b", 0, "x", group="h").add("c", 1, "y", group="h").add("d", 1, "z")
    ).select()
    groups = {row.path: row.group_id for row in found.rows}
    assert groups["a"] == groups["c"] != groups["d"]


def test_links_chain() -> None:
    found = Input().add("a", 0, "1").add("b", 1, "2").add("c", 0, "3").add("d", 0, "4").select([(0, 1), (2, 1)])
    assert len({row.group_id for row in found.rows if row.path != "d"}) == 1
    assert found.counts["cross_label_groups"] == 1


def test_a_matched_pair_is_kept_whole_or_rejected_whole() -> None:
    given = Input().add("a", 0, "photo").add("b", 1, "re-synthesis").add("c", 0, "other").add("d", 1, "another")
    kept = given.select([(0, 1)])
    assert len(kept.rows) == 4
    assert kept.counts["cross_label_groups"] == 1
    rejected = given.select([(0, 1)], keep=False)
    assert _reasons(rejected) == dict.fromkeys("ab", "cross_label_group")
    assert rejected.counts["cross_label_groups"] == 1
    assert rejected.bad == 0  # a choice, not bad data


def test_a_left_out_copy_still_says_its_split() -> None:
    found = Input().add("a", 0, "x", split="train").add("b", 0, "x", split="test").add("c", 1, "y").select()
    assert {row.path: row.split for row in found.rows} == {"a": "test", "c": "train"}
    assert found.counts["moved_groups"] == 1


def test_ood_sources_go_to_ood_and_what_is_linked_to_them_to_test() -> None:
    given = Input().add("a", 0, "photo").add("b", 1, "made of it", source="new").add("c", 1, "x", source="new")
    found = given.add("d", 0, "y").select([(0, 1)], Split(fractions=Fractions(1.0, 0.0, 0.0), ood_sources=("new",)))
    assert {row.path: row.split for row in found.rows} == {"a": "test", "b": "ood", "c": "ood", "d": "train"}
    assert found.counts["splits"]["ood"] == {"rows": 2, "groups": 2, "real": 0, "ai": 2, "sources": {"new": 2}}


def test_a_lake_that_grows_keeps_its_splits_with_hash() -> None:
    split, small, large = Split(method="hash", fractions=Fractions(0.4, 0.3, 0.3)), Input(), Input()
    for number in range(60):
        small.add(f"m{number:03d}", number % 2, f"old {number}")
    for number in range(60):
        large.add(f"a{number:03d}", number % 2, f"new {number}")
    for reference in small.listed:
        large.add(reference.path, reference.label, f"old {int(reference.path[1:])}")
    before = {row.image_id: row.split for row in small.select(split=split).rows}
    found = large.select([(number, 60 + number) for number in range(0, 60, 3)], split)
    after = {row.image_id: row.split for row in found.rows}
    reasons = _reasons(found)
    assert set(reasons.values()) == {"split_conflict"}
    assert all(after[image_id] == where for image_id, where in before.items() if image_id in after)
    assert all(after.get(image_id) == "train" for image_id, where in before.items() if where == "train")
    assert found.bad == 0


def test_surplus_is_listed() -> None:
    given = Input()
    for number in range(10):
        given.add(f"{number}", number % 2, f"{number}")
    found = given.select(split=Split(fractions=Fractions(1.0, 0.0, 0.0), train_per_label=3))
    assert Counter(row.label for row in found.rows) == {0: 3, 1: 3}
    assert Counter(_reasons(found).values()) == {"surplus": 4}


@pytest.mark.parametrize("keep", [True, False])
def test_bad_files_are_listed_as_they_were_found(keep: bool) -> None:
    found = Input().add("a", 0, "1").bad("b").add("c", 1, "2").bad("d", "not_an_image").select(keep=keep)
    assert _reasons(found) == {"b": "truncated", "d": "not_an_image"}
    assert found.rejects[0]["sha256"] == _sha("b")
    assert found.rejects[0]["detail"] == "cut"
    assert found.bad == 2


def test_of_two_that_are_shown_alike_the_first_to_be_left_out_is_listed_first() -> None:
    """One is named by a byte that is no UTF-8, the other by the four characters in which that byte is shown."""
    given = Input().add("\\xfe", 0, "1").bad("\\xff").add("a", 1, "2")
    given.bad("\udcfe", "bad_name").bad("\udcff", "bad_name")
    found = given.select([(0, 2)], keep=False)
    assert [(item["path"], item["reason"]) for item in found.rejects] == [
        ("\\xfe", "bad_name"),
        ("\\xfe", "cross_label_group"),
        ("\\xff", "truncated"),
        ("\\xff", "bad_name"),
        ("a", "cross_label_group"),
    ]


def test_the_hash_of_the_input_is_that_of_all_its_files() -> None:
    given = Input().bad("\\xff").add("a", 0, "1").add("é", 1, "2").bad("\udcfe", "bad_name").bad("\udcff", "bad_name")
    pairs = [(reference.shown, fact.sha256) for reference, fact in zip(given.listed, given.found, strict=True)]
    assert raw_hash(*given.columns()) == raw_sha256(pairs)


@pytest.mark.parametrize("rows_per_part", [1, 2, 7, 100])
def test_parts_hold_ranges_of_ids_and_all_rows(rows_per_part: int) -> None:
    given = Input()
    for number in range(40):
        given.add(f"{number:02d}", number % 2, f"{number}")
    references, facts = given.columns()
    order = sorted(range(40), key=lambda n: (n >= 30, _sha(f"{n}")))
    splits = np.array([2 * (n >= 30) for n in order], np.int8)  # train and test
    rows = Rows(np.array(order), splits, np.arange(320, dtype=np.uint16).astype(np.uint8).reshape(40, 8))
    plan = part_plan(rows, facts, rows_per_part)
    parts = [json.loads(part_line(work, references, facts, rows)) for work in plan]
    for split, count in (("train", 30), ("test", 10)):
        mine = [part for part in parts if part["split"] == split]
        assert [part["part"] for part in mine] == list(range(-(-count // rows_per_part)))
        for part in mine:
            assert {int(row[3][:16], 16) * len(mine) >> 64 for row in part["rows"]} <= {part["part"]}
    listed = [tuple(row) for part in parts for row in part["rows"]]
    expected = [(f"{n:02d}", n % 2, "ai" if n % 2 else "real", _sha(f"{n}")) for n in order]
    assert [row[:4] for row in listed] == expected
    assert [row[4] for row in listed] == [group.tobytes().hex() for group in rows.groups]
