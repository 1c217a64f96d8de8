"""The full workflow at its real size: 10,000 + 10,000 training pictures of 256 px to exactly 80,000 rows in shards.

    python -m benchmarks.rehearsal       by YARN over HDFS and by the local modes; writes results/rehearsal.md

By the commands that a user would type, on a cluster of real daemons (`cluster/`) that is started for it and ended:
time, memory of every daemon and of the containers, and bytes of every stage. Both ways must give the same manifests.
About 25 minutes and 20 GB under .cache/benchmarks/ on two cores. `scaling` has other sizes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks._cluster_watch import Peaks, watching
from benchmarks._common import table, write_result
from benchmarks._lake import put_lake
from benchmarks._matched_lake import matched_lake
from benchmarks._processes import ROOT, Measured, load_average, run, user_environment
from cluster import Cluster
from pipeline.cli import say
from pipeline.storage import Folder
from tests.cluster.carried import SPARK, worker_environment
from tests.cluster.lake import AUGMENT, INGEST

CACHE = ROOT / ".cache" / "benchmarks" / "rehearsal"
TRAINING, HELD_OUT = 20_000, 1_000  # pictures; of the second, as many again for the test split
SPARE = 200  # more of the first: a near-duplicate of a held-out picture is taken out of training
LIMIT = 600.0  # seconds for statistics and for augmentation
PACKAGES = ("pyspark", "mrjob", "pyarrow", "numpy", "pillow", "simplejpeg", "hdfs-native")
SETTINGS = ("--set", "layout=list", "--set", "rows_per_part=1024")
MIB = 2**20


@dataclass(frozen=True)
class Way:
    """One way to run the stages."""

    name: str
    home: str
    submit: tuple[str, ...]
    runner: str
    environment: dict[str, str]


@dataclass(frozen=True)
class Done:
    """One stage, done."""

    stage: str
    way: str
    measured: Measured
    peaks: Peaks | None
    size: int
    files: int


def main(arguments: Sequence[str] | None = None) -> None:
    """Run, compare, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearsal", description=main.__doc__)
    parser.add_argument("--training", type=int, default=TRAINING, help="pictures in training, half of them real")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    with _running_cluster() as (cluster, ways):
        lines = [load_average(), "", *_rehearse(cluster, ways, given.training)]
    write_result("rehearsal", "Rehearsal", lines, PACKAGES, not given.no_write)


@contextmanager
def _running_cluster() -> Iterator[tuple[Cluster, list[Way]]]:
    """A new cluster, and the two ways: by YARN over its HDFS, and the local modes."""
    shutil.rmtree(CACHE / "cluster", ignore_errors=True)
    shutil.rmtree(CACHE / "local", ignore_errors=True)
    CACHE.mkdir(parents=True, exist_ok=True)
    worker_environment()
    memory = ("--driver-memory", "1g")
    with Cluster(CACHE / "cluster").running() as cluster:
        environment, home = user_environment(cluster.environment()), f"{cluster.default_fs}/tmp/rehearsal"
        yield (
            cluster,
            [
                Way("YARN over HDFS", home, ("--master", "yarn", *SPARK, *memory), "hadoop", environment),
                Way("local", str(CACHE / "local"), ("--master", "local[2]", *memory), "local", user_environment()),
            ],
        )


def _rehearse(cluster: Cluster, ways: Sequence[Way], training: int) -> list[str]:
    """The whole way at the real size, each way once."""
    listed = matched_lake(CACHE / "pictures", (training + SPARE, HELD_OUT, HELD_OUT))
    total = training + SPARE + 2 * HELD_OUT
    exactly = ("--set", f"split.train_per_label={training // 2}")
    done = [one for way in ways for one in _stages(cluster, way, listed, exactly)]
    _check(ways, training)
    return [*_times(done, total), "", *_memory(done), "", *_verdicts(done, training)]


