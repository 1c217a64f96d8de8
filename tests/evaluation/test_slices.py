"""Which pictures a line of the report is about, and which it is scored against."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scores import Scores
from evaluation.slices import Slice, of_sources, of_split

ROWS = [  # split, label, source
    ("val", 0, "canon"),
    ("val", 1, "gan"),
    ("test", 0, "canon"),
    ("test", 0, "nikon"),
    ("test", 1, "gan"),
    ("test", 1, "vae"),
    ("ood", 0, "leica"),
    ("ood", 1, "sd"),
]


def scores(rows: list[tuple[str, int, str]] = ROWS) -> Scores:
    def column(place: int) -> np.ndarray:
        return np.array([row[place] for row in rows], dtype=object)

    ids = np.array([str(number) for number in range(len(rows))], dtype=object)
    labels = np.array([row[1] for row in rows], np.int8)
    return Scores(ids, column(0), column(2), ids, ids, labels, np.linspace(0, 1, len(rows)))


def chosen(part: Slice) -> tuple[list[int], list[int]]:
    return [int(i) for i in np.flatnonzero(part.own)], [int(i) for i in np.flatnonzero(part.scored)]


@pytest.mark.parametrize(
    ("split", "own", "scored"),
    [("val", [0, 1], [0, 1]), ("test", [2, 3, 4, 5], [2, 3, 4, 5]), ("ood", [6, 7], [2, 3, 6, 7]), ("train", [], [])],
)
def test_a_split_is_itself_and_ood_borrows_the_real_pictures_of_test(
    split: str, own: list[int], scored: list[int]
) -> None:
    assert chosen(of_split(scores(), split)) == (own, scored)


def test_an_ood_split_of_real_pictures_only_borrows_generated_ones() -> None:
    assert chosen(of_split(scores(ROWS[:-1]), "ood")) == ([6], [4, 5, 6])


def test_a_source_meets_the_other_class_of_its_split() -> None:
    parts = {part.name: part for part in of_sources(scores(), "test")}
    assert list(parts) == ["canon", "nikon", "gan", "vae"]
    assert chosen(parts["canon"]) == ([2], [2, 4, 5])
    assert chosen(parts["vae"]) == ([5], [2, 3, 5])
    assert parts["vae"].against == "all 2 real pictures of test"
    assert [part.label for part in parts.values()] == ["real", "real", "ai", "ai"]


def test_an_ood_source_meets_the_other_class_of_test_and_ood() -> None:
    parts = {part.name: part for part in of_sources(scores(), "ood")}
    assert chosen(parts["sd"]) == ([7], [2, 3, 6, 7])
    assert chosen(parts["leica"]) == ([6], [4, 5, 6, 7])
    assert parts["sd"].against == "all 3 real pictures of test and ood"


def test_without_the_other_class_a_source_stands_alone() -> None:
    (part,) = of_sources(scores([("test", 1, "gan")]), "test")
    assert chosen(part) == ([0], [0])
    assert part.against == "all 0 real pictures of test"
