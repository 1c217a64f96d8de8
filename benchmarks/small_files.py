"""Many small files: what it costs to list them, and what it would cost to give each one a task of its own.

    python -m benchmarks.small_files     prints the tables and writes benchmarks/results/small_files.md

Ingest of 4,000 pictures of 64 pixels, loose files in a local folder, with 128 files a task and with one, in turns; and
the listing of 20,000 such files. About five minutes on two idle cores.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image

from benchmarks._common import median, spread, table, tile, write_result
from benchmarks._processes import ROOT, Measured, load_average, run
from pipeline.cli import say
from pipeline.layouts import Layouts, list_input
from pipeline.workflow import spark_submit

CACHE: Final = ROOT / ".cache" / "benchmarks" / "small_files"
PACKAGES: Final = ("pyspark", "pyarrow", "pillow", "simplejpeg")
SIDE: Final = 64
START_UP: Final = 20  # pictures
FOLDERS: Final = ("real/camera", "ai/generator")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.small_files", description=main.__doc__)
    parser.add_argument("--pictures", type=int, default=4000)
    parser.add_argument("--listed", type=int, default=20_000, help="files to list (default: 20,000)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="only print")
    given = parser.parse_args(arguments)
    load = load_average()
    shutil.rmtree(CACHE, ignore_errors=True)
    for count in (START_UP, given.pictures):
        _make(CACHE / f"{count}", count, range(count))
    _make(CACHE / "listed", given.pictures, range(given.listed))
    listing = [_listing_seconds(given.listed) for _ in range(2 * given.rounds)]
    found = _ingests(given.pictures, given.rounds)
    shutil.rmtree(CACHE)
    lines = [load, *_report(found, listing, given.pictures, given.listed)]
    write_result("small_files", "Many small files", lines, PACKAGES, write=not given.no_write)


def _make(folder: Path, distinct: int, numbers: range) -> None:
    """So many files; those beyond the number of distinct pictures are links to them, since they are only listed."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True)
    for number in numbers:
        path = folder / FOLDERS[number % 2] / f"{number:06d}.jpg"
        if number < distinct:
            data = io.BytesIO()
            Image.fromarray(tile(number, SIDE, SIDE)).save(data, "JPEG", quality=90)
            path.write_bytes(data.getvalue())
        else:
            os.link(folder / FOLDERS[number % 2] / f"{number % distinct:06d}.jpg", path)


def _listing_seconds(count: int) -> float:
    started = time.perf_counter()
    listing = list_input(str(CACHE / "listed"), Layouts())
    seconds = time.perf_counter() - started
    if len(listing.references) != count:
        raise RuntimeError(f"{len(listing.references)} files were listed, not {count}")
    return seconds


def _ingests(pictures: int, rounds: int) -> dict[tuple[int, int], list[Measured]]:
    """Runs by (pictures, files a task), in turns; all of one size give the same manifest."""
    found: dict[tuple[int, int], list[Measured]] = {}
    manifests: dict[int, set[bytes]] = {}
    for number in range(rounds):
        for count, each in ((START_UP, 128), (pictures, 128), (pictures, 1)):
            say(f"round {number + 1}: {count} pictures, {each} a task")
            output = CACHE / "dataset"
            words = [spark_submit(), "--master", "local[2]", "spark_jobs/ingest.py", "--input", str(CACHE / f"{count}")]
            words += [
                "--output",
                str(output),
                "--set",
                f"files_per_task={each}",
                "--set",
                f"canonical.geometry.size={SIDE}",
            ]
            found.setdefault((count, each), []).append(run(words))
            manifests.setdefault(count, set()).add((output / "manifest.json").read_bytes())
            shutil.rmtree(output)
    if any(len(different) > 1 for different in manifests.values()):
        raise RuntimeError("the datasets differ")
    return found


def _report(
    found: dict[tuple[int, int], list[Measured]], listing: list[float], pictures: int, listed: int
) -> list[str]:
    seconds = {key: median([one.seconds for one in runs]) for key, runs in found.items()}
    rows = [
        [f"{count:,}", each, f"{seconds[count, each]:.1f}", spread([one.seconds for one in runs])]
        for (count, each), runs in found.items()
    ]
    many, few = seconds[pictures, 1], seconds[pictures, 128]
    task = (many - few) / (pictures - -(-pictures // 128))
    return [
        f"- Pictures of {SIDE} px, loose JPEG files in a local folder, in the page cache; the same manifest every time",
        "",
        *table(["pictures", "files a task", "s", "lowest to highest"], rows),
        "",
        f"The whole command takes {many / few:.1f} times as long with one file a task as with 128: a task costs "
        f"{1000 * task:.0f} ms. The {START_UP} pictures show how much of it is start-up.",
        "",
        f"Listing {listed:,} files takes {median(listing):.2f} s ({spread(listing, '.2f')}): "
        f"{1e6 * median(listing) / listed:.0f} µs a file.",
    ]


if __name__ == "__main__":
    main()
