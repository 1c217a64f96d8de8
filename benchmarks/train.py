"""How close the trainer comes to the bare model: pictures a second of `python -m training.run` against the same model
on random pictures in memory.

    python -m benchmarks.train               prints the table and writes benchmarks/results/train.md
    python -m benchmarks.train_gpu           the same on a GPU, with more; this command runs it too where there is one

On the CPU: EfficientNet-B1 at 64 px, batch 32, float32, `channels_last`, every core. The trainer reads shards (JPEG
and lossless WebP), decodes, trains, logs, and writes a checkpoint; the bare model does the same steps on uint8 pictures
that lie in memory. They take turns, each run a process of its own; the first steps do not count. About ten minutes on
two cores.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import median, spread, table, write_result
from benchmarks._loader_figures import of_reference, verdict
from benchmarks._processes import ROOT, load_average
from benchmarks._train_jobs import CHECKPOINT_STEPS, Bare, Steps, bare, checkpoint_at, in_turns, trainer
from benchmarks._train_shards import VARIANTS, Plan, make_run
from pipeline.cli import say

MODEL, SIDE, BATCH = "efficientnet_b1", 64, 32
CRITERION, STALL = 0.95, 0.02  # of the bare model's rate at least; of a step at most
BARE, OURS = "bare model, pictures in memory", "python -m training.run"
PACKAGES = ("torch", "timm", "numpy", "pyarrow", "simplejpeg", "pillow")
PROMISE = (
    f"Criteria: the trainer at {CRITERION:.0%} of the bare model's rate at least; waiting for data under {STALL:.0%} "
    "of a step."
)


def measure(home: Path, model: str, steps: int, skip: int, rounds: int) -> dict[str, list[Steps]]:
    """The steps of both, in turns."""
    settings: dict[str, Any] = {"model": model, "batch_size": BATCH, "device": "cpu"}
    plan = Bare(side=SIDE, batch=BATCH, steps=steps, skip=skip, model=model)
    return in_turns(
        {BARE: lambda: bare(plan), OURS: lambda: trainer(home, settings, steps, skip)},
        rounds,
        lambda number, name, one: say(f"train: round {number}, {name}: {one.usual_rate:.2f} pictures a second"),
    )


def report(found: dict[str, list[Steps]], model: str) -> list[str]:
    """The result's lines."""
    rates = {name: [one.usual_rate for one in runs] for name, runs in found.items()}
    ratio, stall = of_reference(rates[OURS], rates[BARE]), median([one.stall for one in found[OURS]])
    rows = [
        [
            name,
            f"{median(rates[name]):.2f}",
            spread(rates[name], ".2f"),
            f"{of_reference(rates[name], rates[BARE]):.1%}",
        ]
        for name in found
    ]
    saved = median([one.checkpoint_seconds for one in found[OURS]])
    counted, each = found[OURS][0].counted, median([median(one.seconds) for one in found[OURS]])
    return [
        f"{model} at {SIDE} px, batch {BATCH}, float32, AdamW; {counted} steps a run count, the {found[OURS][0].skip} "
        f"before them do not. Medians of {len(found[OURS])} rounds, the two taking turns, each run a process of its "
        "own; the ratio is the median of the rounds' ratios.",
        "",
        *table(["", "pictures a second", "lowest to highest", "of the bare rate"], rows),
        "",
        f"A step takes the trainer {each:.3f} s, of which it waits {stall:.2%} for data; a checkpoint takes "
        f"{saved:.2f} s and is counted as one in {CHECKPOINT_STEPS} steps, training's default. Validation and export "
        "are not counted.",
        "",
        f"- at least {CRITERION:.0%} of the bare model's rate: {verdict(ratio >= CRITERION)} ({ratio:.1%})",
        f"- waiting for data under {STALL:.0%} of a step: {verdict(stall < STALL)} ({stall:.2%})",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write; then the GPU, if there is one."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=23, help="steps a run")
    parser.add_argument("--skip", type=int, default=3, help="of them, how many at the beginning do not count")
    parser.add_argument("--model", default=MODEL, help="another timm model")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    try:
        checkpoint_at(given.steps, given.skip)
    except ValueError as error:
        parser.error(str(error))
    load, lines = load_average(), [PROMISE, ""]
    say(PROMISE)
    home = make_run(Plan(pictures=max(64, BATCH * (given.steps + 1) // len(VARIANTS)), side=SIDE, variants=VARIANTS))
    lines += report(measure(home, given.model, given.steps, given.skip, given.rounds), given.model)
    write_result("train", "Training", [load, "", *lines], PACKAGES, write=not given.no_write)
    words = [sys.executable, "-m", "benchmarks.train_gpu", *(["--no-write"] if given.no_write else [])]
    subprocess.run(words, cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
