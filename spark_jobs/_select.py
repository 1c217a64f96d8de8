"""Which files become rows, in which group and split, and what becomes of the others. Pure: no Spark, no files.

Everything is decided in the order of the paths, so the answer is the same whoever found the facts, in any order.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.grouping import UnionFind
from pipeline.layouts import Reference
from pipeline.records import LABELS, SPLITS
from pipeline.splitting import Member, Split, assign_splits, surplus
from spark_jobs._examine import Fact

__all__ = ["Admitted", "Row", "Selection", "admit", "faulty", "select"]

_BY_CHOICE: Final = {"duplicate", "cross_label_group", "split_conflict", "surplus"}  # usable, but left out


@dataclass(frozen=True, slots=True)
class Row:
    """A file that becomes a row."""

    path: str
    label: int
    source: str
    image_id: str
    group_id: str
    split: str


@dataclass
class Admitted:
    """The files that may become rows.

    Attributes:
        kept: their indexes, in order.
        copies: by the index of a kept file, those of its exact copies.
        links: pairs of kept files that belong together because their pixels are equal.
        rejects: what is to be listed of all others.
    """

    kept: list[int] = field(default_factory=list)
    copies: dict[int, list[int]] = field(default_factory=dict)
    links: list[tuple[int, int]] = field(default_factory=list)
    rejects: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Selection:
    """The rows, what is listed beside them, and the counts of the manifest."""

    rows: list[Row]
    rejects: list[dict[str, Any]]
    counts: dict[str, Any]


def faulty(rejects: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rejects that are bad data, not left out by the rules."""
    return [reject for reject in rejects if reject["reason"] not in _BY_CHOICE]


def admit(references: Sequence[Reference], facts: Sequence[Fact]) -> Admitted:
    """Leave out what cannot be used, what has equal pixels under both labels, and exact duplicates.

    Args:
        references: sorted by path.
        facts: one a reference, in the same order.
    """
    result, labels = Admitted(), dict[bytes, int]()
    for reference, fact in zip(references, facts, strict=True):
        if fact.pixels is not None:
            labels[fact.pixels] = labels.get(fact.pixels, 0) | 1 << reference.label
    of_bytes, of_pixels = dict[str, int](), dict[bytes, int]()
    for index, (reference, fact) in enumerate(zip(references, facts, strict=True)):
        if fact.reason is not None or fact.pixels is None or fact.sha256 is None:
            result.rejects.append(_reject(reference, fact, fact.reason or "unreadable", fact.detail or ""))
        elif labels[fact.pixels] == 3:
            detail = "the same pixels are there as real and as ai: find out which they are"
            result.rejects.append(_reject(reference, fact, "cross_label_pixels", detail))
        elif (first := of_bytes.setdefault(fact.sha256, index)) != index:
            result.copies.setdefault(first, []).append(index)
            original = references[first].shown
            result.rejects.append(_reject(reference, fact, "duplicate", "the same bytes as another file", original))
        else:
            result.kept.append(index)
            if (twin := of_pixels.setdefault(fact.pixels, index)) != index:
                result.links.append((twin, index))
    return result


def _reject(
    reference: Reference, fact: Fact, reason: str, detail: str, duplicate_of: str | None = None
) -> dict[str, Any]:
    return {
        "path": reference.shown,
        "label": reference.label,
        "source": reference.source,
        "reason": reason,
        "detail": detail,
        "sha256": fact.sha256,
        "duplicate_of": duplicate_of,
    }


