"""Do ingest, statistics and augmentation take the same time a picture, and the same memory, however many there are?

    python -m benchmarks.scaling             prints the tables and writes benchmarks/results/scaling.md

The users' own commands, measured from outside, on 256-pixel pictures (`_lake.py`), 5,000 to 40,000 of them, which lie
on the HDFS of a cluster that is started for it (`cluster/`), as do the results. By the local modes of Spark and mrjob:
on YARN most of a small job's time is the start of its containers, which varies by more than the work on some thousand
pictures (`benchmarks.rehearsal` has YARN's times). Start-up is what the same command takes for 20 pictures, in as many
processes; it is taken off. Beside them, in the same run, one process that does the same work on pixels and nothing
else. Every size below the largest is run several times, in turns. Three quarters of an hour and 20 GB under
.cache/benchmarks/ on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks._common import interleaved, median, spread, table, write_result
from benchmarks._lake import SIDE, lake, picture_path, put_lake
from benchmarks._processes import ROOT, Measured, load_average, run, user_environment
from cluster import Cluster
from pipeline.canonical import Canonical, canonicalise
from pipeline.cli import say
from pipeline.decode import decode_canonical
from pipeline.statistics import Tally
from pipeline.storage import Folder
from pipeline.variants import encode_lossless, transform
from pipeline.workflow import spark_submit

CACHE = ROOT / ".cache" / "benchmarks"
START_UP = 20  # pictures
SAMPLE = 500  # pictures of the bare loops
PART = 256  # pictures a part of the dataset, so that the smallest size keeps two cores busy to its end
START_UP_PART = 4  # and that the start-up is that of as many processes and parts
STATISTICS_RUNS = 3  # in each round: they take two seconds, so a tenth of one counts
TOLERANCE = 0.2
NAMES = ("hflip", "rot90", "rot270")
PACKAGES = ("pyspark", "mrjob", "pyarrow", "numpy", "pillow", "simplejpeg")
MIB = 2**20


@dataclass(frozen=True)
class Settings:
    """What the options say."""

    sizes: tuple[int, ...]
    rounds: int
    driver_memory: str
    home: str
    environment: Mapping[str, str]


@dataclass
class Runs:
    """All measurements, by stage and size; and the counts of each size's dataset."""

    measured: dict[tuple[str, int], list[Measured]] = field(default_factory=lambda: defaultdict(list))
    counts: dict[int, dict[str, Any]] = field(default_factory=dict)

    def pictures(self, stage: str, size: int) -> int:
        """What a stage works on: ingest on all pictures, the others on the training split."""
        return size if stage == "ingest" else int(self.counts[size]["splits"]["train"]["rows"])

    def seconds(self, stage: str, size: int) -> float:
        """Median by the clock."""
        return median([one.seconds for one in self.measured[stage, size]])

    def processor(self, stage: str, size: int) -> float:
        """Median on processors."""
        return median([one.processor for one in self.measured[stage, size]])

    def each(self, stage: str, size: int, time_of: Callable[[str, int], float] | None = None) -> float:
        """Milliseconds a picture, start-up taken off."""
        took = time_of or self.seconds
        more = self.pictures(stage, size) - self.pictures(stage, START_UP)
        return (took(stage, size) - took(stage, START_UP)) / more * 1000


def commands(size: int, settings: Settings, part: int = PART) -> dict[str, list[str]]:
    """The words that a user would type for each stage."""
    submit = [spark_submit(), "--master", "local[2]", "--driver-memory", settings.driver_memory]
    pictures = f"{settings.home}/pictures/{_list(size)}"
    dataset, stats, shards = (f"{settings.home}/results/{name}" for name in ("dataset", "stats.json", "shards"))
    augment = ["spark_jobs/augment.py", "--input", dataset, "--output", shards]
    ingest = ["spark_jobs/ingest.py", "--input", pictures, "--output", dataset, "--set", "layout=list"]
    return {
        "ingest": [*submit, *ingest, "--set", f"rows_per_part={part}"],
        "statistics": [sys.executable, "-m", "mapreduce.stats", "-r", "local", dataset, "--output", stats],
        "augmentation": [*submit, *augment],
    }


