"""What a person sees while a run trains: pictures a second, the share of the time spent waiting for data, time left."""

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
        elapsed = max(1e-9, line["time"] - self._begin)
        left = (self._left - self._pictures) * elapsed / self._pictures
        self._bar.set_postfix(
            loss=f"{line['loss']:.4f}",
            waiting=f"{min(1.0, self._wait / elapsed):.0%}",
            left=tqdm.format_interval(left),
            refresh=False,
        )
        self._bar.update(line["pictures"])
