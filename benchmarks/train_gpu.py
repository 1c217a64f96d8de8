"""How close the trainer comes to the bare model on a GPU, how fast it is, and where the time goes.

    python -m benchmarks.train_gpu                      rates and stages; writes benchmarks/results/train_gpu.md
    python -m benchmarks.train_gpu --parts rates        only the one, or the other (stages)
    python -m benchmarks.train_gpu --full               also the whole command: 80,000 rows × 10 epochs

EfficientNet-B1 at 240 px. *rates*: bf16, `channels_last`; `python -m training.run` on shards, against the same model on
uint8 pictures that lie in the GPU's memory, in turns, each run a process of its own. *stages*: the trainer from float32
without loader processes to all options, one more a row, under torch's profiler. The 80,000 rows (20,000 pictures, four
variants) are made once, in two or three minutes on 16 cores. Without a GPU it says so and does nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import median, spread, table, write_result
from benchmarks._loader_figures import of_reference, verdict
from benchmarks._processes import ROOT, load_average, run
from benchmarks._train_jobs import Bare, Steps, bare, checkpoint_at, in_turns, trainer
from benchmarks._train_shards import VARIANTS, Plan, make_run
from benchmarks._train_trace import KINDS
from pipeline.cli import say

MODEL, SIDE = "efficientnet_b1", 240
CRITERION, EPOCHS = 0.95, 10
HOPED_RATE, HOPED_SECONDS = 4000, 300
BARE, OURS = "bare model, pictures in GPU memory", "python -m training.run"
PACKAGES = ("torch", "timm", "triton", "numpy", "pyarrow", "simplejpeg", "pillow")
PROMISE = f"Criterion: the trainer at {CRITERION:.0%} of the rate of the same model fed from GPU memory at least."
LADDER: dict[str, dict[str, Any]] = {
    "float32, no loader process": {"workers": 0, "amp": "none", "channels_last": "false", "compile": "false"},
    "+ loader processes, prefetch": {"workers": "auto"},
    "+ bf16": {"amp": "bf16"},
    "+ channels_last": {"channels_last": "true"},
    "+ compile": {"compile": "true"},
}
"""Each row adds to those before it."""
_GPU = """\
import json, torch
if torch.cuda.is_available():
    print(json.dumps([torch.cuda.get_device_name(), torch.version.cuda, torch.backends.cudnn.version()]))
"""


def gpu() -> str:
    """The GPU in words; nothing where there is none."""
    said = subprocess.run([sys.executable, "-c", _GPU], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return "{}, CUDA {}, cuDNN {}".format(*json.loads(said)) if said else ""


def measure(
    home: Path, batch: int, settings: Mapping[str, Any], steps: int, skip: int, rounds: int
) -> dict[str, list[Steps]]:
    """The steps of both at one batch size, in turns."""
    ours = {"model": MODEL, "batch_size": batch, "device": "cuda", **settings}
    plan = Bare(SIDE, batch, steps, skip, MODEL, "cuda", settings["amp"], True, settings["compile"] == "true")
    return in_turns(
        {BARE: lambda: bare(plan), OURS: lambda: trainer(home, ours, steps, skip)},
        rounds,
        lambda at, name, one: say(f"train_gpu: batch {batch}, round {at}, {name}: {one.rate:.0f} pictures a second"),
    )


def rate_rows(batch: int, found: Mapping[str, Sequence[Steps]]) -> list[list[object]]:
    """A row for each of both: rate, ratio, waiting, memory."""
    rates = {name: [one.rate for one in runs] for name, runs in found.items()}
    return [
        [
            f"{name}, batch {batch}",
            f"{median(rates[name]):,.0f}",
            spread(rates[name], ",.0f"),
            f"{of_reference(rates[name], rates[BARE]):.1%}",
            f"{median([one.stall for one in runs]):.1%}",
            f"{max(one.peak for one in runs) / 2**30:.1f}",
        ]
        for name, runs in found.items()
    ]


def stage_row(name: str, one: Steps) -> list[object]:
    """A row of the ladder: milliseconds a step by kind of work, and the share of the time the GPU did nothing."""
    each = 1000 / one.counted
    kinds = [f"{one.shares[kind] * each:.1f}" for kind in KINDS]
    idle = 1 - one.shares["busy"] / one.span
    waited = f"{one.stall * one.span * each:.1f}"
    return [
        name,
        f"{one.rate:,.0f}",
        f"{one.span * each:.1f}",
        waited,
        *kinds,
        f"{idle:.0%}",
        f"{one.peak / 2**30:.1f}",
    ]


def stages(home: Path, batch: int, steps: int, skip: int) -> list[str]:
    """The ladder's table."""
    rows, settings = [], {"model": MODEL, "batch_size": batch, "device": "cuda"}
    for name, changes in LADDER.items():
        settings |= changes
        rows.append(stage_row(name, trainer(home, settings, steps, skip, checkpoint=False, traced=True)))
        say(f"train_gpu: {' | '.join(str(cell) for cell in rows[-1])}")
    head = ["", "pictures a second", "ms a step", "waiting for data", *KINDS, "GPU idle", "peak GiB"]
    return [
        "",
        f"## Where the time goes: batch {batch}",
        "",
        f"Milliseconds a step, of {steps - skip} steps of the trainer under torch's profiler.",
        "",
        *table(head, rows),
        "",
        "Waiting is the trainer's, by the clock, most of it while the GPU still works on earlier steps; the others are "
        "the GPU's, and overlap. Fused and foreach kernels count as the optimiser's.",
    ]


