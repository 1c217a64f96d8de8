"""What a cluster refuses: each a message that says what, where and what to do, and nothing half-read or half-made."""

from __future__ import annotations

import re
import sys

import pytest

from cluster import Cluster
from pipeline.storage import Folder
from tests.cluster.commands import run, said
from tests.cluster.faults import finished, started
from tests.cluster.lake import Lake, augment_by, augment_here
from tests.conftest import ROOT

pytestmark = [pytest.mark.cluster_full, pytest.mark.timeout(600)]


def augment(lake: Lake, output: str, *options: str, dataset: str = "dataset") -> list[str]:
    """Augmentation by Spark on this machine, over HDFS."""
    return augment_here(f"{lake.hdfs}/{dataset}", output, *options)


def test_safe_mode(cluster: Cluster, lake: Lake) -> None:
    run(cluster, "hdfs", "dfsadmin", "-safemode", "enter")
    try:
        on_spark = said(cluster, *augment(lake, f"{lake.hdfs}/safe"))
        on_yarn = said(cluster, sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", f"{lake.hdfs}/dataset")
    finally:
        run(cluster, "hdfs", "dfsadmin", "-safemode", "leave")
    assert "safe mode" in on_spark
    assert "safe mode" in on_yarn


def test_a_used_up_quota(cluster: Cluster, lake: Lake) -> None:
    run(cluster, "hdfs", "dfs", "-mkdir", "-p", "/tmp/small")
    run(cluster, "hdfs", "dfsadmin", "-setSpaceQuota", "1m", "/tmp/small")
    message = said(cluster, *augment(lake, f"{cluster.default_fs}/tmp/small/shards"))
    assert "quota" in message
    assert not Folder(f"{cluster.default_fs}/tmp/small/shards").exists("manifest.json")
    run(cluster, "hdfs", "dfsadmin", "-clrSpaceQuota", "/tmp/small")
    run(cluster, *augment(lake, f"{cluster.default_fs}/tmp/small/shards"), cwd=ROOT)
    manifest = Folder(f"{cluster.default_fs}/tmp/small/shards").read("manifest.json")
    assert manifest == (lake.shards / "manifest.json").read_bytes()


def test_no_write_permission(cluster: Cluster, lake: Lake) -> None:
    run(cluster, "hdfs", "dfs", "-mkdir", "-p", "/tmp/private")
    run(cluster, "hdfs", "dfs", "-chmod", "755", "/tmp/private")
    message = said(cluster, *augment(lake, f"{cluster.default_fs}/tmp/private/shards"), HADOOP_USER_NAME="somebody")
    assert "permission" in message.lower()
    assert "/tmp/private" in message


@pytest.mark.parametrize("how", ["changed", "missing"])
def test_a_damaged_part(cluster: Cluster, lake: Lake, how: str) -> None:
    folder = Folder(f"{lake.hdfs}/damaged-{how}")
    run(cluster, "hdfs", "dfs", "-cp", "-f", f"{lake.hdfs}/dataset", folder.uri)
    part = next(entry.path for entry in folder.list() if entry.path.startswith("train-"))
    data = folder.read(part)
    folder.remove(part)
    if how == "changed":
        folder.put(part, data[:-100] + bytes([data[-100] ^ 1]) + data[-99:])
    on_spark = said(cluster, *augment(lake, f"{lake.hdfs}/never", dataset=f"damaged-{how}"))
    on_yarn = said(cluster, sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", folder.uri)
    for message in (on_spark, on_yarn):
        assert part in message
        assert how in message or "no such file" in message.lower()
    assert not Folder(f"{lake.hdfs}/never").exists("manifest.json")


def test_two_jobs_writing_one_output_at_once(cluster: Cluster, lake: Lake) -> None:
    """Of two that differ, one loses with a message; what lies there is one of them, whole."""
    output = f"{lake.hdfs}/both"
    options = (["--set", "variants=[identity]"], ["--set", "variants=[identity, hflip]"])
    with (
        started(cluster, *augment(lake, output, *options[0])) as first,
        started(cluster, *augment(lake, output, *options[1])) as second,
    ):
        ends = [finished(first), finished(second)]
    assert sorted(code for code, _, _ in ends) == [0, 1], ends
    loser = next(out + err for code, out, err in ends if code)
    assert re.search(r"error: .*(another run has published it|'config' differs)", loser)
    assert output in loser
    run(cluster, sys.executable, "-m", "mapreduce.stats", "-r", "inline", f"{lake.hdfs}/dataset", cwd=ROOT)
    winner = next(index for index, (code, _, _) in enumerate(ends) if code == 0)
    run(cluster, *augment(lake, output, *options[winner]), cwd=ROOT)  # up to date: every file re-hashed


def test_a_container_over_its_memory_limit(cluster: Cluster, lake: Lake) -> None:
    command = [sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", f"{lake.hdfs}/dataset"]
    message = said(cluster, *command, "--mrjob=--jobconf mapreduce.map.memory.mb=128")
    assert "more memory than its container has" in message
    assert "mapreduce.map.memory.mb" in message


def test_an_executor_over_its_memory_limit(cluster: Cluster, lake: Lake) -> None:
    """Spark begins again with a new one, up to `spark.task.maxFailures` times for a task."""
    small = ("executor.memory=450m", "executor.memoryOverhead=1m", "executor.instances=1", "task.maxFailures=1")
    options = [word for one in small for word in ("--conf", f"spark.{one}")]
    message = said(cluster, *augment_by("yarn", lake, f"{lake.hdfs}/starved", *options))
    assert re.search(r"physical memory limits\. [\d.]+ [MG]B of 512 MB", message)
    assert "spark.executor.memoryOverhead=" in message
    assert not Folder(f"{lake.hdfs}/starved").exists("manifest.json")


@pytest.mark.parametrize(
    ("option", "size", "told"),
    [
        ("--executor-cores", "64", "the cluster ended the application"),
        ("--executor-memory", "64g", "YARN gives no container of that size (Required executor memory"),
    ],
)
def test_more_than_a_node_has(cluster: Cluster, lake: Lake, option: str, size: str, told: str) -> None:
    assert told in said(cluster, *augment_by("yarn", lake, f"{lake.hdfs}/greedy", option, size))


def test_what_killed_attempts_left_is_listed_and_removed(cluster: Cluster, lake: Lake) -> None:
    with started(cluster, *augment_by(cluster.spark_master, lake, f"{lake.hdfs}/swept/shards")) as job:
        while job.poll() is None and not Folder(f"{lake.hdfs}/swept/shards").exists():
            pass
    sweep = [sys.executable, "-m", "pipeline.sweep", f"{lake.hdfs}/swept"]
    listed = run(cluster, *sweep, cwd=ROOT).splitlines()
    assert listed
    run(cluster, *sweep, "--delete", cwd=ROOT)
    assert run(cluster, *sweep, cwd=ROOT) == ""
