"""Which files may become rows: neither bad, nor under both labels, nor there twice. Pure: no Spark, no files.

Everything is decided in the order of the paths, so the answer is the same whoever found the facts, in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from pipeline.grouping import first_of_equal
from pipeline.references import Indexes, References
from spark_jobs._facts import Facts

__all__ = ["BOTH", "Admitted", "Fate", "admit", "label_bits"]

BOTH = 3
"""The bits of both labels."""


class Fate(IntEnum):
    """What becomes of a file."""

    ROW = 0
    BAD = 1
    CROSS_LABEL_PIXELS = 2
    DUPLICATE = 3
    CROSS_LABEL_GROUP = 4
    SPLIT_CONFLICT = 5
    SURPLUS = 6


@dataclass
class Admitted:
    """The files that may become rows, and what becomes of the others.

    Attributes:
        fates: of all files, uint8 (N,); `ROW` says no more than that it may become one.
        originals: for an exact copy the file that is kept instead; for a kept one itself; else -1. int64 (N,).
        links: pairs of kept files that belong together because their pixels are equal, int64 (M, 2).
    """

    fates: NDArray[np.uint8]
    originals: Indexes
    links: Indexes

    @property
    def kept(self) -> Indexes:
        """The indexes of the files that may become rows, ascending."""
        return np.flatnonzero(self.fates == Fate.ROW)


def label_bits(labels: NDArray[np.int8]) -> NDArray[np.uint8]:
    """One bit for each label, so that those of several files can be laid over one another."""
    bits: NDArray[np.uint8] = np.left_shift(1, labels).astype(np.uint8)
    return bits


def admit(references: References, facts: Facts) -> Admitted:
    """Leave out what cannot be used, what has equal pixels under both labels, and exact duplicates.

    Args:
        references: the listing's.
        facts: about all of them.
    """
    fates = np.full(len(references), Fate.BAD, np.uint8)
    usable = np.flatnonzero(facts.usable)
    twins = usable[first_of_equal(facts.pixels[usable])]
    labels = np.zeros(len(references), np.uint8)
    np.bitwise_or.at(labels, twins, label_bits(references.labels[usable]))
    crossed = labels[twins] == BOTH
    fates[usable[crossed]] = Fate.CROSS_LABEL_PIXELS
    rest, twins = usable[~crossed], twins[~crossed]
    firsts = rest[first_of_equal(facts.sha256[rest])]
    copies = firsts != rest
    fates[rest] = np.where(copies, Fate.DUPLICATE, Fate.ROW)
    originals = np.full(len(references), -1)
    originals[rest] = firsts
    linked = ~copies & (twins != rest)  # a twin is no copy: files of equal bytes have equal pixels, and it is the first
    return Admitted(fates, originals, np.column_stack([twins[linked], rest[linked]]))
