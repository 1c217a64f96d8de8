"""What a job carries to nodes that have Python and Java and nothing else, as README's cluster section types it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

__all__ = ["CLUSTER_MODE", "SPARK", "worker_environment"]

WORKER = ROOT / "dist" / "telltale-worker.tar.gz"
JOBS = ROOT / "dist" / "telltale-jobs.zip"

SPARK = (
    *("--py-files", JOBS.as_uri(), "--archives", f"{WORKER.as_uri()}#environment"),  # a path may hold a blank
    *("--conf", "spark.executorEnv.PYTHONPATH=environment"),
)
"""Options of `spark-submit` on any cluster."""

CLUSTER_MODE = ("--deploy-mode", "cluster", "--conf", "spark.yarn.appMasterEnv.PYTHONPATH=environment")
"""And for a driver that is itself in a container."""


def worker_environment() -> Path:
    """`make dist`, unless what it made is newer than all that it is made of."""
    made_of = [ROOT / "constraints.txt", ROOT / "setup.cfg", ROOT / "scripts" / "dist"]
    made_of += [path for room in ("pipeline", "mapreduce", "spark_jobs") for path in (ROOT / room).rglob("*.py")]
    newest = max(path.stat().st_mtime for path in made_of)
    if not (WORKER.exists() and JOBS.exists() and JOBS.stat().st_mtime > newest):
        subprocess.run([sys.executable, str(ROOT / "scripts" / "dist")], check=True, capture_output=True)
    return WORKER