def whole(home: Path, batch: int, settings: dict[str, Any], rows: int) -> str:
    """A line: the seconds of the whole command."""
    values = {
        "model": MODEL,
        "batch_size": batch,
        "device": "cuda",
        "epochs": EPOCHS,
        "pretrained": "false",
        **settings,
    }
    sets = [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
    with tempfile.TemporaryDirectory() as scratch:
        places = ["--shards", f"{home}/shards", "--stats", f"{home}/stats.json", "--output", f"{scratch}/model"]
        seconds = run([sys.executable, "-m", "training.run", *places, *sets]).seconds
    return (
        f"- {rows:,} rows × {EPOCHS} epochs, batch {batch}, the whole command from start to bundle (shards checked, "
        f"validation, checkpoints, ONNX): {seconds:.0f} s (hoped for: under {HOPED_SECONDS} s)"
    )


def rates(home: Path, given: argparse.Namespace, settings: dict[str, Any], rows: int) -> list[str]:
    """The table of rates and its verdicts."""
    lines: list[list[object]] = []
    verdicts: list[str] = []
    for batch in given.batches:
        found = measure(home, batch, settings, given.steps, given.skip, given.rounds)
        lines += rate_rows(batch, found)
        ratio = of_reference([one.rate for one in found[OURS]], [one.rate for one in found[BARE]])
        rate = median([one.rate for one in found[OURS]])
        verdicts.append(
            f"- batch {batch}: at least {CRITERION:.0%} of the bare rate: {verdict(ratio >= CRITERION)} ({ratio:.1%}); "
            f"{rate:,.0f} pictures a second (hoped for: {HOPED_RATE:,}), so {rows * EPOCHS / rate:.0f} s for the steps "
            f"of {rows:,} rows × {EPOCHS} epochs (hoped for: under {HOPED_SECONDS})"
        )
    head = ["", "pictures a second", "lowest to highest", "of the bare rate", "waiting for data", "peak GiB"]
    said = ", ".join(f"{key}={value}" for key, value in settings.items())
    about = (
        f"{said}; {given.steps - given.skip} steps a run count, one of them with a checkpoint in full; {given.rounds} "
        "rounds, the two taking turns."
    )
    return ["", "## Rates", "", about, "", *table(head, lines), "", *verdicts]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_gpu")
    parser.add_argument("--parts", nargs="+", choices=("rates", "stages"), default=["rates", "stages"])
    parser.add_argument("--full", action="store_true", help="also the whole run")
    parser.add_argument("--batches", type=int, nargs="+", default=[128, 256], help="batch sizes; stages has the last")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=240, help="steps a run")
    parser.add_argument("--skip", type=int, default=40, help="of them, how many at the beginning do not count")
    parser.add_argument("--stage-steps", type=int, default=30, help="steps that count in a row of stages")
    parser.add_argument("--pictures", type=int, default=20_000, help="training pictures; four rows each")
    parser.add_argument("--workers", default="auto", help="loader processes")
    parser.add_argument("--compile", choices=("true", "false"), default="false", help="of rates and --full")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    try:
        checkpoint_at(given.steps, given.skip)
    except ValueError as error:
        parser.error(str(error))
    name = gpu()
    if not name:
        print("No GPU here: python -m benchmarks.train_gpu prints its tables on a machine that has one.")
        return
    say(PROMISE)
    settings = {"amp": "bf16", "channels_last": "true", "compile": given.compile, "workers": given.workers}
    plan = Plan(given.pictures, SIDE, VARIANTS, val=max(64, given.pictures // 10))
    load, home = load_average(), make_run(plan)
    lines = [f"- GPU: {name}", load, "", PROMISE, "", f"{MODEL} at {SIDE} px, {plan.rows:,} training rows."]
    if "rates" in given.parts:
        lines += rates(home, given, settings, plan.rows)
    if "stages" in given.parts:
        LADDER["+ loader processes, prefetch"]["workers"] = given.workers
        lines += stages(home, given.batches[-1], given.skip + given.stage_steps, given.skip)
    if given.full:
        lines += ["", whole(home, given.batches[-1], settings, plan.rows)]
    write_result("train_gpu", "Training on a GPU", lines, PACKAGES, write=not given.no_write)


if __name__ == "__main__":
    main()
