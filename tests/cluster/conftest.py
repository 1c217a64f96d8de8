"""The one cluster that all tests here share; tests/conftest.py sees to it that they share a process too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cluster import ROLES, Cluster
from pipeline.storage import Folder
from tests.cluster.blocks import DATA_NODES
from tests.cluster.lake import Lake, make_lake


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A cluster of its own, in a folder whose name no script would like."""
    with Cluster(tmp_path_factory.mktemp("a clüster") / "data").running() as made:
        yield made


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """The shared cluster, all of it serving, whatever the test before has done to it."""
    for role in ROLES:
        running.start(role)
    running.wait_ready()
    return running


@pytest.fixture(scope="session")
def lake(running: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """A small lake in HDFS; tests write beside it, never into it."""
    return make_lake(running, tmp_path_factory.mktemp("lake"))


@pytest.fixture
def folder(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Folder]:
    """An empty folder of the test's own, which does not exist yet."""
    made = Folder(f"{cluster.default_fs}/tmp/storage-{abs(hash(request.node.name))}")
    yield made
    for role in ("namenode", *DATA_NODES):
        cluster.start(role)
    cluster.wait_ready()
    made.remove("")