def select(
    references: Sequence[Reference],
    facts: Sequence[Fact],
    admitted: Admitted,
    links: Iterable[tuple[int, int]],
    split: Split,
    keep_cross_label: bool,
) -> Selection:
    """Group what was admitted, split the groups, and count.

    Args:
        references, facts, admitted: as for and from `admit`.
        links: pairs of near-duplicates.
        split: how to split.
        keep_cross_label: a group with both labels stays; otherwise all of it is rejected.
    """
    groups, crossing = _groups(references, admitted, links), []
    rejects = list(admitted.rejects)
    if not keep_cross_label:
        crossing = [group for group in groups if _crosses(references, group)]
        groups = [group for group in groups if not _crosses(references, group)]
        detail = "its group holds real and ai pictures, and cross_label is 'reject'"
        rejects += [_reject(references[i], facts[i], "cross_label_group", detail) for group in crossing for i in group]
    members = [[_member(references, facts, admitted, split, i) for i in group] for group in groups]
    named = list(zip((_group_id(facts, group) for group in groups), members, strict=True))
    splits, moved = assign_splits(named, split)
    rows: list[Row] = []
    for group, (group_id, _), chosen in zip(groups, named, splits, strict=True):
        for index, where in zip(group, chosen, strict=True):
            reference, fact = references[index], facts[index]
            if where is None:
                detail = "a near-duplicate of it was drawn for another split, which it must not straddle"
                rejects.append(_reject(reference, fact, "split_conflict", detail))
            else:
                image_id = fact.sha256 or ""
                rows.append(Row(reference.path, reference.label, reference.source, image_id, group_id, where))
    rows = _without_surplus(rows, references, facts, rejects, split)
    rejects.sort(key=lambda reject: str(reject["path"]))
    return Selection(rows, rejects, _counts(references, rows, rejects, len(crossing), moved))


def _groups(references: Sequence[Reference], admitted: Admitted, links: Iterable[tuple[int, int]]) -> list[list[int]]:
    sets, named = UnionFind(len(references)), dict[str, int]()
    for one, other in (*admitted.links, *links):
        sets.union(one, other)
    for index in admitted.kept:
        for copy in (index, *admitted.copies.get(index, ())):
            name = references[copy].group
            if name is not None:
                sets.union(named.setdefault(name, index), index)
    return sets.sets(admitted.kept)


def _crosses(references: Sequence[Reference], group: Sequence[int]) -> bool:
    return len({references[index].label for index in group}) > 1


def _group_id(facts: Sequence[Fact], group: Sequence[int]) -> str:
    return hashlib.sha256(min(facts[index].sha256 or "" for index in group).encode()).hexdigest()[:16]


def _member(
    references: Sequence[Reference], facts: Sequence[Fact], admitted: Admitted, split: Split, index: int
) -> Member:
    """A picture with what is said of its exact copies too: they are the same picture under other names."""
    same = [references[copy] for copy in (index, *admitted.copies.get(index, ()))]
    given = {item.split for item in same if item.split} | {"ood" for item in same if item.source in split.ood_sources}
    names = sorted({f"group/{item.group}" if item.group else f"image/{facts[index].sha256}" for item in same})
    return Member(references[index].label, references[index].source, frozenset(given), tuple(names))


def _without_surplus(
    rows: list[Row],
    references: Sequence[Reference],
    facts: Sequence[Fact],
    rejects: list[dict[str, Any]],
    split: Split,
) -> list[Row]:
    """The rows without the training pictures that `train_per_label` leaves over; these are listed."""
    over = surplus([(row.split, row.label, row.group_id, row.image_id) for row in rows], split)
    if over:
        places = {reference.path: index for index, reference in enumerate(references)}
        for number in sorted(over):
            index = places[rows[number].path]
            rejects.append(_reject(references[index], facts[index], "surplus", "over split.train_per_label"))
    return [row for number, row in enumerate(rows) if number not in over]


def _counts(
    references: Sequence[Reference],
    rows: Sequence[Row],
    rejects: Sequence[dict[str, Any]],
    rejected_groups: int,
    moved: int,
) -> dict[str, Any]:
    duplicates = sum(reject["reason"] == "duplicate" for reject in rejects)
    labels = dict[str, int]()
    for row in rows:
        labels[row.group_id] = labels.get(row.group_id, 0) | 1 << row.label
    return {
        "files": len(references),
        "rows": len(rows),
        "duplicates": duplicates,
        "rejected": len(rejects) - duplicates,
        "groups": len(labels),
        "cross_label_groups": sum(found == 3 for found in labels.values()) + rejected_groups,
        "moved_groups": moved,
        "splits": {split: _split_counts([row for row in rows if row.split == split]) for split in SPLITS},
    }


def _split_counts(rows: Sequence[Row]) -> dict[str, Any]:
    return {
        "rows": len(rows),
        "groups": len({row.group_id for row in rows}),
        **{name: sum(row.label == label for row in rows) for label, name in enumerate(LABELS)},
        "sources": dict(sorted(Counter(row.source for row in rows).items())),
    }
