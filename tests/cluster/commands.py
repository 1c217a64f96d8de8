"""The commands that people type, run on a cluster."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster import Cluster
from tests.conftest import ROOT

__all__ = ["run", "said", "spark_submit"]


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


def said(cluster: Cluster, *command: str, **variables: str) -> str:
    """The last line of a command that must fail with exit code 1 and no traceback."""
    done = subprocess.run(
        command, cwd=ROOT, env={**cluster.environment(), **variables}, capture_output=True, text=True, check=False
    )
    everything = done.stdout + done.stderr
    assert done.returncode == 1, everything
    assert "Traceback" not in everything, everything
    return next(line for line in reversed(everything.splitlines()) if line.startswith("error: "))
