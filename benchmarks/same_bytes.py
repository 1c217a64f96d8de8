"""The same bytes whatever the engine and the storage: every way to make dataset, statistics and shards, side by side.

    python -m benchmarks.same_bytes          prints the tables and writes benchmarks/results/same_bytes.md

One small lake is put on this machine, on HDFS and on S3, and every combination of engine and storage makes its results
from there to there, by the commands that a user would type. The cluster is the one that runs (`make cluster`, then
`eval "$(python -m cluster env)"`), or one that is started for it and ended; so is an S3 server. It fails if one hash
differs. About a quarter of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks._common import table, write_result
from benchmarks._lake import lake, picture_path
from benchmarks._processes import ROOT, user_environment
from cluster import Cluster
from pipeline.cli import say
from pipeline.storage import Folder
from tests.cluster.carried import CLUSTER_MODE, SPARK, worker_environment
from tests.cluster.lake import AUGMENT, INGEST
from tests.servers import ACCESS_KEY, BUCKET, SECRET_KEY, s3_server

SETTINGS = ("--set", "layout=list", "--set", "rows_per_part=128", "--set", "canonical.geometry.mode=native")
RUNNERS = ("inline", "local", "spark", "hadoop")
MASTERS = ("local[1]", "local[2]", "standalone", "YARN client", "YARN cluster")
PACKAGES = ("pyspark", "mrjob", "pyarrow", "numpy", "pillow", "simplejpeg", "hdfs-native", "boto3")
CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_REGION")


@dataclass(frozen=True)
class Place:
    """Where a lake and its results lie, by the storage's name."""

    storage: str
    uri: str


@dataclass(frozen=True)
class Result:
    """What one combination made: the seal of its manifest, or what went wrong, and how long it took."""

    stage: str
    engine: str
    storage: str
    seal: str
    seconds: float


class Commands:
    """The users' commands, with what each engine needs to be told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._secrets = {name: environment[name] for name in CREDENTIALS}

    def run(self, *command: str) -> float:
        """Run one to its end; gives its seconds."""
        started = time.perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, env=self._environment, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            said = (done.stdout + done.stderr)[-4000:]
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{said}")
        return time.perf_counter() - started

    def spark(self, master: str, script: str, *options: str) -> float:
        """A Spark job on a master of the table."""
        where = {
            "standalone": self._environment["TELLTALE_SPARK_MASTER"],
            "YARN client": "yarn",
            "YARN cluster": "yarn",
        }
        words = ["spark-submit", "--master", where.get(master, master)]
        if master in where:
            words += [*SPARK, *self._told("spark.executorEnv")]
        if master == "YARN cluster":
            words += [*CLUSTER_MODE, *self._told("spark.yarn.appMasterEnv")]
        return self.run(*words, script, *options)

    def stats(self, runner: str, dataset: str, output: str) -> float:
        """The statistics under a runner of the table."""
        words = [sys.executable, "-m", "mapreduce.stats", "-r", runner, dataset, "--output", output]
        if runner == "hadoop":
            given = " ".join(f"--cmdenv {name}={value}" for name, value in self._secrets.items())
            words.append(f"--mrjob={given}")
        return self.run(*words)

    def _told(self, prefix: str) -> Iterator[str]:
        for name, value in self._secrets.items():
            yield from ("--conf", f"{prefix}.{name}={value}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Make everything everywhere and compare."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--pictures", type=int, default=400)
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    with _stage() as (commands, places):
        _spread(places, given.pictures)
        results = list(_all(commands, places))
    lines = _lines(results, given.pictures)
    write_result("same_bytes", "The same bytes everywhere", lines, PACKAGES, write=not given.no_write)
    different = {one.stage for one in results if one.seal != next(x.seal for x in results if x.stage == one.stage)}
    if different:
        raise SystemExit(f"error: different bytes in {', '.join(sorted(different))}.")


@contextmanager
def _stage() -> Iterator[tuple[Commands, list[Place]]]:
    """A cluster, an S3 server, and the three places."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="telltale-same-bytes-")))
        endpoint = stack.enter_context(s3_server(folder / "s3"))
        secrets = dict(zip(CREDENTIALS, (ACCESS_KEY, SECRET_KEY, endpoint, "us-east-1"), strict=True))
        os.environ.update(secrets)  # this process puts the lake there
        if not {"TELLTALE_HDFS", "TELLTALE_SPARK_MASTER", "HADOOP_CONF_DIR"} <= os.environ.keys():
            os.environ.update(stack.enter_context(Cluster(folder / "cluster").running()).environment())
        worker_environment()
        places = [
            Place("file", str(folder / "lake")),
            Place("hdfs", f"{os.environ['TELLTALE_HDFS']}/tmp/{folder.name}"),
            Place("s3", f"s3://{BUCKET}/lake"),
        ]
        yield Commands(user_environment()), places
        Folder(places[1].uri).remove("")


