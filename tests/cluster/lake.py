"""A small lake, on this machine and in HDFS, and what one machine makes of it."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from cluster import Cluster
from tests.cluster.carried import SPARK, worker_environment
from tests.cluster.commands import run
from tests.conftest import ROOT
from tests.datasets import make_dataset

__all__ = ["AUGMENT", "INGEST", "SETTINGS", "Lake", "augment_by", "augment_here", "make_lake"]

INGEST, AUGMENT = str(ROOT / "spark_jobs" / "ingest.py"), str(ROOT / "spark_jobs" / "augment.py")
SETTINGS = (
    "--set", "canonical.geometry.mode=native", "--set", "canonical.geometry.size=32", "--set", "rows_per_part=20",
    "--set", "split.ood_sources=[other_generator]",
)  # fmt: skip


@dataclass(frozen=True)
class Lake:
    """Where it is, and the results of an undisturbed run.

    Attributes:
        raw: URI of the raw pictures in HDFS; the dataset lies there too, as `dataset` under `hdfs`.
        dataset, stats, shards: what one machine makes of them.
        hdfs: URI of a folder for results.
    """

    raw: str
    dataset: Path
    stats: bytes
    shards: Path
    hdfs: str


def make_lake(running: Cluster, place: Path) -> Lake:
    """100 pictures under names that a script would not like, in a new folder and in HDFS under /tmp/lake."""
    worker_environment()
    raw, dataset, shards = (place / "lake" / name for name in ("raw größer #1", "dataset", "shards"))
    make_dataset(place / "unused", {"train": 40, "ood": 10}, raw=raw)
    _local("spark-submit", "--master", "local[2]", INGEST, "--input", str(raw), "--output", str(dataset), *SETTINGS)
    stats = _local(sys.executable, "-m", "mapreduce.stats", "-r", "inline", str(dataset))
    _local(*augment_here(str(dataset), str(shards)))
    run(running, "hdfs", "dfs", "-put", "lake", "/tmp/", cwd=place)  # by itself it takes a '#' in a name for a fragment
    hdfs = f"{running.default_fs}/tmp/lake"
    return Lake(f"{hdfs}/{raw.name}", dataset, stats, shards, hdfs)


def augment_here(dataset: str, output: str, *options: str) -> list[str]:
    """Augmentation by Spark on this machine, wherever the data are."""
    words = ["spark-submit", "--master", "local[2]", AUGMENT, "--input", dataset]
    return [*words, "--output", output, *options]


def augment_by(master: str, lake: Lake, output: str, *options: str) -> list[str]:
    """Augmentation of the lake's dataset by the executors of a cluster."""
    words = ["spark-submit", "--master", master, *SPARK, *options, AUGMENT, "--input", f"{lake.hdfs}/dataset"]
    return [*words, "--output", output]


def _local(*command: str) -> bytes:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
