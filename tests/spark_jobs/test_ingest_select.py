"""What becomes of every file: rows, duplicates and rejects always add up to the files."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import pytest

from pipeline.layouts import Reference
from pipeline.splitting import Fractions, Split
from spark_jobs._examine import Fact
from spark_jobs._select import Admitted, Selection, admit, faulty, select

ALL_TRAIN = Split(fractions=Fractions(1.0, 0.0, 0.0))


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class Input:
    """References and facts made by hand: `add(path, label, bytes, pixels)`."""

    def __init__(self) -> None:
        self.references: list[Reference] = []
        self.facts: list[Fact] = []

    def add(self, path: str, label: int, data: str, pixels: str | None = None, **more: Any) -> Input:
        self.references.append(Reference(path, label, more.pop("source", "ai" if label else "real"), **more))
        mark = hashlib.sha256((pixels or data).encode()).digest()[:16]
        self.facts.append(Fact(len(self.facts), _sha(data), mark))
        return self

    def bad(self, path: str, reason: str = "truncated") -> Input:
        self.references.append(Reference(path, 0, "real"))
        self.facts.append(Fact(len(self.facts), _sha(path), reason=reason, detail="cut"))
        return self

    def admit(self) -> Admitted:
        return admit(self.references, self.facts)

    def select(
        self, links: list[tuple[int, int]] | None = None, split: Split = ALL_TRAIN, keep: bool = True
    ) -> Selection:
        result = select(self.references, self.facts, self.admit(), links or [], split, keep)
        counts = result.counts
        assert counts["files"] == counts["rows"] + counts["duplicates"] + counts["rejected"]
        assert Counter([row.path for row in result.rows] + [item["path"] for item in result.rejects]) == Counter(
            reference.shown for reference in self.references
        )
        assert [item["path"] for item in result.rejects] == sorted(item["path"] for item in result.rejects)
        return result


def _reasons(selection: Selection) -> dict[str, str]:
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
    assert len(faulty(found.rejects)) == 3


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
    assert faulty(rejected.rejects) == []  # a choice, not bad data


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
    for reference in small.references:
        large.add(reference.path, reference.label, f"old {int(reference.path[1:])}")
    before = {row.image_id: row.split for row in small.select(split=split).rows}
    found = large.select([(number, 60 + number) for number in range(0, 60, 3)], split)
    after = {row.image_id: row.split for row in found.rows}
    reasons = _reasons(found)
    assert set(reasons.values()) == {"split_conflict"}
    assert all(after[image_id] == where for image_id, where in before.items() if image_id in after)
    assert all(after.get(image_id) == "train" for image_id, where in before.items() if where == "train")
    assert faulty(found.rejects) == []


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
    assert len(faulty(found.rejects)) == 2
