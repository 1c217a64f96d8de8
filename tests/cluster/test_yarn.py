"""YARN and MapReduce: a job spreads over both nodes, its logs are kept, and its containers are bare."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path

import pytest

from cluster import Cluster
from tests.cluster.commands import run

pytestmark = pytest.mark.cluster

NAME = "words-of-mappers"
MAPPER = """#!/usr/bin/env python3
import json, os, sys
print("a mapper's own words", file=sys.stderr)
for line in sys.stdin:
    print(json.dumps({"line": line.rstrip("\\n"), "node": os.environ["NM_HTTP_PORT"], "prefix": sys.prefix,
                      "version": list(sys.version_info[:2]), "file": os.environ["mapreduce_map_input_file"]}))
"""


@pytest.fixture(scope="module")
def job(running: Cluster, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, list[dict[str, object]]]:
    """A streaming job's id, and what its six map tasks said."""
    running.wait_ready()
    folder = tmp_path_factory.mktemp("job")
    (folder / "mapper.py").write_text(MAPPER, encoding="utf-8")
    (folder / "mapper.py").chmod(0o755)
    (folder / "in").mkdir()
    for number in range(6):
        (folder / "in" / f"täsk-{number}.txt").write_text(f"Zeile {number} ☃\n", encoding="utf-8")
    run(running, "hdfs", "dfs", "-put", "in", "/tmp/in", cwd=folder)
    streaming = ["-D", f"mapreduce.job.name={NAME}", "-files", "mapper.py", "-input", "/tmp/in", "-output", "/tmp/out"]
    run(running, "mapred", "streaming", *streaming, "-mapper", "mapper.py", "-reducer", "cat", cwd=folder)
    said = run(running, "hdfs", "dfs", "-cat", "/tmp/out/part-*")
    # The cluster has run other applications by now, streaming jobs too: ours is known by its name.
    listed = run(running, "yarn", "application", "-list", "-appStates", "FINISHED", "-appTypes", "MAPREDUCE")
    found = re.search(rf"(application_\d+_\d+)\s+{NAME}\s", listed)
    assert found, listed
    return found[1], [json.loads(line) for line in said.splitlines()]


def test_a_streaming_job_runs_on_both_nodes(job: tuple[str, list[dict[str, object]]]) -> None:
    said = job[1]
    assert sorted(str(one["line"]) for one in said) == [f"Zeile {number} ☃" for number in range(6)]
    assert all("/tmp/in/täsk-" in str(one["file"]) for one in said)
    assert len({one["node"] for one in said}) == 2


def test_containers_find_this_python_without_its_environment(job: tuple[str, list[dict[str, object]]]) -> None:
    assert {tuple(one["version"]) for one in job[1]} == {sys.version_info[:2]}  # type: ignore[arg-type]
    assert {one["prefix"] for one in job[1]} == {sys.base_prefix}


def test_the_logs_of_a_finished_job_can_be_read(cluster: Cluster, job: tuple[str, list[dict[str, object]]]) -> None:
    end = time.monotonic() + 200  # a busy machine takes its time
    while time.monotonic() < end:  # the nodes bring the logs to HDFS once the job is over
        logs = run(cluster, "yarn", "logs", "-applicationId", job[0], check=False)
        if logs.count("a mapper's own words") >= 6:
            return
        time.sleep(1)
    pytest.fail(f"the mappers' words never arrived; the logs of {job[0]} hold: {logs[-4000:]}")


@pytest.mark.parametrize("role", ["nodemanager-1", "resourcemanager"])
def test_a_killed_daemon_comes_back_under_its_old_address(cluster: Cluster, role: str) -> None:
    before, page = cluster.pid(role), cluster.page(role)
    cluster.kill(role)
    assert cluster.pid(role) is None
    cluster.start(role)
    cluster.wait_ready()
    assert cluster.pid(role) not in (None, before)
    assert cluster.page(role) == page
    assert run(cluster, "yarn", "node", "-list").count("RUNNING") == 2


def test_the_streaming_jar_is_where_mrjob_looks(cluster: Cluster) -> None:
    home = Path(cluster.exports()["HADOOP_HOME"])
    assert len(list(home.glob("share/hadoop/tools/lib/hadoop-streaming-*.jar"))) == 1
