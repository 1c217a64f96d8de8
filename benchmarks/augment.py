"""Augmentation ×4 into Parquet, beside bare processes that make the same bytes, and beside two other engines.

    python -m benchmarks.augment             measures and writes benchmarks/results/augment.md

Every job is a whole command in processes of its own, start-up included, on two cores; the jobs take turns.

- *bare*: two processes, half of the pictures each, that read, decode, transform and encode, and write nothing.
- *telltale*: `spark-submit --master local[2] spark_jobs/augment.py`, with its hashing, sorting, counting and manifest.
- *datasets.map* and *Ray Data*: read the same Parquet, map in batches with the same function, write Parquet: no order
  of rows, no names from contents, no manifest. They come with the extra `bench` and are left out where it is absent.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks._common import interleaved, median, spread, table, tile, write_result
from pipeline.decode import decode_canonical
from pipeline.variants import IDENTITY, encode_lossless, transform
from tests.datasets import make_dataset

VARIANTS = (IDENTITY, "hflip", "rot90", "rot270")
CORES = 2
BATCH = 32
ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pyspark", "pyarrow", "pillow", "simplejpeg", "datasets", "ray")


def variants_of(image: bytes) -> Iterator[tuple[str, bytes]]:
    """(name, stored bytes) of each variant: the work that every job does."""
    pixels = decode_canonical(image)
    for name in VARIANTS:
        yield name, image if name == IDENTITY else encode_lossless(transform(name)(pixels))


def multiplied(batch: pa.Table) -> pa.Table:
    """A batch of records, each with all its variants."""
    rows = [
        {**row, "image": image, "variant": name}
        for row in batch.to_pylist()
        for name, image in variants_of(row["image"])
    ]
    return pa.Table.from_pylist(rows, schema=batch.schema)


def parts(dataset: Path) -> list[str]:
    """The training parts of a dataset."""
    return sorted(str(path) for path in dataset.glob("train-*.parquet"))


def bare(dataset: Path, share: int) -> None:
    """One of the bare processes: every second row group, nothing written."""
    groups = [(path, group) for path in parts(dataset) for group in range(pq.read_metadata(path).num_row_groups)]
    for path, group in groups[share::CORES]:
        for image in pq.ParquetFile(path).read_row_group(group, columns=["image"]).column(0):
            for _ in variants_of(image.as_py()):
                pass


def with_datasets(dataset: Path, output: Path) -> None:
    """Hugging Face `datasets.map`, two processes, then Parquet."""
    import datasets

    datasets.disable_progress_bars()
    schema = pq.read_schema(parts(dataset)[0])
    cache = str(output / "cache")
    whole = datasets.Dataset.from_parquet(parts(dataset), cache_dir=cache).with_format("arrow")
    many = whole.map(lambda batch: multiplied(batch.cast(schema)), batched=True, batch_size=BATCH, num_proc=CORES)
    many.to_parquet(output / "train.parquet", batch_size=256)
    shutil.rmtree(cache)


def with_ray(dataset: Path, output: Path) -> None:
    """Ray Data on two cores."""
    import ray

    ray.init(num_cpus=CORES, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_parquet(parts(dataset), override_num_blocks=8 * CORES)
    many = rows.map_batches(multiplied, batch_format="pyarrow", batch_size=BATCH)
    many.write_parquet(str(output))
    ray.shutdown()


def started(job: str, dataset: Path, output: Path, share: int = 0) -> subprocess.Popen[bytes]:
    """A job in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.augment", "--job", job, str(dataset), str(output), str(share)]
    quiet = {"RAY_USAGE_STATS_ENABLED": "0", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(output), "PYTHONWARNINGS": ""}
    if job == "telltale":
        submit = ["spark-submit", "--master", f"local[{CORES}]", str(ROOT / "spark_jobs/augment.py")]
        command = [*submit, "--input", str(dataset), "--output", str(output)]
    environment = os.environ | quiet
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=ROOT)


