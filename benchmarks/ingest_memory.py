"""What ingest's driver needs a picture: memory of its Python and of its Java process, and its own processor time.

    python -m benchmarks.ingest_memory     prints the table and writes benchmarks/results/ingest_memory.md

A list of made-up files goes through the real ingest: the list read, work lines, facts collected by Spark, duplicates,
near-duplicates, groups, splits, work lines of the parts, rejects, hash of the input, manifest. Only what tasks do with
a picture is replaced, there being none: one makes up what it found in the file, the other writes no part. Each size
runs in a process of its own; the slope between the sizes is what a picture costs. About ten minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks._common import table, write_result
from benchmarks._processes import ROOT, load_average, run, user_environment
from pipeline.canonical import Canonical
from pipeline.cli import say
from pipeline.config import build
from pipeline.layouts import list_input
from pipeline.manifest import FileEntry
from pipeline.perceptual import SIGNATURE_BYTES
from pipeline.storage import Folder
from spark_jobs._facts import Fact, Look, pack
from spark_jobs._write import Part
from spark_jobs.ingest_config import IngestConfig

CACHE: Final = ROOT / ".cache" / "benchmarks" / "ingest_memory"
PACKAGES: Final = ("pyspark", "pyarrow", "numpy")
MIB: Final = 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ingest_memory", description=main.__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[200_000, 1_000_000], help="numbers of files")
    parser.add_argument("--driver-memory", default="512m", help="the Java heap at every size (default: 512m)")
    parser.add_argument("--no-write", action="store_true", help="only print")
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.one:
        print(json.dumps(ingest_made_up(given.one)))
        return
    load = load_average()
    found = [_measured(size, given.driver_memory) for size in given.sizes]
    shutil.rmtree(CACHE, ignore_errors=True)
    lines = [load, *_report(found, given.driver_memory)]
    write_result("ingest_memory", "The driver of ingest", lines, PACKAGES, write=not given.no_write)


def _measured(size: int, memory: str) -> dict[str, Any]:
    say(f"{size:,} files")
    _make_list(size)
    submit = f"--master local[2] --driver-memory {memory} pyspark-shell"
    environment = {**user_environment(), "PYSPARK_SUBMIT_ARGS": submit, "PYTHONPATH": str(ROOT)}
    done = run([sys.executable, "-m", "benchmarks.ingest_memory", "--one", str(size)], environment=environment)
    return {"size": size, "seconds": done.seconds, **json.loads(done.output.splitlines()[-1])}


def _make_list(size: int) -> None:
    """A CSV of so many files of ten sources; one in ten has an explicit group."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{size}.csv", "w", encoding="utf-8") as file:
        file.write("path,label,source,split,group\n")
        for number in range(size):
            label = ("real", "ai")[number // 100 % 2]
            source, group = f"{label}-{number // 100 % 10}", f"pair {number // 20}" if number % 10 == 9 else ""
            file.write(f"{label}/{source}/{number // 1000:06d}/picture-{number:09d}.jpg,{label},{source},,{group}\n")


def ingest_made_up(size: int) -> dict[str, Any]:
    """Ingest a list, its pictures made up; what the process and its Java process needed."""
    from spark_jobs import ingest
    from spark_jobs.session import session

    vars(ingest).update(look=made_up_look, write_part=made_up_part)
    started = time.process_time()
    config = build(IngestConfig, {"layout": "list"})
    output = Folder(str(CACHE / f"{size}-dataset"))
    listing = list_input(str(CACHE / f"{size}.csv"), config)
    ingest._check(listing, output, config)
    listed = time.process_time()
    with session("the driver of ingest") as spark:
        java = spark.sparkContext._gateway.proc.pid  # type: ignore[union-attr]
        document = ingest._ingest(spark, listing, output, config, ingest._fixed_members(listing, config))
        return {
            "listing": listed - started,
            "processor": time.process_time() - started,
            "python": _peak(os.getpid()),
            "java": _peak(java),
            "counts": document["counts"],
        }


def made_up_look(lines: Iterable[str], root: Folder, canonical: Canonical) -> Iterator[Look]:
    """Instead of `spark_jobs._examine.look`."""
    yield pack(_made_up_fact(*json.loads(line)[:2]) for line in lines)


def _made_up_fact(index: int, path: str) -> Fact:
    """One in 100 a copy of the one before, one a near-duplicate of it, one in 1,000 cut short."""
    number = int(re.findall(r"(\d+)\.jpg$", path)[0])
    if number % 1000 == 7:
        return Fact(index, _digest(f"bytes {number}").hex(), reason="truncated", detail="the end is missing")
    same = number - (number % 100 == 11)
    like = number - (number % 100 == 21)
    mark = (_digest(f"mark {like if like != number else same}") + bytes(3))[:SIGNATURE_BYTES]
    if like != number:
        mark = mark[:20] + bytes([mark[20] ^ 1]) + mark[21:]
    return Fact(index, _digest(f"bytes {same}").hex(), _digest(f"pixels {same}")[:16], mark)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def made_up_part(line: str, root: Folder, output: Folder, canonical: Canonical) -> Part:
    """Instead of `spark_jobs._write.write_part`."""
    digest = _digest(line).hex()
    work = json.loads(line)
    name = f"{work['split']}-{work['part']:05d}-{digest[:16]}.parquet"
    return Part(FileEntry(path=name, bytes=len(line), sha256=digest, rows=len(work["rows"])), digest)


def _peak(pid: int) -> int:
    """The highest resident set that a process ever had, in bytes."""
    (found,) = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found) * 1024


def _report(found: list[dict[str, Any]], memory: str) -> list[str]:
    rows = [
        [
            f"{one['size']:,}",
            f"{one['counts']['rows']:,}",
            f"{one['counts']['groups']:,}",
            f"{one['seconds']:.0f}",
            f"{1e6 * one['listing'] / one['size']:.1f}",
            f"{1e6 * one['processor'] / one['size']:.1f}",
            f"{one['python'] / MIB:.0f}",
            f"{one['java'] / MIB:.0f}",
        ]
        for one in found
    ]
    small, large = found[0], found[-1]
    more = large["size"] - small["size"]
    slopes = {name: (large[name] - small[name]) / more for name in ("python", "java")}
    head = ["files", "rows", "groups", "s", "µs to list one", "driver's µs a file", "Python MiB", "Java MiB"]
    return [
        f"- `--master local[2] --driver-memory {memory}`; the Java process is the executor, too",
        "",
        *table(head, rows),
        "",
        f"A further file costs {slopes['python']:.0f} bytes in Python and {slopes['java']:.0f} in Java (peaks of the "
        "resident set), its path of about 40 characters included. µs are processor time of the driver's Python "
        "process; seconds are those of the whole command, that is also of comparing the signatures in Spark.",
    ]


if __name__ == "__main__":
    main()
