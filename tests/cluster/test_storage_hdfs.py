"""HDFS as storage, on real daemons: what a Folder promises, damaged blocks, what people are told."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from cluster import Cluster
from pipeline.errors import OutputExistsError, StorageError, UnavailableError
from pipeline.storage import STAGING, Entry, Folder, _hdfs, _hdfs_client
from tests.cluster.blocks import DATA, DATA_NODES, READS, damage
from tests.cluster.commands import run

pytestmark = pytest.mark.cluster

AWKWARD = ["a b.jpg", "x#y%20z.jpg", 'it\'s "quoted".jpg', "line\nbreak.jpg", "été-図.jpg", "a?b+c&d=.jpg"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_names_survive_writing_listing_and_reading(folder: Folder, name: str) -> None:
    folder.put(f"sub/{name}", b"bytes")
    assert list(folder.list()) == [Entry(f"sub/{name}", 5)]
    assert folder.read(f"sub/{name}") == b"bytes"


@pytest.mark.parametrize("name", ["a:b", "a//b", "../b", "./b"])
def test_names_that_hdfs_cannot_hold_are_refused_before_anything_is_sent(folder: Folder, name: str) -> None:
    with pytest.raises(StorageError, match="HDFS has no files of such a name"):
        folder.put(name, b"1")
    assert not folder.exists()
    assert not folder.is_file("a:b")


def test_put_replaces_and_create_does_not(folder: Folder) -> None:
    folder.put("a", b"1")
    folder.put("a", b"2")
    with pytest.raises(OutputExistsError, match="another run has published it"):
        folder.create("a", b"3")
    assert folder.read("a") == b"2"
    assert [entry.path for entry in folder.list(hidden=True)] == ["a"]


def test_of_many_creators_exactly_one_succeeds_and_no_reader_sees_a_part(folder: Folder) -> None:
    bodies, outcomes, seen, done = [bytes([n]) * 300_000 for n in range(8)], [], set(), threading.Event()

    def look() -> None:
        while not done.is_set():
            if folder.exists("manifest.json"):
                seen.add(folder.read("manifest.json"))

    def attempt(number: int) -> None:
        try:
            folder.create("manifest.json", bodies[number])
            outcomes.append(number)
        except OutputExistsError:
            pass

    reader = threading.Thread(target=look)
    writers = [threading.Thread(target=attempt, args=(number,)) for number in range(8)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    done.set()
    reader.join()
    assert len(outcomes) == 1
    assert seen | {folder.read("manifest.json")} == {bodies[outcomes[0]]}


def test_what_a_killed_writer_leaves_lies_in_staging_and_can_be_removed(cluster: Cluster, folder: Folder) -> None:
    code = (
        "import os; from pipeline.storage import Folder, _hdfs\n"
        "_hdfs.HdfsBackend._rename = lambda *_: os._exit(9)\n"
        f"Folder({folder.uri!r}).put('a', b'x' * 1000)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert list(folder.list()) == []
    (left,) = folder.list(hidden=True)
    assert left.path.startswith(f"{STAGING}/")
    folder.put("b", b"2")  # another writer does not take it away
    folder.remove(left.path)
    assert [entry.path for entry in folder.list(hidden=True)] == ["b"]


def test_a_uri_without_a_host_means_the_configured_name_node(
    cluster: Cluster, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("a", b"1")
    monkeypatch.setenv("HADOOP_CONF_DIR", cluster.exports()["HADOOP_CONF_DIR"])
    monkeypatch.setattr(_hdfs_client, "_clients", {})
    short = Folder(folder.uri.replace(cluster.default_fs, "hdfs://"))
    assert short.read("a") == b"1"
    assert short.absolute() == folder.uri
    assert short.holds(folder.child("a"))
    assert not short.child("a").holds(folder)


@pytest.mark.parametrize("node", DATA_NODES)
@pytest.mark.parametrize("how", READS)
def test_a_damaged_block_is_read_from_the_other_replica(cluster: Cluster, folder: Folder, node: str, how: str) -> None:
    since = time.time() - 1
    folder.put("a", DATA)
    damage(cluster, node, since)
    for _ in range(3):  # whichever replica is asked first
        assert READS[how](folder) == DATA


@pytest.mark.parametrize("how", READS)
def test_a_block_damaged_everywhere_is_a_clear_error_and_never_wrong_bytes(
    cluster: Cluster, folder: Folder, how: str
) -> None:
    since = time.time() - 1
    folder.put("a", DATA)
    for node in DATA_NODES:
        damage(cluster, node, since)
    with pytest.raises(
        StorageError, match=r"/a: cannot read: no replica of a block could be read: .*hdfs fsck"
    ) as told:
        READS[how](folder)
    assert isinstance(told.value, UnavailableError)  # the client cannot tell damage from an outage


@pytest.mark.parametrize("only_if_absent", [True, False])
def test_a_rename_whose_answer_was_lost_has_been_done(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, only_if_absent: bool
) -> None:
    """The client asks again, on a new connection: what the NameNode says to that is what is told here."""
    asked: list[str] = []

    class Again(_hdfs_client._Bounded):
        def rename(self, name: str, target: str, overwrite: bool) -> None:
            asked.append(name)
            self._inner.rename(name, target, overwrite=overwrite)
            self._inner.rename(name, target, overwrite=overwrite)

    place = folder.uri.removeprefix("hdfs://").partition("/")[0]
    again = Again(_hdfs_client.client(place)._inner)
    monkeypatch.setattr(_hdfs, "client", lambda authority: again)
    with folder.staged() as staged:
        staged.stream.write(DATA)
        staged.publish("a", only_if_absent)
    assert len(asked) == 1
    assert folder.read("a") == DATA
    assert [entry.path for entry in folder.list(hidden=True)] == ["a"]


def test_safe_mode_says_what_to_wait_for(cluster: Cluster, folder: Folder) -> None:
    folder.put("a", b"1")
    run(cluster, "hdfs", "dfsadmin", "-safemode", "enter")
    try:
        for action in (lambda: folder.put("b", b"1"), lambda: folder.create("b", b"1"), lambda: folder.remove("a")):
            with pytest.raises(UnavailableError, match=r"safe mode.*hdfs dfsadmin -safemode get"):
                action()
        assert folder.read("a") == b"1"
    finally:
        run(cluster, "hdfs", "dfsadmin", "-safemode", "leave")


def test_a_quota_says_what_to_do(cluster: Cluster, folder: Folder) -> None:
    folder.put("a", b"1")
    path = folder.uri.removeprefix(cluster.default_fs)
    run(cluster, "hdfs", "dfsadmin", "-setQuota", "2", path)
    with pytest.raises(StorageError, match=r"/b: cannot write: over the quota.*Free space, or have it raised"):
        folder.put("b", b"1")
    run(cluster, "hdfs", "dfsadmin", "-clrQuota", path)
    run(cluster, "hdfs", "dfsadmin", "-setSpaceQuota", "1m", path)
    with pytest.raises(StorageError, match="over the quota"):
        folder.put("b", DATA)
    assert [entry.path for entry in folder.list(hidden=True)] == ["a"]


def test_no_permission_names_the_place_and_the_cure(
    cluster: Cluster, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.put("secret/a", b"1")
    run(cluster, "hdfs", "dfs", "-chmod", "-R", "700", folder.uri)
    monkeypatch.setenv("HADOOP_USER_NAME", "guest")
    monkeypatch.setattr(_hdfs_client, "_clients", {})
    for action in (lambda: folder.read("secret/a"), lambda: folder.put("b", b"1"), lambda: folder.is_file("secret/a")):
        with pytest.raises(StorageError, match=r"permission denied\. Check owner and mode"):
            action()


def test_a_missing_file_and_a_missing_folder_name_themselves(folder: Folder) -> None:
    folder.put("there", b"")
    for ask in (folder.read, folder.open, folder.sha256):
        with pytest.raises(StorageError, match=r"/no: cannot read: No such file"):
            ask("no")
    with pytest.raises(StorageError, match="not a folder"):
        list(folder.child("no").list())
    with pytest.raises(StorageError, match="is a folder, not a file"):
        Folder(folder.uri.rpartition("/")[0]).read(folder.uri.rpartition("/")[2])
