"""A map task by itself, without mrjob."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mapreduce.stats_config import StatsConfig
from mapreduce.stats_units import find_work
from mapreduce.stats_work import ERROR, SUM, Worker
from tests.datasets import make_dataset

COUNT_THREADS = """
import os, sys
from mapreduce.stats_config import StatsConfig
from mapreduce.stats_units import find_work
from mapreduce.stats_work import Worker

worker, before = Worker(), len(os.listdir("/proc/self/task"))
for line in find_work(sys.argv[1], StatsConfig()).lines:
    assert not list(worker.do(line))
print(len(list(worker.sums())), len(os.listdir("/proc/self/task")) - before)
"""


def test_a_task_starts_no_threads(tmp_path: Path) -> None:
    """A task has one core; and threads that read for Arrow may abort the process when it ends."""
    make_dataset(tmp_path / "dataset", {"train": 8})
    done = subprocess.run(
        [sys.executable, "-c", COUNT_THREADS, str(tmp_path / "dataset")], capture_output=True, text=True
    )
    assert done.stdout.split() == ["2", "0"], done.stderr


def test_after_an_error_a_task_does_no_more_and_emits_no_sums(tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", {"train": 12}, rows_per_part=12)
    first, second = find_work(str(tmp_path / "dataset"), StatsConfig()).lines
    worker = Worker()
    ((key, value),) = worker.do({**first, "sha256": "0" * 64})
    assert key == (ERROR, "000000000000")
    assert value[0] == "IntegrityError"
    assert list(worker.do(second)) == []
    assert list(worker.sums()) == []


def test_only_the_first_row_groups_line_hashes_the_part(tmp_path: Path) -> None:
    """Each part is hashed once, however many lines it is divided into."""
    make_dataset(tmp_path / "dataset", {"train": 200})
    first, second = find_work(str(tmp_path / "dataset"), StatsConfig(row_groups_per_task=1)).lines
    assert [first["row_groups"], second["row_groups"]] == [[0, 1], [1, 2]]
    worker = Worker()
    assert list(worker.do({**second, "sha256": "0" * 64})) == []
    assert sum(value[0] for key, value in worker.sums() if key[0] == SUM) == 400 - 256
    assert [key[0] for key, _ in worker.do({**first, "sha256": "0" * 64})] == [ERROR]
