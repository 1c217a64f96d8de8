"""Splitting: every group of pictures goes to train, val, test or ood as a whole.

- `exact`: within a stratum (the same set of labels and sources) the groups are put in an order drawn by the seed and
  laid end to end on a circle of which each split owns its fraction, beginning at an angle drawn for the stratum; a
  group goes where its middle lies. So each split gets its fraction of the pictures to within one group a stratum, and
  many tiny strata together come out right too.
- `hash`: a picture's split is a pure function of the seed and of its name (its explicit group if the list gives one,
  otherwise its own sha256). It never depends on other pictures, so nothing that joins the lake later moves it to
  another split. What near-duplicates drew apart cannot all stay: those drawn for the earliest of train, val, test
  stay, the others are withdrawn (and listed). So train rows are permanent, and a test picture may vanish when a
  near-duplicate falls into train, but never changes sides. Matched pairs should carry an explicit group: then nothing
  is withdrawn.

Splits that are given (a list's column, a layout's folders, `ood_sources`) win over both: the group goes to the most
held-out one of them, ood > test > val > train. Only test and ood may share a group: an ood generator's re-synthesis
of a test photograph. This module must not know of files.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config import between
from pipeline.errors import ConfigError, DataError
from pipeline.grouping import text_keys
from pipeline.records import LABELS

__all__ = ["FIT", "Fractions", "Member", "Split", "assign_splits", "surplus"]

FIT: Final = "fit"
"""A given split that means train or val, in the proportion of the fractions (CIFAKE's `train` folder)."""

_HELD_OUT: Final = ("train", "val", "test", "ood")  # later is more held-out
_DRAWN: Final = _HELD_OUT[:3]
_UNIT: Final = 10**9
_DRAW: Final = 32  # bytes of a digest
_STEP: Final = 1 << 32  # of half a picture: the angle at which a small stratum begins must not be rounded

Stratum = tuple[tuple[tuple[int, str], ...], bool]


@dataclass(frozen=True)
class Fractions:
    """How much of the pictures each split gets; together 1. ood is never drawn."""

    train: float = between(0.0, 1.0, 0.8)
    val: float = between(0.0, 1.0, 0.1)
    test: float = between(0.0, 1.0, 0.1)

    def __post_init__(self) -> None:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-6:
            raise ConfigError(f"split.fractions: train + val + test must be 1, not {total:g}.")

    def thresholds(self, fit: bool = False) -> tuple[int, int]:
        """Where train ends and val ends, in units of 1e-9; with `fit`, test has nothing."""
        train, val = self.train, self.val
        if fit:
            train, val = (train / (train + val), val / (train + val)) if train + val else (1.0, 0.0)
        return round(train * _UNIT), _UNIT if fit else round((train + val) * _UNIT)


@dataclass(frozen=True)
class Split:
    """How pictures are split (see the module).

    Attributes:
        method: `exact` or `hash`.
        fractions: of train, val and test.
        seed: another one gives another draw.
        ood_sources: sources of which every picture goes to ood.
        train_per_label: keep exactly so many training pictures of each label; the surplus is left out and listed.
    """

    method: Literal["exact", "hash"] = "exact"
    fractions: Fractions = field(default_factory=Fractions)
    seed: int = 0
    ood_sources: tuple[str, ...] = ()
    train_per_label: int | None = None


@dataclass(frozen=True, slots=True)
class Member:
    """A picture of a group, as splitting sees it.

    Attributes:
        label, source: its own.
        given: the splits given for it and for its exact copies: of train, val, test, ood, `FIT`.
        names: what `hash` draws by: the explicit groups of it and its copies, or its image_id.
    """

    label: int
    source: str
    given: frozenset[str]
    names: tuple[str, ...]


@dataclass(slots=True)
class _Waiting:
    """The groups of a stratum that wait until all are there: 48 bytes each.

    Attributes:
        places: where each one's members stand in the result.
        sizes: how many they are.
        draws: what each one is ordered by, 32 bytes.
    """

    places: array[int] = field(default_factory=lambda: array("q"))
    sizes: array[int] = field(default_factory=lambda: array("q"))
    draws: bytearray = field(default_factory=bytearray)

    def add(self, place: int, size: int, draw: bytes) -> None:
        self.places.append(place)
        self.sizes.append(size)
        self.draws += draw


def assign_splits(groups: Iterable[tuple[str, Sequence[Member]]], setting: Split) -> tuple[NDArray[np.int8], int]:
    """The split of every member of every group.

    Args:
        groups: (group_id, members), in any order; none of them is kept.
        setting: how.

    Returns:
        of all members, in the order given, the number of each one's split in `SPLITS`, or -1 if it is withdrawn by
        `hash`, int8 (N,); and the number of groups of which some member was moved from the split given for it.
    """
    result, moved = array("b"), 0
    strata: dict[Stratum, _Waiting] = {}
    for group_id, members in groups:
        fixed = _given(members)
        if fixed is not None:
            result.extend(map(_HELD_OUT.index, fixed))
            moved += any(_was_moved(m, split) for m, split in zip(members, fixed, strict=True))
        elif setting.method == "hash":
            result.extend(-1 if split is None else _HELD_OUT.index(split) for split in _by_hash(members, setting))
        else:
            stratum = (tuple(sorted({(m.label, m.source) for m in members})), _fit(members))
            draw = _digest(f"{setting.seed}/{group_id}")
            strata.setdefault(stratum, _Waiting()).add(len(result), len(members), draw)
            result.extend([-1] * len(members))
    splits = np.array(result)
    for stratum, waiting in strata.items():
        for place, size, split in _by_count(stratum, waiting, setting):
            splits[place : place + size] = _HELD_OUT.index(split)
    return splits, moved


def _fit(members: Sequence[Member]) -> bool:
    return any(FIT in member.given for member in members)


def _given(members: Sequence[Member]) -> list[str] | None:
    """The splits that follow from those given, or None when none is."""
    own = [max(member.given - {FIT}, key=_HELD_OUT.index, default=None) for member in members]
    best = max((split for split in own if split), key=_HELD_OUT.index, default=None)
    if best is None:
        return None
    return [("ood" if split == "ood" else "test") if best == "ood" else best for split in own]


def _was_moved(member: Member, split: str) -> bool:
    return any(split not in (_DRAWN[:2] if given == FIT else (given,)) for given in member.given)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _number(text: str) -> int:
    """64 bits drawn by a text."""
    return int.from_bytes(_digest(text)[:8], "big")


def _place(position: int, whole: int, thresholds: tuple[int, int]) -> str:
    """The split that owns a place on the circle, `position / whole` of the way round; whole numbers, so exact."""
    return _DRAWN[sum(position * _UNIT >= threshold * whole for threshold in thresholds)]


def _by_hash(members: Sequence[Member], setting: Split) -> list[str | None]:
    drawn = [
        {
            _place(
                _number(f"telltale/split/{setting.seed}/{name}"),
                1 << 64,
                setting.fractions.thresholds(FIT in member.given),
            )
            for name in member.names
        }
        for member in members
    ]
    kept = min((split for splits in drawn for split in splits), key=_DRAWN.index)
    return [kept if splits == {kept} else None for splits in drawn]


def _by_count(stratum: Stratum, waiting: _Waiting, setting: Split) -> Iterator[tuple[int, int, str]]:
    """(place, size, split) of every group of a stratum."""
    order = np.argsort(text_keys(np.frombuffer(waiting.draws, np.uint8).reshape(-1, _DRAW)), kind="stable")
    whole = 2 * _STEP * sum(waiting.sizes)
    thresholds = setting.fractions.thresholds(stratum[-1])
    position = (_number(f"telltale/stratum/{setting.seed}/{stratum!r}") * whole) >> 64
    for index in order:
        size = waiting.sizes[index]
        yield waiting.places[index], size, _place((position + _STEP * size) % whole, whole, thresholds)
        position += 2 * _STEP * size


def surplus(
    labels: NDArray[np.int8], groups: NDArray[np.uint8], images: NDArray[np.uint8], setting: Split
) -> NDArray[np.int64]:
    """The training pictures beyond `train_per_label`: whole groups as far as possible, in an order drawn by the seed.

    Args:
        labels: of all training pictures, int8 (N,).
        groups: their group ids, uint8 (N, 8).
        images: their image ids, uint8 (N, 32).
        setting: the number, if any.

    Returns:
        positions among these pictures, int64.

    Raises:
        DataError: there are fewer training pictures of a label than asked for.
    """
    wanted, over = setting.train_per_label, [np.zeros(0, np.int64)]
    if wanted is None:
        return over[0]
    for label, name in enumerate(LABELS):
        mine = np.flatnonzero(labels == label)
        if len(mine) < wanted:
            raise DataError(
                f"split.train_per_label is {wanted}, but train has only {len(mine)} {name} pictures. Add pictures, "
                "lower it, or raise split.fractions.train."
            )
        draws = b"".join(_digest(f"telltale/surplus/{setting.seed}/{groups[n].tobytes().hex()}")[:8] for n in mine)
        drawn = np.frombuffer(draws, np.uint8).reshape(-1, 8)
        order = np.argsort(text_keys(np.concatenate([drawn, images[mine]], axis=1)), kind="stable")
        over.append(mine[order[wanted:]])
    return np.concatenate(over)
