"""The list of all files that become no rows: made while it is written, a line at a time. Nothing here decides."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pipeline.references import Indexes, References
from spark_jobs._admit import Fate
from spark_jobs._facts import Facts

__all__ = ["Rejects"]

_DETAILS: Final = {
    Fate.CROSS_LABEL_PIXELS: "the same pixels are there as real and as ai: find out which they are",
    Fate.DUPLICATE: "the same bytes as another file",
    Fate.CROSS_LABEL_GROUP: "its group holds real and ai pictures, and cross_label is 'reject'",
    Fate.SPLIT_CONFLICT: "a near-duplicate of it was drawn for another split, which it must not straddle",
    Fate.SURPLUS: "over split.train_per_label",
}
_FAULTS: Final = (Fate.BAD, Fate.CROSS_LABEL_PIXELS)  # the others are usable, and left out by the rules
_FIRST_FATES: Final = (Fate.BAD, Fate.CROSS_LABEL_PIXELS, Fate.DUPLICATE)


@dataclass
class Rejects:
    """The files that become no rows, as often as one asks for them.

    Attributes:
        references, facts: all files, and what was found out about them.
        fates: of all files, uint8 (N,).
        originals: for exact copies the file that is kept instead, int64 (N,).
    """

    references: References
    facts: Facts
    fates: NDArray[np.uint8]
    originals: Indexes

    def __len__(self) -> int:
        return int(np.count_nonzero(self.fates))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self._records(np.flatnonzero(self.fates))

    @property
    def bad(self) -> int:
        """How many are bad data, not left out by the rules."""
        return int(np.count_nonzero(np.isin(self.fates, _FAULTS)))

    def faulty(self) -> Iterator[dict[str, Any]]:
        """Those that are bad data."""
        return self._records(np.flatnonzero(np.isin(self.fates, _FAULTS)))

    def _records(self, chosen: Indexes) -> Iterator[dict[str, Any]]:
        """Sorted by the path as it is shown; where two are shown alike, in the order in which they were left out."""
        for shown, index in self.references.shown_in_order(chosen, self._rank):
            yield self._record(shown, index)

    def _rank(self, index: int) -> tuple[int, int]:
        fate = Fate(int(self.fates[index]))
        return (0 if fate in _FIRST_FATES else int(fate)), index

    def _record(self, shown: str, index: int) -> dict[str, Any]:
        fate, references, copied = Fate(int(self.fates[index])), self.references, None
        reason, detail = self.facts.why[index] if fate == Fate.BAD else (fate.name.lower(), _DETAILS[fate])
        if fate == Fate.DUPLICATE:
            (copied,) = references.paths(self.originals[index : index + 1])
        return {
            "path": shown,
            "label": int(references.labels[index]),
            "source": references.source_names[references.sources[index]],
            "reason": reason,
            "detail": detail,
            "sha256": self.facts.sha_of(index),
            "duplicate_of": copied,
        }
