"""A small whole run: raw pictures, a workflow file, and the command that a user would type.

For the tests that need every stage's real output together. No product code uses it.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from tests.datasets import make_dataset

WORKFLOW = """
name: small
input: {raw}
stats_runner: inline
spark_submit: [--master, "local[2]", --driver-memory, 1g]
ingest:
  canonical:
    geometry: {{mode: native, size: 32}}
  split:
    fractions: {{train: 0.5, val: 0.25, test: 0.25}}
    ood_sources: [other_generator]
training:
  model: test_efficientnet
  pretrained: false
  epochs: 3
  batch_size: 16
  checkpoint_steps: 2
  workers: 0
  threads: 1
evaluation:
  bootstrap_samples: 100
"""

MANIFESTS = ("dataset/manifest.json", "stats.json", "shards/manifest.json", "model/bundle.json", "report/report.json")


def make_workflow(folder: Path, pictures: int = 40) -> Path:
    """Write raw pictures and a workflow file; returns the file."""
    with tempfile.TemporaryDirectory() as scratch:
        make_dataset(Path(scratch) / "dataset", {"train": pictures, "ood": 6}, raw=folder / "raw pictures #1")
    path = folder / "small.yaml"
    path.write_text(WORKFLOW.format(raw=f'"{folder}/raw pictures #1"'), encoding="utf-8")
    return path


def run_command_line(workflow: Path, run_dir: Path, *options: str) -> list[str]:
    """The words of `python -m pipeline.run`."""
    return [sys.executable, "-m", "pipeline.run", str(workflow), "--run-dir", str(run_dir), *options]


def run(workflow: Path, run_dir: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a workflow to its end, or to its error."""
    return subprocess.run(run_command_line(workflow, run_dir, *options), capture_output=True, text=True, check=False)


def run_killed(workflow: Path, run_dir: Path, seconds: float) -> bool:
    """Run a workflow and kill -9 it, with all it started, after some time. Returns whether it was still at work."""
    process = subprocess.Popen(
        run_command_line(workflow, run_dir),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    if process.poll() is not None:
        return False
    kill_tree(process.pid)
    process.wait()
    return True


def kill_tree(pid: int) -> None:
    """SIGKILL a process and all below it, children in sessions of their own (Spark's) included."""
    below = {pid}
    while True:
        found = {child for child, parent in _parents().items() if parent in below} | below
        if found == below:
            break
        below = found
    for each in below:
        with suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


def _parents() -> dict[int, int]:
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text()
            except OSError:
                continue
            table[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    return table


def manifests(run_dir: Path) -> dict[str, bytes]:
    """The bytes of a run's manifests, by name."""
    return {name: (run_dir / name).read_bytes() for name in MANIFESTS}
