"""HDFS as people use it: files in two replicas, and files that outlive the NameNode's process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster import Cluster
from tests.cluster.commands import run

pytestmark = pytest.mark.cluster


def test_a_file_comes_back_and_lies_on_both_data_nodes(cluster: Cluster, tmp_path: Path) -> None:
    local = tmp_path / "größe-☃.bin"
    local.write_bytes(os.urandom(3_000_000))
    run(cluster, "hdfs", "dfs", "-mkdir", "-p", "/tmp/replicas")
    run(cluster, "hdfs", "dfs", "-put", str(local), "/tmp/replicas")
    run(cluster, "hdfs", "dfs", "-get", "/tmp/replicas/größe-☃.bin", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == local.read_bytes()
    assert "Live_repl=2" in run(cluster, "hdfs", "fsck", "/tmp/replicas", "-files", "-blocks")
    for node in ("datanode-1", "datanode-2"):
        assert any(path.stat().st_size == 3_000_000 for path in cluster.folder(node).rglob("blk_*"))


def test_files_outlive_a_killed_name_node(cluster: Cluster) -> None:
    run(cluster, "hdfs", "dfs", "-touchz", "/tmp/survivor")
    cluster.kill("namenode")
    cluster.start("namenode")
    cluster.wait_ready()
    assert run(cluster, "hdfs", "dfs", "-ls", "/tmp/survivor").endswith("/tmp/survivor\n")


def test_strangers_may_not_write_into_others_folders(cluster: Cluster) -> None:
    assert run(cluster, "env", "HADOOP_USER_NAME=guest", "hdfs", "dfs", "-touchz", "/tmp/by-guest") == ""
    run(cluster, "env", "HADOOP_USER_NAME=guest", "hdfs", "dfs", "-touchz", "/yarn/by-guest", check=False)
    assert "by-guest" not in run(cluster, "hdfs", "dfs", "-ls", "/yarn")
