"""What a person sees while a run trains: pictures a second, the share of the time spent waiting for data, time left.

On a terminal that is a bar; in a log, the end of an epoch's line.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from tqdm import tqdm

from training.config import Phase
from training.schedule import Position

__all__ = ["Progress"]


class Progress:
    """A bar an epoch; quiet where nobody watches.

    Args:
        plan: the phases, whose epochs are all counted for the time left: early stopping can only shorten it.
        where: the epoch.
        rows: training rows an epoch.
        done: pictures of the epoch that an earlier process has trained on.
        shown: whether this process shows anything.
    """

    def __init__(self, plan: Sequence[Phase], where: Position, rows: int, done: int, shown: bool) -> None:
        later = sum(phase.epochs for phase in plan[where.phase :]) - (where.epoch - where.first)
        self._left, self._begin, self._pictures, self._wait = later * rows - done, time.time(), 0, 0.0
        self._elapsed = 1e-9
        self._bar = tqdm(
            total=rows,
            initial=done,
            desc=f"epoch {where.epoch + 1}/{where.epoch + later}",
            unit="img",
            disable=None if shown else True,
            leave=False,
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def step(self, line: Mapping[str, Any]) -> None:
        """Count a step: its `pictures`, `wait`, `time` and `loss`."""
        self._pictures += line["pictures"]
        self._wait += line["wait"]
        self._elapsed = max(1e-9, line["time"] - self._begin)
        self._bar.set_postfix(
            loss=f"{line['loss']:.4f}", waiting=f"{self._waiting:.0%}", left=self._time_left, refresh=False
        )
        self._bar.update(line["pictures"])

    def summary(self) -> str:
        """What the bar showed after the last of at least one step, for a line of text."""
        rate = self._pictures / self._elapsed
        return f"{rate:,.1f} pictures a second, {self._waiting:.1%} waiting for data, {self._time_left} left"

    @property
    def _waiting(self) -> float:
        return min(1.0, self._wait / self._elapsed)

    @property
    def _time_left(self) -> str:
        """Of the training steps, at the rate so far."""
        return tqdm.format_interval((self._left - self._pictures) * self._elapsed / self._pictures)
