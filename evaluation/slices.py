"""Which pictures each line of the report is about, and which it is scored against.

A generator alone has no false positives, and a camera alone no false negatives; so each is scored together with the
other class of its split. The ood split borrows from test: its generators meet the real pictures of test and ood, its
cameras the AI-generated ones. This module must not compute figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from evaluation.scores import Scores
from pipeline.records import AI, LABELS, REAL

__all__ = ["Slice", "of_sources", "of_split"]

Mask = np.ndarray[Any, np.dtype[np.bool_]]

_CLASS = {REAL: "real", AI: "AI-generated"}


@dataclass(frozen=True)
class Slice:
    """A set of pictures to compute figures of.

    Attributes:
        name: the split or the source.
        split: where its own pictures are.
        label: `real` or `ai` for a source, None for a split.
        own: its own pictures, bool (N,).
        scored: these and the ones they are scored against.
        against: the latter in words.
    """

    name: str
    split: str
    label: str | None
    own: Mask
    scored: Mask
    against: str


def of_split(scores: Scores, split: str) -> Slice:
    """A whole split. If ood has AI pictures, test's real ones join; if it has real ones only, test's AI ones do."""
    own = scores.split == split
    if split != "ood" or not own.any():
        return Slice(split, split, None, own, own, "the other class of this split")
    missing = REAL if np.any(own & (scores.label == AI)) else AI
    borrowed = (scores.split == "test") & (scores.label == missing)
    against = f"with the {int(borrowed.sum())} {_CLASS[missing]} pictures of test added"
    return Slice(split, split, None, own, own | borrowed, against)


def of_sources(scores: Scores, split: str) -> Iterator[Slice]:
    """Every source of a split, the real ones first, each in the order of its name."""
    homes = ("test", "ood") if split == "ood" else (split,)
    here = scores.split == split
    for label in (REAL, AI):
        opposite = np.isin(scores.split, homes) & (scores.label == 1 - label)
        where = " and ".join(home for home in homes if np.any(opposite & (scores.split == home))) or split
        against = f"all {int(opposite.sum())} {_CLASS[1 - label]} pictures of {where}"
        mine = here & (scores.label == label)
        for name in sorted(set(scores.source[mine])):
            own = mine & (scores.source == name)
            yield Slice(str(name), split, LABELS[label], own, own | opposite, against)
