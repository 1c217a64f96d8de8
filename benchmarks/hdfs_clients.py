"""Which client reads HDFS: hdfs-native (what pipeline.storage uses) beside WebHDFS, on real daemons.

    python -m benchmarks.hdfs_clients    starts a cluster, prints the tables, writes benchmarks/results/hdfs_clients.md

Speed: a shard of Parquet read whole and by row groups, in turns. Safety: the same shard with one byte changed on the
disk of one DataNode, of the other, of both, and with a DataNode killed while it is read. libhdfs, the third candidate,
needs a JVM and a native library that is in none of Hadoop's JARs, so it cannot run in a container that has only Python;
it is not measured. About three minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._common import interleaved, median, spread, table, write_result
from cluster import Cluster
from pipeline.cli import say
from pipeline.storage import Folder

NODES: Final = ("datanode-1", "datanode-2")
GROUPS: Final = 16
ROWS: Final = 256
PICTURE: Final = 32_000  # bytes
PACKAGES: Final = ("hdfs-native", "fsspec", "requests", "pyarrow")

Open = Callable[[], BinaryIO]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hdfs_clients", description=main.__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="how often everything is read (default: 7)")
    parser.add_argument("--no-write", action="store_true", help="only print")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as place, Cluster(Path(place) / "cluster").running() as cluster:
        lines = _measure(cluster, given.rounds)
    write_result("hdfs_clients", "HDFS clients", lines, PACKAGES, not given.no_write)


def _measure(cluster: Cluster, rounds: int) -> list[str]:
    shard = _shard()
    folder = Folder(f"{cluster.default_fs}/tmp/benchmark")
    folder.put("shard.parquet", shard)
    clients = _clients(cluster, folder, "shard.parquet")
    size = f"{len(shard) / 2**20:.0f} MiB, {GROUPS} row groups of {ROWS}"
    lines = [f"- Shard: {size}; two DataNodes on this machine; blocks in the page cache; {rounds} rounds in turns", ""]
    lines += _speed(clients, shard, rounds)
    return [*lines, "", *_safety(cluster, folder, shard)]


def _shard() -> bytes:
    """Parquet as shards are: uncompressed pictures, 256 rows a group."""
    source, sink = random.Random(0), io.BytesIO()
    schema = pa.schema([("image", pa.binary()), ("label", pa.int8()), ("image_id", pa.string())])
    with pq.ParquetWriter(sink, schema, compression="none", use_dictionary=False, write_statistics=False) as writer:
        for _ in range(GROUPS):
            images = [source.randbytes(PICTURE) for _ in range(ROWS)]
            rows = pa.table([images, [0] * ROWS, ["x" * 64] * ROWS], schema=schema)
            writer.write_table(rows, row_group_size=ROWS)
    return sink.getvalue()


def _clients(cluster: Cluster, folder: Folder, name: str) -> dict[str, Open]:
    """How each client opens a file."""
    from fsspec.implementations.webhdfs import WebHDFS

    page = urlsplit(cluster.page("namenode"))
    web = WebHDFS(page.hostname, page.port, user=os.environ.get("USER", "root"))
    path = f"{urlsplit(folder.uri).path}/{name}"
    return {
        "hdfs-native": lambda: folder.open(name),
        "WebHDFS": lambda: web.open(path, "rb", block_size=8 << 20),
    }


def _whole(open_file: Open) -> bytes:
    with open_file() as stream:
        return b"".join(iter(lambda: stream.read(1 << 20), b""))


def _row_groups(open_file: Open) -> int:
    """Every row group once, in an order as training has it."""
    order = list(range(GROUPS))
    random.Random(1).shuffle(order)
    with open_file() as stream, pq.ParquetFile(stream, pre_buffer=False) as file:
        return sum(file.read_row_group(group, use_threads=False).num_rows for group in order)


def _speed(clients: dict[str, Open], shard: bytes, rounds: int) -> list[str]:
    ways: dict[str, Callable[[Open], Any]] = {"whole file": _whole, "row groups, shuffled": _row_groups}
    rows = []
    for way, read in ways.items():
        jobs = {name: (lambda read=read, opened=opened: read(opened)) for name, opened in clients.items()}
        for job in jobs.values():
            job()  # connections and caches
        seconds = interleaved(jobs, rounds)
        base = median(seconds["hdfs-native"])
        for name, values in seconds.items():
            rate = len(shard) / 2**20 / median(values)
            rows.append(
                [
                    way,
                    name,
                    f"{median(values):.3f}",
                    spread(values, ".3f"),
                    f"{rate:.0f}",
                    f"{median(values) / base:.2f}",
                ]
            )
    return table(["read", "client", "s", "lowest to highest", "MiB/s", "× hdfs-native"], rows)


def _safety(cluster: Cluster, folder: Folder, shard: bytes) -> list[str]:
    cases = {
        "a byte changed on DataNode 1": lambda name, since: _damage(cluster, NODES[:1], since),
        "a byte changed on DataNode 2": lambda name, since: _damage(cluster, NODES[1:], since),
        "a byte changed on both": lambda name, since: _damage(cluster, NODES, since),
    }
    rows = []
    for number, (case, spoil) in enumerate(cases.items()):
        name, since = f"spoilt-{number}.parquet", time.time() - 1
        folder.put(name, shard)
        spoil(name, since)
        for client, open_file in _clients(cluster, folder, name).items():
            rows.append([case, client, _outcome(open_file, shard)])
    for client in ("hdfs-native", "WebHDFS"):
        name = f"killed-{client}.parquet"
        folder.put(name, shard)
        killed = _outcomes_with_kills(cluster, _clients(cluster, folder, name)[client], shard)
        rows.append(["a DataNode killed while it is read (each in turn)", client, killed])
    return table(["what happens", "client", "what comes back"], rows)


def _damage(cluster: Cluster, nodes: Sequence[str], since: float) -> None:
    for node in nodes:
        for block in cluster.folder(node).rglob("blk_*"):
            if block.suffix != ".meta" and block.stat().st_mtime >= since:
                with open(block, "r+b") as file:
                    file.seek(block.stat().st_size // 2)
                    byte = file.read(1)
                    file.seek(-1, os.SEEK_CUR)
                    file.write(bytes([byte[0] ^ 1]))


def _outcomes_with_kills(cluster: Cluster, open_file: Open, shard: bytes) -> str:
    found = []
    for node in NODES:

        def kill(node: str = node) -> None:
            cluster.kill(node)

        found.append(_outcome(open_file, shard, kill))
        cluster.start(node)
        cluster.wait_ready()
    return found[0] if found[0] == found[1] else "; ".join(found)


def _outcome(open_file: Open, shard: bytes, meanwhile: Callable[[], None] | None = None) -> str:
    try:
        with open_file() as stream:
            data = stream.read(len(shard) // 4)
            if meanwhile:
                meanwhile()
            data += b"".join(iter(lambda: stream.read(1 << 20), b""))
    except Exception as error:
        return f"an error ({type(error).__name__})"
    return "the right bytes" if data == shard else f"**wrong bytes** ({len(data):,} of {len(shard):,})"


if __name__ == "__main__":
    say("starting a cluster")
    main()