def ended(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Wait for processes; what a failed one printed becomes the error."""
    for process in processes:
        printed, _ = process.communicate()
        if process.returncode:
            raise SystemExit(f"{process.args!r} failed:\n{printed.decode(errors='replace')[-4000:]}")


def job(name: str, dataset: Path, output: Path) -> Callable[[], None]:
    """A job to time: from nothing to finished, its processes gone."""

    def run() -> None:
        shutil.rmtree(output, ignore_errors=True)
        if name != "telltale":
            output.mkdir(parents=True)
        shares = CORES if name == "bare" else 1
        ended([started(name, dataset, output, share) for share in range(shares)])

    return run


def check_rows(dataset: Path, outputs: Mapping[str, Path]) -> None:
    """Refuse to compare jobs that did not make the same bytes of the same pictures."""
    images = [image.as_py() for path in parts(dataset) for image in pq.read_table(path, columns=["image"]).column(0)]
    expected = sorted(hashlib.sha256(data).digest() for image in images for _, data in variants_of(image))
    for name, output in outputs.items():
        found: list[bytes] = []
        for path in sorted(output.rglob("*.parquet")):
            for batch in pq.ParquetFile(path).iter_batches(256, columns=["image"]):
                found += (hashlib.sha256(image.as_py()).digest() for image in batch.column(0))
        if sorted(found) != expected:
            raise SystemExit(f"{name} made other rows: {len(found)} instead of {len(expected)}")


def measure(folder: Path, pictures: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each job, by name and round."""
    make_dataset(folder / "dataset", {"train": pictures // 2}, size=256, trace=0, scenes=tile)
    make_dataset(folder / "few" / "dataset", {"train": 1}, size=256, trace=0, scenes=tile)
    names = ["bare", "telltale"]
    names += [name for name, package in (("datasets.map", "datasets"), ("Ray Data", "ray")) if _installed(package)]
    outputs = {name: folder / "out" / name for name in names}
    jobs = {name: job(name, folder / "dataset", output) for name, output in outputs.items()}
    jobs["telltale, 2 pictures"] = job("telltale", folder / "few" / "dataset", folder / "out" / "few")
    jobs["bare, 2 pictures"] = job("bare", folder / "few" / "dataset", folder / "out" / "few bare")
    seconds = interleaved(jobs, rounds)
    check_rows(folder / "dataset", {name: output for name, output in outputs.items() if name != "bare"})
    return seconds


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def report(seconds: Mapping[str, list[float]], pictures: int) -> list[str]:
    """The lines of the result."""
    reference = seconds["bare"]
    rows: list[list[object]] = []
    for name, taken in seconds.items():
        if "2 pictures" in name:
            continue
        ratio = median([one / other for one, other in zip(reference, taken, strict=True)])
        rate = pictures / median(taken)
        rows.append([name, f"{median(taken):.1f}", spread(taken), f"{rate:.0f}", f"{ratio:.0%}"])
    start = {name: median(seconds[f"{name}, 2 pictures"]) for name in ("bare", "telltale")}
    inner = [
        (one - start["bare"]) / (other - start["telltale"])
        for one, other in zip(reference, seconds["telltale"], strict=True)
    ]
    absent = [name for name in ("datasets.map", "Ray Data") if name not in seconds]
    return [
        f"{pictures} pictures of 256 px (tiles of photographs), ×{len(VARIANTS)}: "
        f"{', '.join(VARIANTS)}; {len(reference)} rounds, the jobs taking turns, {CORES} cores. "
        "Seconds are medians of whole commands. The rate is in original pictures a second; the ratio is the median "
        "over the rounds of bare time by the job's time. All jobs that write were checked to have written the same "
        "pictures.",
        "",
        *table(["job", "seconds", "lowest to highest", "pictures a second", "of the bare rate"], rows),
        "",
        f"Two pictures take telltale {start['telltale']:.1f} s (Java, Spark, Python workers) and the bare processes "
        f"{start['bare']:.1f} s; with that taken off both, telltale runs at {median(inner):.0%} of the bare rate.",
        *([f"Not installed, so not measured: {', '.join(absent)}."] if absent else []),
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write; or, for the benchmark itself, do one job."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.augment")
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--job", nargs=4, metavar=("NAME", "DATASET", "OUTPUT", "SHARE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.job:
        one_job(*given.job)
        return
    with tempfile.TemporaryDirectory() as folder:
        seconds = measure(Path(folder), given.pictures, given.rounds)
    print(json.dumps(seconds), file=sys.stderr)
    lines = report(seconds, given.pictures // 2 * 2)
    write_result("augment", "Augmentation", lines, PACKAGES, write=not given.no_write)


def one_job(name: str, dataset: str, output: str, share: str) -> None:
    """Do one job in this process."""
    others: dict[str, Callable[[Path, Path], Any]] = {"datasets.map": with_datasets, "Ray Data": with_ray}
    if name == "bare":
        bare(Path(dataset), int(share))
    else:
        others[name](Path(dataset), Path(output))


if __name__ == "__main__":
    main()
