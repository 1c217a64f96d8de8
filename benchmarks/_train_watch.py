"""`python -m training.run` in this process with a clock at the loader, ended after so many steps.

    python -m benchmarks._train_watch OUT.json STEPS SKIP TRACED -- OPTIONS…      the options are those of training.run

All that it knows of the trainer is that it asks `training.loader.Batches.epoch` for its batches. Writes when it asked
for each batch of the first epoch and when it got it; a GPU is waited for at step SKIP and at the end. TRACED 1: what
the GPU did from step SKIP on, by torch's profiler (`_train_trace`).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as training.run does before it imports torch

import torch

from benchmarks._train_trace import shares
from training.batch import Batch
from training.loader import Batches
from training.run import main as train

__all__ = ["Clock", "Enough"]


class Enough(BaseException):
    """The steps asked for are done."""


class Clock:
    """When batches were asked for and when they came, in seconds of `time.perf_counter`."""

    def __init__(self, steps: int, skip: int, traced: bool) -> None:
        self._steps, self._skip = steps, skip
        self._profiler = _profiler() if traced else None
        self._followed = False
        self.asked: list[float] = []
        self.got: list[float] = []
        self.rows: list[int] = []

    def attach(self) -> None:
        """Watch the first epoch that is asked for, which is a training epoch; raise `Enough` when it is over."""
        original = Batches.epoch

        def epoch(batches: Batches, number: int = 0, start: int = 0) -> Iterator[Batch]:
            source = original(batches, number, start)
            if self._followed:
                return source
            self._followed = True
            return self.follow(source)

        Batches.epoch = epoch  # type: ignore[method-assign, assignment]

    def follow(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, as many as steps are asked for.

        Raises:
            Enough: one more is asked for.
            SystemExit: there are fewer.
        """
        while True:
            self._ask()
            batch = next(batches, None)
            if batch is None:
                raise SystemExit(f"error: the epoch has {len(self.rows)} steps, {self._steps} were asked for.")
            self.got.append(time.perf_counter())
            self.rows.append(len(batch.ids))
            yield batch

    def _ask(self) -> None:
        at = len(self.asked)
        if at in (self._skip, self._steps) and torch.cuda.is_available():
            torch.cuda.synchronize()
        if at == self._skip and self._profiler is not None:
            self._profiler.start()
        self.asked.append(time.perf_counter())
        if at == self._steps:
            if self._profiler is not None:
                self._profiler.stop()
            raise Enough

    def result(self) -> dict[str, Any]:
        """JSON-ready; `peak` is the GPU's memory in bytes."""
        peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
        found = {"asked": self.asked, "got": self.got, "rows": self.rows, "peak": peak}
        return found if self._profiler is None else found | {"shares": _shares(self._profiler)}


def _profiler() -> Any:
    from torch.profiler import ProfilerActivity, profile

    return profile(activities=[ProfilerActivity.CUDA])


def _shares(profiler: Any) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        return shares(json.loads(path.read_text())["traceEvents"])


def main(words: list[str]) -> None:
    """Watch one run."""
    output, steps, skip, traced = words[:4]
    clock = Clock(int(steps), int(skip), traced == "1")
    clock.attach()
    with suppress(Enough):
        train(words[5:])
    Path(output).write_text(json.dumps(clock.result()))


if __name__ == "__main__":
    main(sys.argv[1:])
