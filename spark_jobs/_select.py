"""Which of the admitted files become rows, in which group and split, and the counts. Pure: no Spark, no files.

Files are indexes into columns; the members of one group at a time are objects. The order of the rows follows from their
image ids alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.grouping import UnionFind, text_keys
from pipeline.records import LABELS, SPLITS
from pipeline.references import Indexes, References
from pipeline.splitting import Member, Split, assign_splits, surplus
from spark_jobs._admit import BOTH, Admitted, Fate, label_bits
from spark_jobs._facts import Facts
from spark_jobs._rejects import Rejects

__all__ = ["Rows", "Selection", "select"]

_GROUP_ID = 8  # bytes
_BLOCK = 1 << 16


@dataclass
class Rows:
    """The files that become rows, in the order of the dataset: by split and image id.

    Attributes:
        files: their indexes, int64 (R,).
        splits: the number of each one's split in `SPLITS`, int8 (R,).
        groups: the id of each one's group, uint8 (R, 8).
    """

    files: Indexes
    splits: NDArray[np.int8]
    groups: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.files)

    def take(self, chosen: Indexes | NDArray[np.bool_] | slice) -> Rows:
        """Some of them, in the order given."""
        return Rows(self.files[chosen], self.splits[chosen], self.groups[chosen])


@dataclass
class Selection:
    """The rows, what is listed beside them, and the counts of the manifest."""

    rows: Rows
    rejects: Rejects
    counts: dict[str, Any]


@dataclass
class _Groups:
    """Groups of files, one after the other.

    Attributes:
        files: the indexes of all members, int64.
        starts: where each group begins among them, int64 (G,).
    """

    files: Indexes
    starts: Indexes

    def __iter__(self) -> Iterator[list[int]]:
        ends = np.append(self.starts[1:], len(self.files))
        for first in range(0, len(self.starts), _BLOCK):
            starts, stops = self.starts[first : first + _BLOCK].tolist(), ends[first : first + _BLOCK].tolist()
            for start, stop in zip(starts, stops, strict=True):
                yield self.files[start:stop].tolist()

    @property
    def sizes(self) -> Indexes:
        return np.diff(self.starts, append=len(self.files))

    def without(self, left_out: NDArray[np.bool_]) -> _Groups:
        """All groups but some."""
        sizes = self.sizes
        files, sizes = self.files[~np.repeat(left_out, sizes)], sizes[~left_out]
        return _Groups(files, np.cumsum(sizes) - sizes)


def select(
    references: References, facts: Facts, admitted: Admitted, links: Indexes, split: Split, keep_cross_label: bool
) -> Selection:
    """Group what was admitted, split the groups, and count.

    Args:
        references, facts, admitted: as for and from `admit`.
        links: pairs of near-duplicates, int64 (M, 2).
        split: how to split.
        keep_cross_label: a group with both labels stays; otherwise all of it is rejected.
    """
    fates, groups, crossed = admitted.fates.copy(), _grouped(references, admitted, links), 0
    if not keep_cross_label:
        labels = np.bitwise_or.reduceat(label_bits(references.labels[groups.files]), groups.starts)
        crossing, crossed = labels == BOTH, int(np.count_nonzero(labels == BOTH))
        fates[groups.files[np.repeat(crossing, groups.sizes)]] = Fate.CROSS_LABEL_GROUP
        groups = groups.without(crossing)
    ids = _group_ids(facts, groups)
    members = _Members(references, facts, admitted, split)
    named = (
        (name.tobytes().hex(), [members.of(index) for index in group]) for name, group in zip(ids, groups, strict=True)
    )
    splits, moved = assign_splits(named, split)
    rows = Rows(groups.files, splits, np.repeat(ids, groups.sizes, axis=0))
    fates[rows.files[rows.splits < 0]] = Fate.SPLIT_CONFLICT
    rows = _in_order(rows.take(rows.splits >= 0), facts)
    rows = _without_surplus(rows, references, facts, fates, split)
    rejects = Rejects(references, facts, fates, admitted.originals)
    return Selection(rows, rejects, _counts(references, rows, rejects, crossed, moved))


def _grouped(references: References, admitted: Admitted, links: Indexes) -> _Groups:
    sets, kept = UnionFind(len(references)), admitted.kept
    for found in (admitted.links, links, _named_links(references, admitted)):
        for first in range(0, len(found), _BLOCK):
            for one, other in found[first : first + _BLOCK].tolist():
                sets.union(one, other)
    roots = sets.roots()[kept]
    order = np.argsort(roots, kind="stable")
    begins = np.diff(roots[order], prepend=-1) != 0
    return _Groups(kept[order], np.flatnonzero(begins))


def _named_links(references: References, admitted: Admitted) -> Indexes:
    """Pairs of kept files of one explicit group, be it only by an exact copy."""
    names = references.group_codes()
    named = np.flatnonzero((names >= 0) & (admitted.originals >= 0))
    names, files = names[named], admitted.originals[named]
    _, places, which = np.unique(names, return_index=True, return_inverse=True)
    pairs = np.column_stack([files[places][which], files])
    return pairs[pairs[:, 0] != pairs[:, 1]]


def _group_ids(facts: Facts, groups: _Groups) -> NDArray[np.uint8]:
    """The id of every group, which hangs on its smallest picture: uint8 (G, 8)."""
    found = bytearray()
    for group in groups:
        smallest = min(facts.sha256[index].tobytes() for index in group)
        found += hashlib.sha256(smallest.hex().encode()).digest()[:_GROUP_ID]
    return np.frombuffer(found, np.uint8).reshape(-1, _GROUP_ID)


class _Members:
    """Files as splitting sees them: each with what is said of its exact copies, the same picture under other names."""

    def __init__(self, references: References, facts: Facts, admitted: Admitted, split: Split) -> None:
        self._references, self._facts = references, facts
        copies = np.flatnonzero(admitted.fates == Fate.DUPLICATE)
        self._copies = copies[np.argsort(admitted.originals[copies], kind="stable")]
        self._originals = admitted.originals[self._copies]
        self._copied = np.zeros(len(references), bool)
        self._copied[self._originals] = True
        self._ood = {number for number, name in enumerate(references.source_names) if name in split.ood_sources}

    def of(self, index: int) -> Member:
        """A picture."""
        references, given, names = self._references, set[str](), set[str]()
        for file in (index, *self._copies_of(index)):
            if (split := references.splits[file]) >= 0:
                given.add(references.split_names[split])
            if references.sources[file] in self._ood:
                given.add("ood")
            group = references.group(file)
            names.add(f"group/{group}" if group else f"image/{self._facts.sha_of(index)}")
        source = references.source_names[references.sources[index]]
        return Member(int(references.labels[index]), source, frozenset(given), tuple(sorted(names)))

    def _copies_of(self, index: int) -> list[int]:
        if not self._copied[index]:
            return []
        first, end = np.searchsorted(self._originals, [index, index + 1])
        copies: list[int] = self._copies[first:end].tolist()
        return copies


def _in_order(rows: Rows, facts: Facts) -> Rows:
    keys = np.concatenate([rows.splits.view(np.uint8)[:, None], facts.sha256[rows.files]], axis=1)
    return rows.take(np.argsort(text_keys(keys), kind="stable"))


def _without_surplus(rows: Rows, references: References, facts: Facts, fates: NDArray[np.uint8], split: Split) -> Rows:
    """The rows without the training pictures that `train_per_label` leaves over."""
    if split.train_per_label is None:
        return rows
    train = np.flatnonzero(rows.splits == SPLITS.index("train"))
    files = rows.files[train]
    over = train[surplus(references.labels[files], rows.groups[train], facts.sha256[files], split)]
    fates[rows.files[over]] = Fate.SURPLUS
    return rows.take(np.setdiff1d(np.arange(len(rows)), over))


def _counts(references: References, rows: Rows, rejects: Rejects, crossed: int, moved: int) -> dict[str, Any]:
    labels, sources = references.labels[rows.files], references.sources[rows.files]
    _, groups = np.unique(text_keys(rows.groups), return_inverse=True)
    found = np.zeros(len(rows), np.uint8)
    np.bitwise_or.at(found, groups, label_bits(labels))
    duplicates = int(np.count_nonzero(rejects.fates == Fate.DUPLICATE))

    def counts_of(split: int) -> dict[str, Any]:
        mine = rows.splits == split
        by_source = np.bincount(sources[mine], minlength=len(references.source_names)).tolist()
        return {
            "rows": int(np.count_nonzero(mine)),
            "groups": len(np.unique(groups[mine])),
            **{name: int(np.count_nonzero(labels[mine] == label)) for label, name in enumerate(LABELS)},
            "sources": dict(sorted((name, n) for name, n in zip(references.source_names, by_source, strict=True) if n)),
        }

    return {
        "files": len(references),
        "rows": len(rows),
        "duplicates": duplicates,
        "rejected": len(rejects) - duplicates,
        "groups": int(np.count_nonzero(found)),
        "cross_label_groups": int(np.count_nonzero(found == BOTH)) + crossed,
        "moved_groups": moved,
        "splits": {name: counts_of(number) for number, name in enumerate(SPLITS)},
    }
