"""python -m cluster: up, status, env, down, and what it says when it cannot."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cluster import ROLES, Cluster

pytestmark = pytest.mark.cluster


def command(repo_root: Path, data: Path, verb: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user would."""
    arguments = [sys.executable, "-m", "cluster", verb, "--data", str(data)]
    return subprocess.run(arguments, cwd=repo_root, capture_output=True, text=True, check=False, timeout=280)


def below(data: Path) -> list[psutil.Process]:
    """Every process that works in the cluster's folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(data.resolve()) + os.sep):
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def stopped(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a cluster that was up and is down, its ports and files kept."""
    data = tmp_path_factory.mktemp("own") / "data"
    try:
        first = command(repo_root, data, "up")
        assert first.returncode == 0, first.stderr
        pids = {role: Cluster(data).pid(role) for role in ROLES}
        again = command(repo_root, data, "up")
        assert again.returncode == 0
        assert "already up" in again.stderr
        assert {role: Cluster(data).pid(role) for role in ROLES} == pids
        status = command(repo_root, data, "status")
        assert status.returncode == 0
        assert all(str(pid) in status.stdout for pid in pids.values())
        exports = command(repo_root, data, "env").stdout
        shell = f'{exports}\nprintf "%s %s" "$TELLTALE_HDFS" "$(command -v hdfs)"'
        told = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True).stdout
        assert told == f"{Cluster(data).default_fs} {Cluster(data).exports()['HADOOP_HOME']}/bin/hdfs"
        for role in ("namenode", "nodemanager-2", "spark-master"):  # half of it crashes
            os.kill(Cluster(data).pid(role) or 0, signal.SIGKILL)
        half = command(repo_root, data, "status")
        assert half.returncode == 1
        assert half.stdout.count(" down ") == 3
    finally:
        down = command(repo_root, data, "down")
    assert down.returncode == 0, down.stderr
    return data


def test_down_leaves_no_process_even_after_half_of_it_crashed(repo_root: Path, stopped: Path) -> None:
    assert below(stopped) == []
    again = command(repo_root, stopped, "down")
    assert again.returncode == 0
    assert "was not up" in again.stderr


def test_a_taken_port_is_named_before_anything_starts(repo_root: Path, stopped: Path) -> None:
    page = next(one.page for one in Cluster(stopped).status() if one.role == "resourcemanager")
    port = int(page.rsplit(":", 1)[1])
    with socket.create_server(("127.0.0.1", port)):
        up = command(repo_root, stopped, "up")
    assert up.returncode == 1
    assert f"resourcemanager cannot start: its port {port}" in up.stderr
    assert "Traceback" not in up.stderr
    assert below(stopped) == []


def test_a_daemon_that_dies_is_quoted(repo_root: Path, stopped: Path) -> None:
    version = stopped / "namenode" / "name" / "current" / "VERSION"
    whole = version.read_text(encoding="utf-8")
    version.write_text(re.sub(r"layoutVersion=-\d+", "layoutVersion=-999", whole), encoding="utf-8")
    try:
        up = command(repo_root, stopped, "up")
    finally:
        command(repo_root, stopped, "down")
        version.write_text(whole, encoding="utf-8")
    assert up.returncode == 1
    assert "namenode has ended: " in up.stderr
    assert "Reported: -999" in up.stderr
    assert str(stopped / "logs" / "namenode.log") in up.stderr
    assert below(stopped) == []


def test_env_without_a_cluster_says_how_to_start_one(repo_root: Path, tmp_path: Path) -> None:
    told = command(repo_root, tmp_path / "none", "env")
    assert told.returncode == 2
    assert told.stdout == ""
    assert "python -m cluster up" in told.stderr