def _spread(places: Sequence[Place], count: int) -> None:
    """The same pictures and list in all three places."""
    with tempfile.TemporaryDirectory() as scratch:
        listed = lake(Path(scratch), count)
        for place in places:
            folder = Folder(place.uri).child("raw")
            for name in [*(picture_path(number) for number in range(count)), listed.name]:
                folder.put(name if name != listed.name else "list.csv", (Path(scratch) / name).read_bytes())
    say(f"same_bytes: {count} pictures in {len(places)} places")


def _all(commands: Commands, places: Sequence[Place]) -> Iterator[Result]:
    for place in places:
        for master in MASTERS:
            output = f"{place.uri}/{master.replace(' ', '-').replace('[', '-').rstrip(']')}"
            dataset, shards = f"{output}/dataset", f"{output}/shards"
            raw = f"{place.uri}/raw/list.csv"
            took = commands.spark(master, INGEST, "--input", raw, "--output", dataset, *SETTINGS)
            yield _result("dataset", master, place, f"{dataset}/manifest.json", took)
            took = commands.spark(master, AUGMENT, "--input", dataset, "--output", shards)
            yield _result("shards", master, place, f"{shards}/manifest.json", took)
        for runner in RUNNERS:
            output = f"{place.uri}/stats-{runner}.json"
            took = commands.stats(runner, f"{place.uri}/local-2/dataset", output)
            yield _result("stats", runner, place, output, took)


def _result(stage: str, engine: str, place: Place, manifest: str, seconds: float) -> Result:
    folder, _, name = manifest.rpartition("/")
    seal = json.loads(Folder(folder).read(name))["sha256"]
    say(f"same_bytes: {stage}, {engine}, {place.storage}: {seal[:16]}, {seconds:.0f} s")
    return Result(stage, engine, place.storage, seal, seconds)


def _lines(results: Sequence[Result], count: int) -> list[str]:
    """A table a stage: engines down, storages across, with the hash once if it is one."""
    lines = [
        f"{count} pictures of 256 px. Each cell made its result from its own storage to its own storage; it says the "
        "first 16 digits of the manifest's sha256, and the seconds it took, start of the engine included.",
    ]
    for stage in ("dataset", "stats", "shards"):
        mine = [one for one in results if one.stage == stage]
        storages = list(dict.fromkeys(one.storage for one in mine))
        seals = {one.seal for one in mine}
        rows = []
        for engine in dict.fromkeys(one.engine for one in mine):
            cells = {one.storage: f"`{one.seal[:16]}`, {one.seconds:.0f} s" for one in mine if one.engine == engine}
            rows.append([engine, *(cells[storage] for storage in storages)])
        verdict = f"one hash: `{next(iter(seals))}`" if len(seals) == 1 else f"**{len(seals)} different hashes**"
        lines += ["", f"## {stage}: {verdict}", "", *table([stage, *storages], rows)]
    return lines


if __name__ == "__main__":
    main()
