"""Does a picture take as long among 40,000 as among 5,000, over HDFS?

    python -m benchmarks.rehearsal_growth     prints the table and writes benchmarks/results/rehearsal_growth.md

The rehearsal's commands on 1,000 to 40,000 of its pictures, which lie on HDFS as their results do; by Spark's and
mrjob's local modes, because on YARN most of a small job's time is the start of its containers, which varies by more
than the work of some thousand pictures takes (`benchmarks.rehearsal` has YARN's times). Each command takes some time to
start, and after that so much a picture: a straight line through all runs says how much of each, and every size is
compared with it. Before and after every command a yardstick (a fixed work on both cores) says how fast the machine is
just then, and the seconds are brought to its usual speed: a virtual machine's neighbours come and go. About 45 minutes,
most of them for putting the pictures on HDFS and for 20,000 and more, and 20 GB under .cache/benchmarks/ on two idle
cores.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from statistics import linear_regression

import simplejpeg

from benchmarks._common import median, spread, table, tile, write_result
from benchmarks._matched_lake import matched_lake
from benchmarks._processes import load_average, run
from benchmarks.rehearsal import CACHE, PACKAGES, Way, running_cluster, seconds_to_put, stage_commands
from pipeline.cli import say
from pipeline.storage import Folder

FIRST = 1_000
SIZES = (5_000, 10_000, 20_000, 40_000)
PASSES = ((FIRST, *SIZES), (FIRST, *SIZES[:3]))
STAGES = {"ingest": "dataset", "statistics": "stats.json", "augmentation": "shards"}
"""And what each one writes."""
REPEATS = {"statistics": 3}
FLAT = 0.2
YARDSTICK = 1_000  # pictures encoded and decoded by each core


@dataclass(frozen=True)
class Taken:
    """A run: its seconds, and those of the yardstick around it."""

    seconds: float
    yardstick: float


Runs = dict[str, dict[int, list[Taken]]]
"""By stage and number of pictures."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal_growth", description=main.__doc__)
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    with running_cluster() as (_, ways):
        load = load_average()
        runs = _measured(*ways)
    write_result("rehearsal_growth", "Growth", [load, *_lines(runs)], PACKAGES, not given.no_write)


def _measured(yarn: Way, local: Way) -> Runs:
    lists = {size: matched_lake(CACHE / "pictures", (size, 0, 0)) for size in PASSES[0]}
    seconds_to_put(yarn, lists[FIRST])
    way = replace(yarn, submit=local.submit, runner=local.runner)
    runs: Runs = {stage: {size: [] for size in PASSES[0]} for stage in STAGES}
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as cores:
        _yardstick(cores)  # the first one also starts the processes
        before = _yardstick(cores)
        for stage, size, command, output in _commands(way, {size: path.name for size, path in lists.items()}):
            output.remove(STAGES[stage])
            seconds = run(command, environment=way.environment).seconds
            after = _yardstick(cores)
            runs[stage][size].append(Taken(seconds, (before + after) / 2))
            say(f"growth: {stage}, {size:,} pictures: {seconds:.1f} s; yardstick {before:.2f} s, then {after:.2f} s")
            before = after
    return runs


def _commands(way: Way, lists: dict[int, str]) -> Iterator[tuple[str, int, list[str], Folder]]:
    """Stage, number of pictures, command and output folder of every run, in order."""
    for sizes in PASSES:
        for size in sizes:
            output = f"{way.home}/growth"
            for stage, (command, _) in stage_commands(way, f"{way.home}/pictures/{lists[size]}", output).items():
                for _ in range(REPEATS.get(stage, 1)):
                    yield stage, size, command, Folder(output)
            Folder(output).remove("")


def _yardstick(cores: ProcessPoolExecutor) -> float:
    """Seconds that all cores together take for a fixed work."""
    started = time.perf_counter()
    list(cores.map(_codec, range(len(os.sched_getaffinity(0)))))
    return time.perf_counter() - started


def _codec(seed: int) -> int:
    pixels = tile(seed, 256, 256)
    for _ in range(YARDSTICK):
        pixels = simplejpeg.decode_jpeg(simplejpeg.encode_jpeg(pixels, quality=95), "RGB")
    return len(pixels)


def _lines(runs: Runs) -> list[str]:
    sticks = [one.yardstick for sizes in runs.values() for taken in sizes.values() for one in taken]
    usual = median(sticks)
    said = f"- Local modes over HDFS. The yardstick took {usual:.2f} s as a rule ({spread(sticks, '.2f')} s in all)."
    rows, verdicts = [], []
    for stage, sizes in runs.items():
        scaled = {size: [one.seconds * usual / one.yardstick for one in taken] for size, taken in sizes.items()}
        points = [(size, one) for size, taken in scaled.items() for one in taken]
        each, start = linear_regression(*zip(*points, strict=True))
        shares = {size: (median(scaled[size]) - start) / size / each for size in SIZES}
        for size in sizes:
            raw = spread([one.seconds for one in sizes[size]])
            share = [f"{shares[size] * each * 1000:.2f}", f"{shares[size]:.2f}"] if size in shares else ["", ""]
            rows.append([stage, f"{size:,}", f"{raw} ({len(sizes[size])})", f"{median(scaled[size]):.1f}", *share])
        line = f"- {stage}: {start:.1f} s to start, then {each * 1000:.2f} ms a picture"
        flat = max(abs(share - 1) for share in shares.values()) <= FLAT
        verdicts.append(f"{line}: {'flat' if flat else 'NOT flat'} within {FLAT:.0%}")
    head = ["stage", "pictures", "s, lowest to highest (runs)", "s", "ms a picture without the start", "of the line's"]
    return [said, "- Seconds are medians, at the machine's usual speed.", "", *table(head, rows), "", *verdicts]


if __name__ == "__main__":
    main()