def measure(settings: Settings) -> Runs:
    """Run everything."""
    runs = Runs()
    for number in range(settings.rounds):
        for size in (START_UP, *settings.sizes):
            if number == 0 or size != settings.sizes[-1]:
                measure_size(runs, size, settings)
    return runs


def measure_size(runs: Runs, size: int, settings: Settings) -> None:
    """Run every stage on so many pictures, one after the other, from nothing."""
    results = Folder(f"{settings.home}/results")
    part = START_UP_PART if size == START_UP else PART
    for stage, command in commands(size, settings, part).items():
        for _ in range(STATISTICS_RUNS if stage == "statistics" else 1):
            results.remove("stats.json")
            os.sync()  # what the stage before left to be written is not this one's
            one = run(command, watch=True, environment=settings.environment)
            runs.measured[stage, size].append(one)
            say(f"{stage}, {size:,} pictures: {one.seconds:.1f} s, {one.memory / MIB:,.0f} MiB")
        if stage == "ingest":
            runs.counts[size] = json.loads(results.read("dataset/manifest.json"))["counts"]
    results.remove("")


def _list(size: int) -> str:
    return f"first-{size}.csv"


def bare_loops(count: int, rounds: int) -> dict[str, float]:
    """Milliseconds of processor time a picture of one process that does each stage's work on pixels alone."""
    files = [CACHE / "pictures" / picture_path(number) for number in range(count)]
    setting = Canonical()
    rows = [canonicalise(file.read_bytes(), setting, training=True).image for file in files]

    def canonical() -> None:
        for file in files:
            canonicalise(file.read_bytes(), setting, training=True)

    def histogram() -> None:
        tally = Tally()
        for row in rows:
            tally.add(decode_canonical(row))

    def variants() -> None:
        for row in rows:
            pixels = decode_canonical(row)
            for name in NAMES:
                encode_lossless(transform(name)(pixels))

    jobs = {"ingest": canonical, "statistics": histogram, "augmentation": variants}
    taken = interleaved(jobs, rounds, time.process_time)
    return {name: median(seconds) / count * 1000 for name, seconds in taken.items()}


def time_rows(runs: Runs, settings: Settings, bare: dict[str, float]) -> list[list[object]]:
    """A row for each stage and size."""
    rows: list[list[object]] = []
    for stage in bare:
        smallest = runs.each(stage, settings.sizes[0])
        for size in settings.sizes:
            each = runs.each(stage, size)
            ran = [one.seconds for one in runs.measured[stage, size]]
            rows.append(
                [
                    stage,
                    f"{size:,}",
                    f"{runs.seconds(stage, START_UP):.1f}",
                    f"{runs.seconds(stage, size):.1f}",
                    f"{spread(ran)} ({len(ran)})",
                    f"{each:.2f}",
                    f"{each / smallest:.2f}",
                    f"{runs.each(stage, size, runs.processor):.2f}",
                    f"{bare[stage]:.2f}",
                    f"{bare[stage] / each / 2:.2f}",
                ]
            )
    return rows


def memory_rows(runs: Runs, settings: Settings) -> list[list[object]]:
    """A row for each stage: the highest memory at every size, in MiB."""
    rows: list[list[object]] = []
    for stage in dict.fromkeys(stage for stage, _ in runs.measured):
        cells, peaks = [], []
        for size in settings.sizes:
            ran = runs.measured[stage, size]
            peaks.append(max(one.memory for one in ran))
            java, (others, processes) = max(one.java for one in ran), max((one.others, one.processes) for one in ran)
            cells.append(f"{peaks[-1] / MIB:,.0f} ({java / MIB:,.0f} + {others / MIB:,.0f} in {processes})")
        rows.append([stage, *cells, f"{peaks[-1] / peaks[0]:.2f}"])
    return rows


def verdict(each: Sequence[float]) -> str:
    """Whether a picture takes the same time at all sizes.

    Args:
        each: milliseconds a picture, from the smallest size to the largest.
    """
    if each[0] <= 0:
        return "not known: at the smallest size the start-up's own ups and downs are larger than the work"
    low, high = min(each) / each[0], max(each) / each[0]
    flat = low >= 1 - TOLERANCE and high <= 1 + TOLERANCE
    word = "flat within 20 %" if flat else "NOT flat within 20 %"
    return f"{word} (a picture takes {low:.2f} to {high:.2f} times what it does at the smallest)"


