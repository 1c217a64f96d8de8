"""Exact statistics of pixels: integer histograms, added up in any order, then mean and deviation from them.

Everything is a sum of integers until the last step, which is arithmetic on fractions: the same pictures give the same
bits, however they were divided among workers. This module must not decode, read files, or know about MapReduce.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

import numpy as np
from PIL import Image

from pipeline.errors import DataError

__all__ = ["CHANNELS", "LEVELS", "Tally", "count_values", "mean_and_std", "summarise", "total"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]

CHANNELS: Final = 3
LEVELS: Final = 256


def count_values(pixels: Array) -> list[int]:
    """How often each value occurs in each channel.

    Pillow counts all three channels in one pass: two to four times as fast as `numpy.bincount`, which first widens
    every byte to eight (benchmarks/statistics.py).

    Args:
        pixels: uint8 RGB (H, W, 3).

    Returns:
        768 counts: those of red 0…255, green 0…255, blue 0…255.
    """
    return Image.fromarray(pixels).histogram()


@dataclass
class Tally:
    """Pictures, and how often each value occurs in each channel of them.

    Attributes:
        pictures: how many.
        counts: int64 (768,): red 0…255, green 0…255, blue 0…255.
    """

    pictures: int = 0
    counts: Counts = field(default_factory=lambda: np.zeros(CHANNELS * LEVELS, np.int64))

    @property
    def pixels(self) -> int:
        """How many pixels were counted (each has three values)."""
        return int(self.counts[:LEVELS].sum())

    def add(self, pixels: Array) -> None:
        """Count one more picture, uint8 RGB (H, W, 3)."""
        self.counts += np.array(count_values(pixels), np.int64)
        self.pictures += 1

    def merge(self, other: Tally) -> None:
        """Add another tally to this one."""
        self.counts += other.counts
        self.pictures += other.pictures

    def to_json(self) -> list[int]:
        """769 integers: the pictures, then the counts."""
        return [self.pictures, *self.counts.tolist()]

    @classmethod
    def from_json(cls, values: Sequence[int]) -> Tally:
        """The tally that `to_json` wrote."""
        return cls(int(values[0]), np.array(values[1:], np.int64))

    def moments(self) -> dict[str, Any]:
        """`pictures`, `pixels`, and per channel `mean` and `std` in [0, 1]."""
        channels = [mean_and_std(channel) for channel in self.histogram()]
        return {
            "pictures": self.pictures,
            "pixels": self.pixels,
            "mean": [mean for mean, _ in channels],
            "std": [std for _, std in channels],
        }

    def histogram(self) -> list[list[int]]:
        """The counts as three lists of 256."""
        rows: list[list[int]] = self.counts.reshape(CHANNELS, LEVELS).tolist()
        return rows


def mean_and_std(counts: Sequence[int]) -> tuple[float, float]:
    """Mean and population standard deviation of values 0…255 divided by 255.

    With n = Σ c(v), a = Σ v c(v), b = Σ v² c(v): mean = a / 255 n, and by the König–Huygens identity
    Var X = E X² − (E X)², variance = (n b − a²) / (255 n)². Both fractions are exact; each is then rounded once, to the
    nearest float, and the root once more (IEEE 754 asks that of division and root alike, so every machine agrees).

    Args:
        counts: 256 counts.

    Raises:
        DataError: all counts are zero.
    """
    n = sum(counts)
    if n == 0:
        raise DataError("no pixels to take statistics of: give at least one picture that can be read.")
    a = sum(value * count for value, count in enumerate(counts))
    b = sum(value * value * count for value, count in enumerate(counts))
    mean, variance = Fraction(a, 255 * n), Fraction(n * b - a * a, (255 * n) ** 2)
    return float(mean), math.sqrt(float(variance))


def total(tallies: Iterable[Tally]) -> Tally:
    """The sum of tallies."""
    result = Tally()
    for tally in tallies:
        result.merge(tally)
    return result


def summarise(tallies: Mapping[tuple[str, str], Tally]) -> dict[str, Any]:
    """What `stats.json` says about pixels: over all, by label, by source.

    Args:
        tallies: by (label's name, source).

    Raises:
        DataError: there is no picture.
    """
    whole = total(tallies.values())
    return {
        **whole.moments(),
        "by_label": _grouped(tallies, 0),
        "by_source": _grouped(tallies, 1),
        "histogram": whole.histogram(),
    }


def _grouped(tallies: Mapping[tuple[str, str], Tally], place: int) -> dict[str, Any]:
    names = sorted({key[place] for key in tallies})
    return {name: total(tally for key, tally in tallies.items() if key[place] == name).moments() for name in names}
