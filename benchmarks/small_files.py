"""Many small files: what it costs to list them, and what it would cost to give each one a task of its own.

    python -m benchmarks.small_files     prints the tables and writes benchmarks/results/small_files.md

Ingest of 20,000 pictures of 64 pixels, loose files on the HDFS of a cluster that is started for it (`cluster/`), with
128 files a task and, once, with one; and how long it takes to list them. About half an hour on two idle cores.
"""

from __future__ import annotations

import argparse
import io
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks._common import median, spread, table, tile, write_result
from benchmarks._lake import put_lake
from benchmarks._processes import ROOT, Measured, load_average, run, user_environment
from cluster import Cluster
from pipeline.cli import say
from pipeline.layouts import Layouts, list_input
from pipeline.storage import Folder
from pipeline.workflow import spark_submit

CACHE: Final = ROOT / ".cache" / "benchmarks" / "small_files"
PACKAGES: Final = ("pyspark", "pyarrow", "pillow", "simplejpeg")
SIDE: Final = 64
START_UP: Final = 20  # pictures
FOLDERS: Final = ("real/camera", "ai/generator")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_files", description=main.__doc__)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3, help="runs of all but one file a task (default: 3)")
    parser.add_argument("--no-write", action="store_true", help="only print")
    given = parser.parse_args(arguments)
    load = load_average()
    counts = (START_UP, given.pictures)
    shutil.rmtree(CACHE, ignore_errors=True)
    for count in counts:
        _make(CACHE / "pictures" / f"{count}", count)
    with Cluster(CACHE / "cluster").running() as cluster:
        home, environment = f"{cluster.default_fs}/tmp/small", user_environment(cluster.environment())
        say(f"{put_lake(CACHE / 'pictures', home, environment):.0f} s to put {sum(counts):,} files into {home}")
        listing = [_listing_seconds(f"{home}/pictures/{given.pictures}", given.pictures) for _ in range(5)]
        found = _ingests(home, environment, given.pictures, given.rounds)
    shutil.rmtree(CACHE)
    lines = [load, *_report(found, listing, given.pictures)]
    write_result("small_files", "Many small files", lines, PACKAGES, write=not given.no_write)


def _make(folder: Path, count: int) -> None:
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    for number in range(count):
        data = io.BytesIO()
        Image.fromarray(tile(number, SIDE, SIDE)).save(data, "JPEG", quality=90)
        (folder / FOLDERS[number % 2] / f"{number:06d}.jpg").write_bytes(data.getvalue())


def _listing_seconds(folder: str, count: int) -> float:
    started = time.perf_counter()
    listing = list_input(folder, Layouts())
    seconds = time.perf_counter() - started
    if len(listing.references) != count:
        raise RuntimeError(f"{len(listing.references)} files were listed, not {count}")
    return seconds


def _ingests(
    home: str, environment: Mapping[str, str], pictures: int, rounds: int
) -> dict[tuple[int, int], list[Measured]]:
    """Runs by (pictures, files a task), the long one once and last; all of one size give the same manifest."""
    found: dict[tuple[int, int], list[Measured]] = {}
    manifests: dict[int, set[bytes]] = {}
    results = Folder(f"{home}/dataset")
    often = [(START_UP, 128), (pictures, 128)] * rounds
    for count, each in [*often, (pictures, 1)]:
        words = [spark_submit(), "--master", "local[2]", "spark_jobs/ingest.py", "--input", f"{home}/pictures/{count}"]
        words += ["--output", results.uri]
        words += ["--set", f"files_per_task={each}", "--set", f"canonical.geometry.size={SIDE}"]
        one = run(words, environment=environment)
        say(f"{count:,} pictures, {each} a task: {one.seconds:.1f} s")
        found.setdefault((count, each), []).append(one)
        manifests.setdefault(count, set()).add(results.read("manifest.json"))
        results.remove("")
    if any(len(different) > 1 for different in manifests.values()):
        raise RuntimeError("the datasets differ")
    return found


def _report(found: dict[tuple[int, int], list[Measured]], listing: list[float], pictures: int) -> list[str]:
    seconds = {key: median([one.seconds for one in runs]) for key, runs in found.items()}
    rows = [
        [f"{count:,}", each, f"{seconds[count, each]:.1f}", spread([one.seconds for one in runs])]
        for (count, each), runs in found.items()
    ]
    many, few = seconds[pictures, 1], seconds[pictures, 128]
    task = (many - few) / (pictures - -(-pictures // 128))
    return [
        f"- Pictures of {SIDE} px, loose JPEG files on HDFS, by `--master local[2]`; the same manifest every time",
        "",
        *table(["pictures", "files a task", "s", "lowest to highest"], rows),
        "",
        f"The whole command takes {many / few:.1f} times as long with one file a task as with 128: a task costs "
        f"{1000 * task:.0f} ms. The {START_UP} pictures show how much of it is start-up.",
        "",
        f"Listing {pictures:,} files takes {median(listing):.2f} s ({spread(listing, '.2f')}), "
        f"{1e6 * median(listing) / pictures:.0f} µs a file: {median(listing) / few:.1%} of the whole command.",
    ]


if __name__ == "__main__":
    main()
