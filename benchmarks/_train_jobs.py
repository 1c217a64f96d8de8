"""The real trainer and the bare model, each in a process of its own, and what follows from their clocks.

Nothing here imports torch or the trainer: the trainer is the command `python -m training.run` (`_train_watch`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._common import median
from benchmarks._loader_figures import orders
from benchmarks._processes import run

__all__ = ["CHECKPOINT_STEPS", "Bare", "Steps", "bare", "checkpoint_at", "in_turns", "trainer"]

CHECKPOINT_STEPS = 500  # between two checkpoints, as training's default has it


@dataclass(frozen=True)
class Bare:
    """What the bare model does; the names are those of training's settings."""

    side: int
    batch: int
    steps: int
    skip: int
    model: str = "efficientnet_b1"
    device: str = "cpu"
    amp: str = "none"
    channels_last: bool = True
    compile: bool = False
    threads: int = 0


@dataclass(frozen=True)
class Steps:
    """What the clock of a run saw.

    Attributes:
        asked: when each batch was asked for, and at last the end, in seconds.
        got: when each batch came.
        rows: of each batch.
        skip: steps at the beginning that do not count.
        checkpoint: the step (from 1) that a checkpoint followed; 0: none did.
        peak: bytes of GPU memory.
        shares: seconds of the GPU's work by kind, where it was traced.
    """

    asked: list[float]
    got: list[float]
    rows: list[int]
    skip: int
    checkpoint: int = 0
    peak: int = 0
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def counted(self) -> int:
        """Steps that count."""
        return len(self.rows) - self.skip

    @property
    def span(self) -> float:
        """Seconds of all steps that count, the checkpoint included."""
        return self.asked[-1] - self.asked[self.skip]

    @property
    def seconds(self) -> list[float]:
        """Of each step that counts and that no checkpoint followed."""
        every = [after - before for before, after in zip(self.asked, self.asked[1:], strict=False)]
        return [one for at, one in enumerate(every, 1) if at > self.skip and at != self.checkpoint]

    @property
    def checkpoint_seconds(self) -> float:
        """By how much the step that a checkpoint followed was longer than the median of the others."""
        if not self.checkpoint:
            return 0.0
        return max(0.0, self.asked[self.checkpoint] - self.asked[self.checkpoint - 1] - median(self.seconds))

    @property
    def rate(self) -> float:
        """Pictures a second over all steps that count, the checkpoint's time in full."""
        return sum(self.rows[self.skip :]) / self.span

    @property
    def usual_rate(self) -> float:
        """Pictures a second with a checkpoint every `CHECKPOINT_STEPS` steps; for a CPU, where steps end in turn."""
        each = sum(self.seconds) / len(self.seconds) + self.checkpoint_seconds / CHECKPOINT_STEPS
        return sum(self.rows[self.skip :]) / self.counted / each

    @property
    def stall(self) -> float:
        """Share of the time that went into waiting for the next batch."""
        return (
            sum(got - asked for asked, got in zip(self.asked[self.skip :], self.got[self.skip :], strict=False))
            / self.span
        )


def checkpoint_at(steps: int, skip: int) -> int:
    """`checkpoint_steps` with which exactly one checkpoint falls among the steps that count, not after the last."""
    at = skip + (steps - skip + 1) // 2
    if not 0 < skip < at < steps < 2 * at:
        raise ValueError(f"{steps} steps, {skip} of them not counted: too few for a checkpoint among them")
    return at


def trainer(
    home: Path, settings: Mapping[str, Any], steps: int, skip: int, checkpoint: bool = True, traced: bool = False
) -> Steps:
    """So many steps of `python -m training.run` on a run folder; its output and logs are thrown away."""
    every = checkpoint_at(steps, skip) if checkpoint else 0
    values = {"epochs": 1, "pretrained": "false", "check_shards": "false", "checkpoint_steps": every, **settings}
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as scratch:
        places = ["--shards", f"{home}/shards", "--stats", f"{home}/stats.json"]
        places += ["--output", f"{scratch}/model", "--logs", f"{scratch}/logs"]
        counts = [str(steps), str(skip), str(int(traced))]
        return _measured("_train_watch", [*counts, "--", *places, *sets], skip, every)


def bare(plan: Bare) -> Steps:
    """The bare model's steps."""
    return _measured("_train_bare", [json.dumps(asdict(plan))], plan.skip)


def in_turns(
    jobs: Mapping[str, Callable[[], Steps]], rounds: int, tell: Callable[[int, str, Steps], None]
) -> dict[str, list[Steps]]:
    """Every job once a round, each round in another order; `tell` hears of each: round (from 1), job, its steps."""
    found: dict[str, list[Steps]] = {name: [] for name in jobs}
    for number, order in enumerate(orders(list(jobs), rounds), 1):
        for name in order:
            found[name].append(jobs[name]())
            tell(number, name, found[name][-1])
    return found


def _measured(module: str, words: list[str], skip: int, checkpoint: int = 0) -> Steps:
    with tempfile.NamedTemporaryFile(suffix=".json") as output:
        run([sys.executable, "-m", f"benchmarks.{module}", output.name, *words])
        return Steps(**json.loads(Path(output.name).read_text()), skip=skip, checkpoint=checkpoint)
