"""HDFS as storage while its daemons are killed, stopped dead or not there at all."""

from __future__ import annotations

import threading
import time
from urllib.parse import urlsplit

import pytest

from cluster import Cluster
from pipeline.errors import StorageError, UnavailableError
from pipeline.storage import Folder, _hdfs, _hdfs_client
from tests.cluster.blocks import DATA, DATA_NODES, damage, stopped

pytestmark = pytest.mark.cluster_full


@pytest.mark.parametrize("node", DATA_NODES)
def test_a_data_node_killed_while_a_file_is_read_does_no_harm(cluster: Cluster, folder: Folder, node: str) -> None:
    folder.put("a", DATA)
    with folder.open("a") as stream:
        first = stream.read(len(DATA) // 3)
        cluster.kill(node)
        assert first + stream.read() == DATA


@pytest.mark.parametrize("node", DATA_NODES)
def test_a_data_node_killed_while_files_are_written_does_no_harm(cluster: Cluster, folder: Folder, node: str) -> None:
    killer = threading.Timer(0.5, cluster.kill, args=(node,))
    killer.start()
    written = 0
    while killer.is_alive() or written < 6:
        folder.put(f"big-{written}", DATA[: 8 << 20])
        folder.put(f"small-{written}", DATA[:1000])
        written += 1
    killer.join()
    for number in range(written):
        assert folder.read(f"big-{number}") == DATA[: 8 << 20]
        assert folder.read(f"small-{number}") == DATA[:1000]


def test_a_write_that_does_not_go_on_is_given_up(
    cluster: Cluster, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_hdfs_client, "STUCK", 2.0)
    monkeypatch.setattr(_hdfs, "_UPLOADS", 2)
    started = time.monotonic()
    with (
        stopped(cluster, *DATA_NODES),
        pytest.raises(StorageError, match="/a: cannot write: no DataNode can take a block"),
    ):
        folder.put("a", DATA)
    assert time.monotonic() - started < 30
    folder.put("a", DATA)
    assert folder.read("a") == DATA
    assert [entry.path for entry in folder.list(hidden=True)] == ["a"]


def test_a_name_node_that_is_stopped_dead_is_told(
    cluster: Cluster, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a", b"1")
    monkeypatch.setattr(_hdfs_client, "STUCK", 2.0)
    started = time.monotonic()
    for doing in (lambda: folder.read("a"), lambda: folder.exists("a"), lambda: folder.put("b", b"1")):
        with stopped(cluster, "namenode"), pytest.raises(UnavailableError, match="the NameNode does not answer"):
            doing()
    assert time.monotonic() - started < 60
    assert folder.read("a") == b"1"


def test_a_writer_that_was_given_up_is_let_go_without_waiting(cluster: Cluster, folder: Folder) -> None:
    """Garbage is collected in any thread, at any time: also while the NameNode is stopped dead."""
    address = urlsplit(folder.uri)
    held = [_hdfs_client.client(address.netloc).create(f"{address.path}/left")]
    held[0].write(b"1")
    with stopped(cluster, "namenode"):
        collector = threading.Thread(target=held.clear, daemon=True)
        collector.start()
        collector.join(10)
        assert not collector.is_alive()


def test_without_any_data_node_reading_is_an_outage(cluster: Cluster, folder: Folder) -> None:
    """And no reason to leave a picture out of a dataset."""
    folder.put("a", DATA)
    for node in DATA_NODES:
        cluster.kill(node)
    with pytest.raises(UnavailableError, match="/a: cannot read: no replica of a block could be read"):
        folder.read("a")


def test_damage_beside_an_outage_is_an_outage(cluster: Cluster, folder: Folder) -> None:
    since = time.time() - 1
    folder.put("a", DATA)
    damage(cluster, DATA_NODES[0], since)
    cluster.kill(DATA_NODES[1])
    with pytest.raises(UnavailableError, match="/a: cannot read: no replica of a block could be read"):
        folder.read("a")


def test_without_any_data_node_writing_fails_with_a_clear_error(cluster: Cluster, folder: Folder) -> None:
    folder.put("a", b"1")
    for node in DATA_NODES:
        cluster.kill(node)
    with pytest.raises(StorageError, match=r"/b: cannot write: no (DataNode can take|replica of) a block"):
        folder.put("b", DATA)
    assert not folder.exists("b")


def test_a_killed_name_node_is_waited_for(cluster: Cluster, folder: Folder) -> None:
    folder.put("a", b"1")
    cluster.kill("namenode")
    threading.Timer(1, cluster.start, args=("namenode",)).start()
    assert folder.read("a") == b"1"


def test_a_name_node_that_is_not_there_is_named_within_a_minute() -> None:
    started = time.monotonic()
    with pytest.raises(UnavailableError, match=r"hdfs://127.0.0.1:9/x/a: .*the NameNode does not answer"):
        Folder("hdfs://127.0.0.1:9/x").read("a")
    assert time.monotonic() - started < 60


def test_a_stopped_data_node_holds_nobody_up_for_ever(cluster: Cluster, folder: Folder) -> None:
    folder.put("a", DATA)
    with stopped(cluster, "datanode-1"):
        assert folder.read("a") == DATA
