"""What the tests of HDFS as storage share: a file of some blocks, how it is read, and how its replicas are broken."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from cluster import Cluster
from pipeline.storage import Folder

__all__ = ["DATA", "DATA_NODES", "READS", "damage", "stopped"]

DATA: Final = random.Random(0).randbytes(48 << 20)
DATA_NODES: Final = ("datanode-1", "datanode-2")


def damage(cluster: Cluster, node: str, since: float) -> None:
    """Change one byte in the middle of every block that the DataNode has written since."""
    found = cluster.folder(node).rglob("blk_*")
    blocks = [path for path in found if path.suffix != ".meta" and path.stat().st_mtime >= since]
    assert blocks
    for block in blocks:
        with open(block, "r+b") as file:
            file.seek(block.stat().st_size // 2)
            byte = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte[0] ^ 1]))


def _by_and_by(folder: Folder) -> bytes:
    with folder.open("a") as stream:
        return b"".join(iter(lambda: stream.read(700_000), b""))


READS: Final[dict[str, Callable[[Folder], bytes]]] = {"whole": lambda folder: folder.read("a"), "by and by": _by_and_by}


@contextmanager
def stopped(cluster: Cluster, *nodes: str) -> Iterator[None]:
    """Daemons that hold their connections and do nothing."""
    pids = [pid for node in nodes if (pid := cluster.pid(node)) is not None]
    assert len(pids) == len(nodes)
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
