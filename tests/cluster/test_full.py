"""HDFS without room for one more block. The cluster is its own: its DataNodes keep their blocks on small disks."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster import Cluster
from pipeline.storage import Folder
from tests.cluster.commands import run, said
from tests.cluster.lake import augment_here
from tests.conftest import ROOT, small_disk
from tests.datasets import make_dataset

pytestmark = [pytest.mark.cluster_full, pytest.mark.timeout(600)]

DISKS = ("datanode-1", "datanode-2")
DISK_MB, FILLER_MB = 1800, 710  # a DataNode takes a block of 128 MB while there is 1 GB more: some before, none after
PATIENCE = 60.0  # seconds for the DataNodes to free the room


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose HDFS holds little."""
    made = Cluster(tmp_path / "data")
    with ExitStack() as disks:
        for name in DISKS:
            disks.enter_context(small_disk(made.folder(name), DISK_MB))
        with made.running():
            yield made


def test_a_full_hdfs(small: Cluster, tmp_path: Path) -> None:
    """It is told, nothing is published, and once there is room the same command gives the same bytes."""
    make_dataset(tmp_path / "dataset", {"train": 20}, rows_per_part=10)
    expected = augment_here(str(tmp_path / "dataset"), str(tmp_path / "shards"))
    subprocess.run(expected, cwd=ROOT, check=True, capture_output=True)
    run(small, "hdfs", "dfs", "-put", "dataset", "/tmp/", cwd=tmp_path)
    (tmp_path / "filler").write_bytes(bytes(FILLER_MB << 20))
    filled = "dfs.blocksize=1048576"
    run(small, "hdfs", "dfs", "-D", filled, "-D", "dfs.replication=2", "-put", "filler", "/tmp/", cwd=tmp_path)

    output = f"{small.default_fs}/tmp/shards"
    command = augment_here(f"{small.default_fs}/tmp/dataset", output)
    message = said(small, *command)
    assert "HDFS is full" in message
    assert output in message
    assert not Folder(output).exists("manifest.json")

    run(small, "hdfs", "dfs", "-rm", "-skipTrash", "/tmp/filler")
    wait_for_room(small)
    run(small, *command, cwd=ROOT)
    assert Folder(output).read("manifest.json") == (tmp_path / "shards" / "manifest.json").read_bytes()


def wait_for_room(cluster: Cluster) -> None:
    """Until both disks have their filler off."""
    deadline = time.monotonic() + PATIENCE
    while any(shutil.disk_usage(cluster.folder(name)).used >= FILLER_MB << 20 for name in DISKS):
        assert time.monotonic() < deadline, "the DataNodes did not free the room"
        time.sleep(0.5)
