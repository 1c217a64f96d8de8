"""A NodeManager cut off from the network while a job runs: it and its containers live on, and reach nobody.

Unlike a killed one it comes back, and knows nothing of what happened meanwhile. The cluster is this file's own: its two
NodeManagers are in network namespaces.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from cluster import Cluster
from cluster.network import impossible
from tests.cluster.carried import worker_environment
from tests.cluster.commands import run
from tests.cluster.faults import NODES, containers, finished, started, wait_for
from tests.conftest import ROOT
from tests.datasets import make_dataset

pytestmark = [pytest.mark.cluster_full, pytest.mark.timeout(900)]

MASTER = "MRAppMaster"


@pytest.fixture(scope="module")
def apart(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster whose nodes can be cut off."""
    reason = impossible()
    if reason:
        pytest.skip(reason)
    with Cluster(tmp_path_factory.mktemp("apart") / "data", partitionable=True).running() as made:
        yield made


@pytest.fixture(scope="module")
def expected(apart: Cluster, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The statistics of a small dataset as one machine makes them; it lies in HDFS too, under /tmp/dataset."""
    worker_environment()
    place = tmp_path_factory.mktemp("dataset")
    make_dataset(place / "dataset", {"train": 40}, rows_per_part=10)
    run(apart, "hdfs", "dfs", "-put", "dataset", "/tmp/", cwd=place)
    command = [sys.executable, "-m", "mapreduce.stats", "-r", "inline", str(place / "dataset")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout


def states(cluster: Cluster) -> list[str]:
    """Of all nodes, as YARN sees them."""
    listed = run(cluster, "yarn", "node", "-list", "-all")
    return sorted(re.findall(r"\b(RUNNING|LOST|UNHEALTHY|SHUTDOWN|NEW)\b", listed))


@pytest.mark.parametrize("with_master", [False, True], ids=["tasks alone", "the application master too"])
def test_a_node_cut_off_in_mid_job(apart: Cluster, expected: bytes, with_master: bool) -> None:
    job_on = [sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", f"{apart.default_fs}/tmp/dataset"]
    with started(apart, *job_on, "--set", "pictures_per_map=1") as job:
        home = wait_for(lambda: [node for node in NODES if containers(apart, node, MASTER)], job)[0]
        node = home if with_master else next(other for other in NODES if other != home)
        wait_for(lambda: containers(apart, node, "--mapper"), job)
        apart.cut(node)
        try:
            code, out, err = finished(job)
            cut_off = states(apart)
        finally:
            apart.join(node)
    assert code == 0, out + err
    assert out.encode() == expected
    assert cut_off == ["LOST", "RUNNING"]
    apart.wait_ready()
    assert states(apart) == ["RUNNING", "RUNNING"]
