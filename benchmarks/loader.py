"""Decoded pictures a second into the process: Telltale's loader against mosaicml-streaming, litdata, webdataset and
Hugging Face `datasets` on the same pictures; what the trainer waits for it; and how soon it resumes.

    python -m benchmarks.loader                     prints the tables and writes benchmarks/results/loader.md
    python -m benchmarks.loader --kinds mix         the one kind of rows, or the other (jpeg)

Every loader stores the same encoded 256-pixel pictures once in its own format, in equally many files, and delivers them
shuffled in batches of 32 uint8 pictures as a torch tensor, with labels and ids, to the main process; all decode with
`pipeline.decode`, and all run in one environment (`_loader_environment`; the first run makes it). First each is held to
deliver every picture exactly once an epoch, with the right pixels, in another order the next time. Then they take
turns, shuffled anew each round: every run is a process of its own, its first epoch does not count, the next two are
timed whole. The files are in the page cache. About an hour and a half on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks._common import median, spread, table, write_result
from benchmarks._loader_contenders import BATCH, LOADERS, OURS
from benchmarks._loader_environment import quiet_environment, versions, with_loaders
from benchmarks._loader_figures import Rates, best_other, orders, verdict
from benchmarks._processes import load_average, run
from benchmarks._train_jobs import trainer
from benchmarks._train_shards import CACHE, VARIANTS, Plan, make_run
from pipeline.cli import say
from pipeline.variants import IDENTITY

SIDE = 256
CRITERION, STALL, RESUME, RESUME_ROWS = 1.0, 0.02, 1.0, 1_000_000
KINDS = {"jpeg": (IDENTITY,), "mix": VARIANTS}
ABOUT = {"jpeg": "JPEG", "mix": "a quarter JPEG, three quarters lossless WebP variants, as the shards have them"}
STARTS = {"the first batch": 0.0, "the middle": 0.5, "the last batch": 1.0}
PACKAGES = ("torch", "timm", "pyarrow", "pillow", "simplejpeg")
LIBRARIES = ("mosaicml-streaming", "litdata", "webdataset", "datasets", "numpy")
PROMISE = (
    f"Criteria: the median at least {CRITERION:.1f} times that of the best of the others; waiting under {STALL:.0%} of "
    f"a training step; resume: the loader's first batch under {RESUME:.0f} s at {RESUME_ROWS:,} rows."
)


@dataclass(frozen=True)
class Stored:
    """The rows of one kind, in every format.

    Attributes:
        kind: of rows.
        plan: what they are.
        run: the run folder with our shards.
        folders: where each loader reads.
    """

    kind: str
    plan: Plan
    run: Path
    folders: dict[str, Path]


def job(python: str, *words: object) -> dict[str, Any]:
    """A job of `_loader_job`."""
    command = [python, "-m", "benchmarks._loader_job", *map(str, words)]
    said = run(command, environment=quiet_environment()).output.strip().splitlines()
    result: dict[str, Any] = json.loads(said[-1])
    return result


def store(python: str, kind: str, rows: int) -> Stored:
    """The rows in every format, written where they are missing."""
    plan = Plan(rows // len(KINDS[kind]), SIDE, KINDS[kind])
    home = make_run(plan)
    folders = {OURS: home}
    for name, loader in LOADERS.items():
        if loader.write is None:
            continue
        folders[name] = CACHE / "loaders" / plan.name / name
        done = folders[name].with_suffix(".done")
        if not done.exists():
            shutil.rmtree(folders[name], ignore_errors=True)
            folders[name].mkdir(parents=True)
            job(python, "write", name, home, folders[name], plan.shards)
            done.touch()
    return Stored(kind, plan, home, folders | {"datasets, iterable": folders["datasets"]})


def faults(expected: dict[str, Any], seen: dict[str, Any]) -> list[str]:
    """What is wrong with two epochs as a loader delivered them (`_loader_job` says what it tells of them)."""
    found = []
    for epoch, (digest, rows) in enumerate(zip(seen["digests"], seen["rows"], strict=True)):
        if digest != expected["digest"]:
            found.append(f"epoch {epoch}: other pictures ({rows} rows, {expected['rows']} expected)")
    if seen["first"][0] == expected["stored"]:
        found.append("not shuffled")
    if seen["first"][0] == seen["first"][1]:
        found.append("the same order in both epochs")
    return found


def check(python: str, stored: Stored, workers: Sequence[int]) -> None:
    """Refuse to compare loaders of which one does not deliver every picture once.

    Raises:
        SystemExit: naming it and what is wrong.
    """
    expected = job(python, "expected", "-", stored.run)
    for name, folder in stored.folders.items():
        for number in workers:
            wrong = faults(expected, job(python, "check", name, folder, number))
            if wrong:
                raise SystemExit(f"error: {name}, {number} workers, {stored.kind}: {'; '.join(wrong)}")
            say(f"loader: {stored.kind}, {name}, {number} workers: every picture once, shuffled")


def measure(python: str, stored: Stored, workers: Sequence[int], rounds: int) -> dict[int, dict[str, list[float]]]:
    """Pictures a second by number of workers and loader, a number a round."""
    rates: dict[int, dict[str, list[float]]] = {number: {name: [] for name in stored.folders} for number in workers}
    jobs = [(name, number) for name in stored.folders for number in workers]
    for at, order in enumerate(orders(jobs, rounds)):
        for name, number in order:
            taken = job(python, "time", name, stored.folders[name], number)
            rates[number][name].append(taken["pictures"] / taken["seconds"])
            say(f"loader: {stored.kind}, round {at + 1}, {name}, {number} workers: {rates[number][name][-1]:.0f}")
    return rates


def rates_table(rates: Rates) -> list[str]:
    """A row a loader, the quickest first."""
    rows = [
        [name, f"{median(found):,.0f}", spread(found, ",.0f"), f"{median(rates[OURS]) / median(found):.2f}"]
        for name, found in sorted(rates.items(), key=lambda item: -median(item[1]))
    ]
    return table(["", "pictures a second", "lowest to highest", f"{OURS}, times this"], rows)


def kind_report(stored: Stored, found: dict[int, dict[str, list[float]]]) -> list[str]:
    """The tables and verdicts of one kind of rows."""
    plan, lines = stored.plan, [f"## {stored.plan.rows:,} rows, {ABOUT[stored.kind]}"]
    lines += ["", f"{plan.rows:,} rows of {SIDE} px in {plan.shards} files each."]
    for number, rates in found.items():
        best, ratio = best_other(rates, OURS)
        word = verdict(ratio >= CRITERION)
        lines += ["", f"### {number} workers", "", *rates_table(rates), ""]
        lines.append(f"- at least {CRITERION:.1f} times the best of the others ({best}): {word} ({ratio:.2f})")
    return [*lines, ""]


def stall_report(home: Path, model: str, workers: Sequence[int], steps: int, skip: int) -> list[str]:
    """How long the trainer waits for the loader."""
    rows, worst = [], 0.0
    for number in workers:
        settings = {"model": model, "batch_size": BATCH, "device": "cpu", "workers": number}
        one = trainer(home, settings, steps, skip, checkpoint=False)
        worst = max(worst, one.stall)
        rows.append([f"{number} workers", f"{median(one.seconds):.2f}", f"{one.stall:.2%}"])
        say(f"loader: {number} workers: {one.stall:.2%} of a step waiting")
    return [
        f"## Waiting: `python -m training.run`, {model}, {SIDE} px, batch {BATCH}, CPU, {steps - skip} steps",
        "",
        *table(["", "seconds a step", "of them waiting for data"], rows),
        "",
        f"- under {STALL:.0%} of a step: {verdict(worst < STALL)} (at most {worst:.2%})",
        "",
    ]


def resume_report(home: Path, rows: int) -> list[str]:
    """How soon the first batch is there when a run goes on in an epoch of very many rows."""
    found: list[list[object]] = []
    slowest: dict[str, float] = {"inputs": 0.0, "order": 0.0, "batch": 0.0}
    total = rows
    for number in (0, 2):
        for name, start in STARTS.items():
            words = [sys.executable, "-m", "benchmarks._loader_resume", home, rows, number, start]
            seen = json.loads(run([str(word) for word in words]).output.strip().splitlines()[-1])
            found.append([f"from {name}, {number} workers", *(f"{seen[key]:.2f}" for key in slowest)])
            total = seen["rows"]
            if not number:
                slowest = {key: max(value, seen[key]) for key, value in slowest.items()}
    return [
        f"## Resume: {total:,} rows",
        "",
        *table(["", "manifest, footers and labels read, s", "order known, s", "first batch there, s"], found),
        "",
        f"- the loader, from inputs read to the first batch decoded in the process itself, within {RESUME:.0f} s: "
        f"{verdict(slowest['batch'] < RESUME)} ({slowest['batch']:.2f} s at most, {slowest['order']:.2f} s of it for "
        "the order)",
        "- with workers, most of the time goes into starting them (each imports torch), wherever the run begins. "
        f"Reading the inputs takes any run {slowest['inputs']:.1f} s (eight shards at a time), a resume no more than a "
        "start; `check_shards`, which hashes every byte, is off here.",
        "",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Prepare, check, measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader")
    parser.add_argument("--pictures", type=int, default=4608, help="rows an epoch; more than our window of 4,096")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of rows")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2], help="loader processes")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resume-rows", type=int, default=RESUME_ROWS)
    parser.add_argument("--stall-model", default="efficientnet_b1")
    parser.add_argument("--stall-steps", type=int, default=7, help="of which the first does not count")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    say(PROMISE)
    python, load = with_loaders(), load_average()
    stored = [store(python, kind, given.pictures) for kind in given.kinds]
    lines = [f"- The loaders' environment: {versions(python, LIBRARIES)}", load, "", PROMISE, ""]
    lines += [
        f"Batches of {BATCH}, shuffled, uint8; medians of {given.rounds} rounds, in turns, each run a process of its "
        "own, its second and third epoch timed, the files in the page cache. Every loader was seen to deliver every "
        "picture exactly once an epoch, with identical pixels. Each process of our loader decodes with its share of "
        "the cores, in threads; the others have no threads of their own.",
        "",
    ]
    for one in stored:
        check(python, one, given.workers)
        lines += kind_report(one, measure(python, one, given.workers, given.rounds))
    lines += stall_report(stored[-1].run, given.stall_model, given.workers, given.stall_steps, 1)
    lines += resume_report(stored[0].run, given.resume_rows)
    write_result("loader", "Loaders", lines, PACKAGES, write=not given.no_write)


if __name__ == "__main__":
    main()