def report(runs: Runs, settings: Settings, bare: dict[str, float], load: str) -> list[str]:
    """The result's lines."""
    time_head = ["stage", "pictures", "start-up s", "seconds", "lowest to highest (runs)", "ms a picture"]
    time_head += ["to the smallest", "processor ms a picture", "bare loop ms", "share of two bare loops"]
    memory_head = ["stage", *(f"{size:,} pictures" for size in settings.sizes), "largest to smallest"]
    groups = [
        f"{size:,} pictures: {c['groups']:,} groups, {c['duplicates']} duplicates, {c['rejected']} rejected, "
        f"{c['splits']['train']['rows']:,} in training"
        for size, c in runs.counts.items()
    ]
    shown = commands(settings.sizes[-1], settings)
    short = [" ".join(_short(word, settings.home) for word in command) for command in shown.values()]
    return [
        load,
        "",
        f"Distinct {SIDE}-px pictures, every fourth a PNG, the others JPEG, half of them “AI-generated”. "
        f"{'; '.join(groups)}.",
        "",
        *(f"    {line}" for line in short),
        "",
        f"Start-up is the same command for {START_UP} pictures, in parts of {START_UP_PART}; it is taken off. "
        "Pictures of ingest are all of them, of statistics and augmentation those in training (augmentation makes "
        "four rows of each). Parts of "
        f"{PART} pictures keep both cores busy from the smallest size on. Seconds are medians.",
        "",
        *table(time_head, time_rows(runs, settings, bare)),
        "",
        "The bare loops, one process, on pictures of the same set: canonicalise the file; decode the row and count; "
        f"decode the row, turn and encode {', '.join(NAMES)}. The stages also hash, look for "
        "near-duplicates, read and write Parquet. "
        "Two cores at the bare loops' rate would be a share of 1.",
        "",
        *(f"- {stage}: {verdict([runs.each(stage, size) for size in settings.sizes])}" for stage in bare),
        "",
        "## Memory",
        "",
        "Highest sum over the whole process tree, looked at every 0.2 s, in MiB (in brackets: highest of Java + "
        "highest of all else, in so many processes); shared pages count once (PSS). Spark's Python processes are the "
        "driver, a daemon and the workers.",
        "",
        *table(memory_head, memory_rows(runs, settings)),
        "",
        f"Java's heap may grow to the --driver-memory of {settings.driver_memory} whatever the work. A task of "
        "augmentation holds one shard's encoded rows: two tasks at a time, `shard_mb` (256 by default) each, and less "
        "where there are too few pictures to fill eight shards.",
    ]


def _short(word: str, home: str) -> str:
    """A word of a command without this machine's folders."""
    return Path(word).name if os.path.isabs(word) else word.replace(home, "hdfs://")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--sizes", default="5000,10000,20000,40000", help="numbers of pictures, ascending")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each size but the largest, which runs once")
    parser.add_argument("--driver-memory", default="1g", help="spark-submit's")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    sizes = tuple(sorted(int(word) for word in given.sizes.split(",")))
    if sizes[0] <= START_UP:
        parser.error(f"--sizes: more than {START_UP} pictures, which measure the start-up")
    for size in (START_UP, *sizes):
        lake(CACHE / "pictures", size)
    shutil.rmtree(CACHE / "scaling", ignore_errors=True)
    with Cluster(CACHE / "scaling").running() as cluster:
        home, environment = f"{cluster.default_fs}/tmp/scaling", user_environment(cluster.environment())
        seconds = put_lake(CACHE / "pictures", home, environment)
        say(f"scaling: {seconds:.0f} s to put the pictures into {home}")
        settings = Settings(sizes, given.rounds, given.driver_memory, home, environment)
        load = load_average()
        bare = bare_loops(min(SAMPLE, sizes[0]), given.rounds)
        lines = report(measure(settings), settings, bare, load)
    write_result("scaling", "Scaling", lines, PACKAGES, write=not given.no_write)


if __name__ == "__main__":
    main()
