"""Statistics against a bare loop that reads, decodes and counts the same pictures on the same core.

    python -m benchmarks.statistics            prints the table and writes benchmarks/results/statistics.md

Whole commands are measured from outside, the interpreter's start included, taking turns on one core. The bare loop
(benchmarks/_bare_loop.py) reads loose JPEG files and decodes them with simplejpeg, strictly: the fastest of the strict
decoders (benchmarks/decoders.py).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks._common import median, spread, table, tile, write_result
from benchmarks._processes import ROOT, Measured, load_average, run
from pipeline.canonical import Canonical, CanonicalPicture
from pipeline.config import as_dict
from pipeline.decode import Original
from pipeline.harmonise import draw_quality, harmonise
from pipeline.manifest import canonical_json, file_entries, seal
from pipeline.parquet import write_parquet
from pipeline.records import SCHEMA_VERSION
from pipeline.storage import Folder

SIDE, PART = 256, 2048
PACKAGES = ("numpy", "pillow", "simplejpeg", "pyarrow", "mrjob")


def picture(number: int) -> bytes:
    """A canonical picture as ingest stores one of the training split."""
    setting = Canonical().harmonise
    return harmonise(tile(number, SIDE, SIDE), draw_quality(f"{number:064x}", setting), setting)


def make(folder: Path, count: int) -> tuple[Path, Path]:
    """The same pictures as a dataset and as loose files, made once."""
    dataset, loose = folder / f"{count}-dataset", folder / f"{count}-loose"
    if (dataset / "manifest.json").exists():
        return dataset, loose
    loose.mkdir(parents=True, exist_ok=True)
    files = []
    for first in range(0, count, PART):
        numbers = range(first, min(first + PART, count))
        for number in numbers:
            (loose / f"{number:06d}.jpg").write_bytes(picture(number))
        rows = [row(number, (loose / f"{number:06d}.jpg").read_bytes()) for number in numbers]
        files.append(write_parquet(Folder(str(dataset)), f"train-{first // PART:05d}", rows))
    document = {
        "kind": "dataset",
        "schema_version": SCHEMA_VERSION,
        "config": {"canonical": as_dict(Canonical())},
        "files": file_entries(files),
        "counts": {"splits": {"train": {"rows": count}}},
    }
    Folder(str(dataset)).put("manifest.json", canonical_json(seal(document)))
    return dataset, loose


def row(number: int, image: bytes) -> dict[str, Any]:
    """A record of the training split."""
    original = Original("JPEG", SIDE, SIDE, len(image), None, False)
    stored = CanonicalPicture(image, 90, f"{number:064x}", original)
    label = number % 2
    rest = {"split": "train", "group_id": stored.image_id, "variant": "identity", "path": f"{number:06d}.jpg"}
    return {**stored.columns(), **rest, "label": label, "source": ("camera", "generator")[label]}


def measure(folder: Path, count: int, rounds: int) -> dict[str, list[Measured]]:
    """Run the three commands in turn; the first round warms the files up and is left out."""
    dataset, loose = make(folder, count)
    here = [sys.executable, "-m"]
    commands = {
        "statistics": [*here, "mapreduce.stats", "-r", "inline", str(dataset)],
        "bare": [*here, "benchmarks._bare_loop", str(loose)],
        "decode": [*here, "benchmarks._bare_loop", str(loose), "--no-counting"],
    }
    found: dict[str, list[Measured]] = {name: [] for name in commands}
    for number in range(rounds + 1):
        for name, command in commands.items():
            measured = run(command)
            if number:
                found[name].append(measured)
    counted = json.loads(found["statistics"][0].output)["histogram"]
    if sum(counted, []) != json.loads(found["bare"][0].output):  # noqa: RUF017
        raise RuntimeError("the statistics and the bare loop disagree")
    return found


def report(all_of: dict[str, list[Measured]], one_of: dict[str, list[Measured]], count: int) -> list[list[object]]:
    """A row a command: seconds, pictures a second, ratios by the clock and processor time, and the cost after start."""
    names = {
        "statistics": "`mapreduce.stats -r inline`",
        "bare": "bare loop: read, decode, count",
        "decode": "read and decode alone",
    }

    def seconds(runs: list[Measured]) -> float:
        return median([item.seconds for item in runs])

    def processor(runs: list[Measured]) -> float:
        return median([item.processor for item in runs])

    def after_start(name: str) -> float:
        return (processor(all_of[name]) - processor(one_of[name])) / (count - 1)

    rows: list[list[object]] = []
    for name, words in names.items():
        clock = seconds(all_of[name])
        ratios = [
            f"{seconds(all_of[other]) / clock:.0%}, {processor(all_of[other]) / processor(all_of[name]):.0%}"
            for other in ("bare", "decode")
        ]
        rows.append(
            [
                words,
                f"{clock:.2f} ({spread([item.seconds for item in all_of[name]], '.2f')})",
                f"{count / clock:,.0f}",
                *ratios,
                f"{seconds(one_of[name]):.2f}",
                f"{1000 * after_start(name):.3f}",
                f"{after_start('bare') / after_start(name):.0%}",
            ]
        )
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.statistics", description=__doc__)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", action="store_true", help="only print")
    given = parser.parse_args(arguments)
    load = load_average()
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})  # the children inherit it
    folder = ROOT / ".cache" / "benchmarks" / "statistics"
    all_of = measure(folder, given.pictures, given.rounds)
    one_of = measure(folder, 1, given.rounds)
    os.sched_setaffinity(0, cores)
    head = [
        "command", "seconds (range)", "pictures/s", "rate to the bare loop's: clock, processor",
        "rate to decoding's: clock, processor", "seconds for 1 picture", "ms/picture after start", "to the bare loop's",
    ]  # fmt: skip
    lines = [
        load,
        f"- {given.pictures:,} canonical pictures, {SIDE} px, JPEG of quality 80 to 98; one core; median of "
        f"{given.rounds} runs of whole commands, taking turns; files in the page cache; the same histograms to the bit",
        "",
        *table(head, report(all_of, one_of, given.pictures)),
        "",
        "Milliseconds after start are processor time: what a further picture costs.",
    ]
    write_result("statistics", "Statistics against a bare loop", lines, PACKAGES, write=not given.no_write)


if __name__ == "__main__":
    main()