def _stage_commands(
    way: Way, listed: str, output: str, settings: Sequence[str] = ()
) -> dict[str, tuple[list[str], str]]:
    """The words of each stage, and the manifest that it leaves."""
    dataset, shards, stats = f"{output}/dataset", f"{output}/shards", f"{output}/stats.json"
    submit = ["spark-submit", *way.submit]
    return {
        "ingest": (
            [*submit, INGEST, "--input", listed, "--output", dataset, *SETTINGS, *settings],
            f"{dataset}/manifest.json",
        ),
        "statistics": (
            [sys.executable, "-m", "mapreduce.stats", "-r", way.runner, dataset, "--output", stats],
            stats,
        ),
        "augmentation": ([*submit, AUGMENT, "--input", dataset, "--output", shards], f"{shards}/manifest.json"),
    }


def _stages(cluster: Cluster, way: Way, listed: Path, settings: Sequence[str]) -> Iterator[Done]:
    where = str(listed)  # the local way reads them where they are
    if way.runner == "hadoop":
        seconds = put_lake(listed.parent, way.home, way.environment)
        say(f"rehearsal: {seconds:.0f} s to put the pictures into {way.home}")
        where = f"{way.home}/pictures/{listed.name}"
    for stage, (command, manifest) in _stage_commands(way, where, way.home, settings).items():
        with watching(cluster) as peaks:
            measured = run(command, watch=True, environment=way.environment)
        files = _manifest(manifest).get("files", [])
        say(f"rehearsal: {way.name}, {stage}: {measured.seconds:.0f} s")
        size = sum(entry["bytes"] for entry in files)
        yield Done(stage, way.name, measured, None if way.runner == "local" else peaks, size, len(files))


def _manifest(uri: str) -> dict[str, list[dict[str, int]]]:
    folder, _, name = uri.rpartition("/")
    document: dict[str, list[dict[str, int]]] = json.loads(Folder(folder).read(name))
    return document


def _check(ways: Sequence[Way], training: int) -> None:
    """Both ways gave the same manifests, and the shards hold four rows of each training picture.

    Raises:
        SystemExit: they did not.
    """
    for name in ("dataset/manifest.json", "stats.json", "shards/manifest.json"):
        found = [_manifest(f"{way.home}/{name}") for way in ways]
        if found[0] != found[1]:
            raise SystemExit(f"error: {name} differs between {ways[0].name} and {ways[1].name}.")
    rows = json.loads(Folder(ways[0].home).read("shards/manifest.json"))["counts"]["rows"]["train"]
    if rows != 4 * training:
        raise SystemExit(f"error: {rows} training rows, not {4 * training}.")


def _times(done: Sequence[Done], total: int) -> list[str]:
    head = ["stage", "way", "seconds", "pictures/s", "client's peak MiB", "files", "MiB"]
    rows = [
        [one.stage, one.way, f"{one.measured.seconds:.0f}", f"{total / one.measured.seconds:.0f}",
         f"{one.measured.memory / MIB:,.0f}", one.files, f"{one.size / MIB:,.0f}"]
        for one in done
    ]  # fmt: skip
    return [f"{total:,} pictures; the engine's start is included.", "", *table(head, rows)]


def _memory(done: Sequence[Done]) -> list[str]:
    watched = [(one.stage, one.peaks) for one in done if one.peaks]
    roles = list(dict.fromkeys(role for _, peaks in watched for role in peaks.daemons))
    cells: list[tuple[str, Callable[[Peaks], str]]] = [
        *((role, lambda peaks, role=role: f"{peaks.daemons[role] / MIB:,.0f}") for role in roles),
        ("all containers", lambda peaks: f"{peaks.containers / MIB:,.0f} in {peaks.processes}"),
        ("largest process in a container", lambda peaks: f"{peaks.largest / MIB:,.0f}"),
    ]
    rows = [[name, *(cell(peaks) for _, peaks in watched)] for name, cell in cells]
    return ["Highest memory (PSS, MiB):", "", *table(["", *(stage for stage, _ in watched)], rows)]


def _verdicts(done: Sequence[Done], training: int) -> list[str]:
    lines = [f"- Both ways gave the same manifests; the shards hold exactly {4 * training:,} training rows."]
    for one in done:
        if one.stage != "ingest":
            word = "met" if one.measured.seconds <= LIMIT else "NOT met"
            lines.append(
                f"- {one.stage}, {one.way}: under {LIMIT / 60:.0f} minutes: {word} ({one.measured.seconds:.0f} s)"
            )
    return lines


if __name__ == "__main__":
    main()
