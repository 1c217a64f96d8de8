"""Daemons, containers and drivers that die while a job runs: it ends with the bytes of an undisturbed one.

Every test begins with all daemons up (`cluster`), whatever the one before has killed.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

from cluster import Cluster
from pipeline.storage import Folder
from tests.cluster.carried import SPARK
from tests.cluster.faults import NODES, containers, finished, started, wait_for
from tests.cluster.lake import INGEST, SETTINGS, Lake, augment_by
from tests.runs import kill_tree

pytestmark = [pytest.mark.cluster_full, pytest.mark.timeout(900)]


def stats(lake: Lake, *options: str) -> list[str]:
    """The statistics on YARN, in as many map tasks as there are parts."""
    words = [sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", f"{lake.hdfs}/dataset"]
    return [*words, "--set", "pictures_per_map=1", *options]


def augment(cluster: Cluster, lake: Lake, output: str, *options: str) -> list[str]:
    """Augmentation by the standalone Spark."""
    return augment_by(cluster.spark_master, lake, output, *options)


def same(output: str, expected: Path) -> bool:
    """Whether a manifest has the bytes of an undisturbed run's."""
    return Folder(output).read("manifest.json") == (expected / "manifest.json").read_bytes()


def test_a_nodemanager_killed_while_it_runs_map_tasks(cluster: Cluster, lake: Lake) -> None:
    with started(cluster, *stats(lake)) as job:
        node = wait_for(lambda: [n for n in NODES if containers(cluster, n, "--mapper")], job)[0]
        cluster.kill(node)
        for process in containers(cluster, node, ""):
            process.kill()  # a machine that dies takes its containers along
        code, out, err = finished(job)
    assert code == 0, out + err
    assert out.encode() == lake.stats


def test_the_resourcemanager_restarted_while_a_job_runs(cluster: Cluster, lake: Lake) -> None:
    with started(cluster, *stats(lake)) as job:
        wait_for(lambda: [n for n in NODES if containers(cluster, n, "--mapper")], job)
        cluster.kill("resourcemanager")
        cluster.start("resourcemanager")
        code, out, err = finished(job)
    assert code == 0, out + err
    assert out.encode() == lake.stats


def test_an_executor_killed_while_it_works(cluster: Cluster, lake: Lake) -> None:
    output = f"{lake.hdfs}/executor-killed"
    command = ["spark-submit", "--master", cluster.spark_master, *SPARK, INGEST]
    with started(cluster, *command, "--input", lake.raw, "--output", output, *SETTINGS) as job:
        wait_for(lambda: containers(cluster, "spark-worker-1", "pyspark.daemon"), job)
        for process in containers(cluster, "spark-worker-1", "CoarseGrainedExecutorBackend"):
            process.kill()
        code, out, err = finished(job)
    assert code == 0, out + err
    assert same(output, lake.dataset)


def test_an_executor_killed_during_the_shuffle(cluster: Cluster, lake: Lake) -> None:
    """It takes along what others were to fetch from it: Spark makes that again."""
    worker = cluster.folder("spark-worker-1")
    before = shuffled(worker)
    output = f"{lake.hdfs}/shuffle-killed"
    command = ["spark-submit", "--master", cluster.spark_master, *SPARK, INGEST]
    with started(cluster, *command, "--input", lake.raw, "--output", output, *SETTINGS) as job:
        wait_for(lambda: shuffled(worker) - before, job)
        for process in containers(cluster, "spark-worker-1", "CoarseGrainedExecutorBackend"):
            process.kill()
        code, out, err = finished(job)
    assert code == 0, out + err
    assert same(output, lake.dataset)


def shuffled(node: Path) -> set[Path]:
    """What a node's executors have written for others to fetch."""
    return set(node.rglob("shuffle_*.data"))


def test_a_datanode_killed_while_blocks_are_read_and_written(cluster: Cluster, lake: Lake) -> None:
    output = f"{lake.hdfs}/datanode-killed"
    with started(cluster, *augment(cluster, lake, output)) as job:
        wait_for(lambda: containers(cluster, "spark-worker-1", "pyspark.daemon"), job)
        cluster.kill("datanode-2")
        code, out, err = finished(job)
    assert code == 0, out + err
    assert same(output, lake.shards)


@pytest.mark.parametrize("count", [2, 20])
def test_the_driver_killed_at_random_moments(cluster: Cluster, lake: Lake, count: int) -> None:
    """Each time a moment later; then the same command ends it."""
    output, rng = f"{lake.hdfs}/driver-killed-{count}", random.Random(count)
    command = augment(cluster, lake, output)
    for _ in range(count):
        with started(cluster, *command) as job:
            deadline = time.monotonic() + rng.uniform(1, 14)
            while job.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            kill_tree(job.pid)
        if Folder(output).exists("manifest.json"):
            assert same(output, lake.shards)
            Folder(output).remove("")
    with started(cluster, *command) as job:
        code, out, err = finished(job)
    assert code == 0, out + err
    assert same(output, lake.shards)


def test_a_straggling_task_is_overtaken_and_no_row_counted_twice(cluster: Cluster, lake: Lake) -> None:
    soon = "--mrjob=" + " ".join(
        f"--jobconf {name}={value}"
        for name, value in {
            "mapreduce.job.speculative.minimum-allowed-tasks": 2,
            "mapreduce.job.speculative.speculative-cap-running-tasks": 0.5,
            "mapreduce.job.speculative.retry-after-no-speculate": 1000,
            "mapreduce.map.speculative": "true",
        }.items()
    )
    with started(cluster, *stats(lake, soon)) as job:
        stopped = wait_for(lambda: [p for n in NODES for p in containers(cluster, n, "--mapper")], job)[0]
        stopped.suspend()
        try:
            code, out, err = finished(job)
        finally:
            if stopped.is_running():
                stopped.kill()
    assert code == 0, out + err
    assert out.encode() == lake.stats
