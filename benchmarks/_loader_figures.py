"""What follows from rates measured in rounds: the order of a round, medians, ratios, verdicts. Pure."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import TypeVar

from benchmarks._common import median

__all__ = ["Rates", "best_other", "of_reference", "orders", "verdict"]

T = TypeVar("T")
Rates = Mapping[str, Sequence[float]]
"""Pictures a second by name, a number a round."""


def orders(jobs: Sequence[T], rounds: int, seed: int = 0) -> list[list[T]]:
    """Every job once a round, each round in another order, the same every time."""
    found = []
    for number in range(rounds):
        order = list(jobs)
        random.Random(f"{seed}/{number}").shuffle(order)
        found.append(order)
    return found


def best_other(rates: Rates, ours: str) -> tuple[str, float]:
    """The other with the highest median, and the median of ours divided by it."""
    best = max((name for name in rates if name != ours), key=lambda name: median(rates[name]))
    return best, median(rates[ours]) / median(rates[best])


def of_reference(ours: Sequence[float], reference: Sequence[float]) -> float:
    """The median over the rounds of our rate by the reference's."""
    return median([mine / theirs for mine, theirs in zip(ours, reference, strict=True)])


def verdict(met: bool) -> str:
    """In words."""
    return "met" if met else "NOT met"
