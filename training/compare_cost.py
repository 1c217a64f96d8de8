"""What training took, from the lines of `metrics.jsonl`. Pure; must not read files.

Validation and the time between a stop and its resume are no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any, Final

__all__ = ["Cost", "cost_of"]

_PAUSE: Final = (60.0, 20.0)  # more than so many seconds and so many times the median between two steps is a pause

Lines = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Cost:
    """What training took.

    Attributes:
        pictures: seen in training, those of every epoch.
        hours: of training steps; None: not known.
        rate: pictures a second; None: not known.
    """

    pictures: int
    hours: float | None
    rate: float | None


def cost_of(lines: Lines) -> Cost | None:
    """The cost of a run; None if its lines hold no step.

    A step's time is its `seconds`. Logs that have none, of an earlier Telltale, have the clock at each step's end: the
    time since the step before is taken, but not at an epoch's first step, before which there was validation, and not
    where it is so long that the run was stopped in between. The hours are those of all pictures at the rate of the
    steps whose time is known.
    """
    steps = [line for line in lines if line.get("kind") == "step" and "pictures" in line]
    if not steps:
        return None
    pictures = sum(int(line["pictures"]) for line in steps)
    timed = [(float(line["seconds"]), int(line["pictures"])) for line in steps if "seconds" in line]
    timed = timed or _by_the_clock(steps)
    seconds = sum(seconds for seconds, _ in timed)
    if seconds <= 0:
        return Cost(pictures, None, None)
    rate = sum(count for _, count in timed) / seconds
    return Cost(pictures, pictures / rate / 3600, rate)


def _by_the_clock(steps: Lines) -> list[tuple[float, int]]:
    """(seconds, pictures) of the steps whose beginning is known."""
    between = [
        (float(after["time"]) - float(before["time"]), int(after["pictures"]))
        for before, after in pairwise(steps)
        if before.get("epoch") == after.get("epoch") and "time" in before and "time" in after
    ]
    if not between:
        return []
    least, times = _PAUSE
    limit = max(least, times * median(seconds for seconds, _ in between))
    return [(seconds, count) for seconds, count in between if 0 <= seconds <= limit]
