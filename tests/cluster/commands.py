"""The commands that people type, run on a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster import Cluster

__all__ = ["run", "spark_submit"]


def run(cluster: Cluster, *command: str, cwd: Path | None = None, check: bool = True) -> str:
    """Run a command and return its standard output; what it said otherwise is the failure's message."""
    done = subprocess.run(
        command, cwd=cwd, env=cluster.environment(), capture_output=True, text=True, check=False, timeout=280
    )
    assert not check or done.returncode == 0, (
        f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr[-4000:]}"
    )
    return done.stdout


def spark_submit(cluster: Cluster, master: str, *command: str, cwd: Path) -> str:
    """Run a Spark job and return its standard output."""
    return run(cluster, "spark-submit", "--master", master, *command, cwd=cwd)
