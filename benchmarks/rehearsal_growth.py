"""Does a picture take as long among 40,000 as among 5,000, by YARN over HDFS?

    python -m benchmarks.rehearsal_growth     prints the table and writes benchmarks/results/rehearsal_growth.md

The rehearsal's commands on 5,000 to 40,000 of its pictures. What the same commands take for 1,000 is taken off: by then
all executors are at work, whereas for a few pictures the last ones start when nothing is left to do, and their start
would not be in it. The statistics' own work is small beside starting eight containers, so they are measured by the
`local` runner over HDFS as well. About 50 minutes and 20 GB under .cache/benchmarks/ on two idle cores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace

from benchmarks._common import median, spread, table, write_result
from benchmarks._matched_lake import matched_lake
from benchmarks._processes import load_average, run
from benchmarks.rehearsal import CACHE, PACKAGES, Way, running_cluster, seconds_to_put, stage_commands
from pipeline.cli import say
from pipeline.storage import Folder

SIZES = (5_000, 10_000, 20_000, 40_000)
FIRST = 1_000
EIGHT_PARTS = ("--set", f"rows_per_part={FIRST // 8}")  # as many map tasks as there are for more pictures
ALONE = "statistics, `-r local` over HDFS"
STAGES = {"ingest": "dataset", "statistics": "stats.json", "augmentation": "shards", ALONE: "stats.json"}
"""And what each one writes."""
ROUNDS = {"ingest": 3, "statistics": 2, "augmentation": 2, ALONE: 5}
LARGE, ROUNDS_OF_LARGE = 20_000, {"ingest": 2, "statistics": 2, "augmentation": 1, ALONE: 5}
FLAT = 0.2

Seconds = dict[str, dict[int, list[float]]]
"""By stage and number of pictures."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal_growth", description=main.__doc__)
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    with running_cluster() as (_, ways):
        load = load_average()
        seconds = _measured(ways[0])
    said = f"{ways[0].name}. What the same command takes for {FIRST:,} pictures is taken off. Seconds are medians."
    write_result("rehearsal_growth", "Growth", [load, "", said, "", *_lines(seconds)], PACKAGES, not given.no_write)


def _measured(way: Way) -> Seconds:
    lists = {size: matched_lake(CACHE / "pictures", (size, 0, 0)) for size in (FIRST, *SIZES)}
    seconds_to_put(way, lists[FIRST])
    seconds: Seconds = {stage: {} for stage in STAGES}
    for size, listed in lists.items():
        output = f"{way.home}/growth"
        named = f"{way.home}/pictures/{listed.name}", output, EIGHT_PARTS if size == FIRST else ()
        commands = stage_commands(way, *named)
        commands[ALONE] = stage_commands(replace(way, runner="local"), *named)["statistics"]
        for stage, (command, _) in commands.items():
            seconds[stage][size] = _repeated(way, stage, size, command, Folder(output))
        Folder(output).remove("")
    return seconds


def _repeated(way: Way, stage: str, size: int, command: list[str], output: Folder) -> list[float]:
    """What a stage takes, so many times; its last result stays."""
    found: list[float] = []
    for _ in range((ROUNDS_OF_LARGE if size >= LARGE else ROUNDS)[stage]):
        output.remove(STAGES[stage])
        found.append(run(command, environment=way.environment).seconds)
        say(f"growth: {stage}, {size:,} pictures: {found[-1]:.1f} s")
    return found


def _lines(seconds: Seconds) -> list[str]:
    rows, verdicts = [], []
    for stage, of in seconds.items():
        start = median(of[FIRST])
        each = [(median(of[size]) - start) / (size - FIRST) * 1000 for size in SIZES]
        for size, one in zip(SIZES, each, strict=True):
            took = [f"{start:.1f}", f"{median(of[size]):.1f}", f"{spread(of[size])} ({len(of[size])})"]
            rows.append([stage, f"{size:,}", *took, f"{one:.2f}", f"{one / each[0]:.2f}"])
        verdicts.append(f"- {stage}: {_verdict(of, each)}")
    head = ["stage", "pictures", f"s for {FIRST:,}", "s", "lowest to highest (runs)", "ms a picture", "to the smallest"]
    return [*table(head, rows), "", *verdicts]


def _verdict(of: dict[int, list[float]], each: Sequence[float]) -> str:
    if min(each) > 0 and max(abs(one / each[0] - 1) for one in each) <= FLAT:
        return f"flat within {FLAT:.0%}"
    work = median(of[SIZES[0]]) - median(of[FIRST])
    varies = max(max(of[size]) - min(of[size]) for size in (FIRST, SIZES[0]))
    if work * FLAT < varies:
        return (
            f"no verdict: {FLAT:.0%} of the work of {SIZES[0] - FIRST:,} pictures ({work * FLAT:.1f} s) is less than "
            f"the same command's time varies by ({varies:.1f} s)"
        )
    return f"NOT flat within {FLAT:.0%}"


if __name__ == "__main__":
    main()
