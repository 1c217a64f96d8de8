"""A run folder ready for training, made in-process: dataset, statistics and shards as their stages would write them.

    run = make_run(tmp_path / "x", {"train": 100, "val": 20})   # pictures of each label
    train(run, "epochs=2")                                      # the user's command, in this process

Each training row comes as `identity` and, losslessly as PNG, as `hflip`; row groups are those of the product.
"""

from __future__ import annotations

import hashlib
import io
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from PIL import Image

from pipeline.decode import decode_canonical
from pipeline.manifest import FileEntry, file_entries, library_versions, publish
from pipeline.parquet import write_parquet
from pipeline.records import SCHEMA_VERSION
from pipeline.storage import Folder
from tests.datasets import make_dataset
from training.checkpoint import Checkpoint, Checkpoints
from training.run import main

PICTURES: Mapping[str, int] = {"train": 40, "val": 20}

SMALL: Mapping[str, Any] = {
    "model": "test_efficientnet",
    "pretrained": "false",
    "epochs": 2,
    "batch_size": 32,
    "lr": 0.003,
    "threads": 1,
    "device": "cpu",
}
"""Settings of a run of seconds."""


def sets(**changes: Any) -> list[str]:
    """`--set` options of `SMALL` with changes; `__` in a name stands for a dot."""
    values = {**SMALL, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [text for key, value in values.items() for text in ("--set", f"{key}={value}")]


def train(run: Path, *options: str, **changes: Any) -> int:
    """`python -m training.run` on a run folder, in this process; errors are raised."""
    return main(["--run-dir", str(run), *options, *sets(**changes)])


def stop_soon(run: Path, arguments: Sequence[str]) -> None:
    """Train in this process, which gets a SIGTERM as soon as the log is open: it stops after the first step or two.

    Raises:
        TelltaleError: saying that the run was stopped.
    """

    def tell() -> None:
        deadline = time.monotonic() + 120
        while not (run / "logs" / "metrics.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # should it come late, the test is to fail, not to die
    teller = threading.Thread(target=tell)
    teller.start()
    try:
        main(arguments)
    finally:
        teller.join()
        signal.signal(signal.SIGTERM, before)


def make_run(
    run: Path,
    pictures: Mapping[str, int] = PICTURES,
    rows_per_shard: int = 64,
    only: Mapping[str, int] | None = None,
    **options: Any,
) -> Path:
    """Write `dataset/`, `stats.json` and `shards/` below a folder; options go to `make_dataset`.

    only: by split, the one label whose rows the shards keep, for tests of what training refuses.
    """
    dataset = make_dataset(run / "dataset", pictures, **options)
    kept = dict(only or {})
    rows = [row for row in _rows(run / "dataset", dataset) if row["label"] == kept.get(row["split"], row["label"])]
    make_stats(run, dataset["sha256"], rows)
    make_shards(run, dataset, rows, rows_per_shard)
    return run


def _rows(folder: Path, dataset: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        row
        for entry in dataset["files"]
        if entry["path"] != "rejects.parquet"
        for row in pq.read_table(folder / entry["path"]).to_pylist()
    ]


def make_stats(run: Path, dataset: str, rows: Sequence[Mapping[str, Any]] = (), **changes: Any) -> None:
    """Write `stats.json` over the training rows."""
    mean, std = [0.5, 0.5, 0.5], [0.25, 0.25, 0.25]
    pixels = [decode_canonical(row["image"]) for row in rows if row["split"] == "train"]
    if pixels:
        stack = np.stack(pixels).reshape(-1, 3) / 255.0
        mean, std = stack.mean(axis=0).tolist(), stack.std(axis=0).tolist()
    body = {"kind": "stats", "stage_version": 1, "parents": {"dataset": dataset}, "mean": mean, "std": std}
    publish(Folder(str(run)), "stats.json", {**body, **changes}, overwrite=True)


def make_shards(
    run: Path, dataset: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], rows_per_shard: int = 64
) -> None:
    """Write `shards/`."""
    folder, files = Folder(str(run / "shards")), list[FileEntry]()
    for split in ("train", "val", "test", "ood"):
        mine = [dict(row) for row in rows if row["split"] == split]
        if split == "train":
            mine = [variant for row in mine for variant in (row, flipped(row))]
        mine.sort(key=lambda row: hashlib.sha256(f"{row['image_id']}/{row['variant']}".encode()).digest())
        for number, first in enumerate(range(0, len(mine), rows_per_shard)):
            files.append(write_parquet(folder, f"{split}-{number:05d}", mine[first : first + rows_per_shard]))
    publish_shards(run, dataset["sha256"], files, dataset["config"]["canonical"])


def publish_shards(run: Path, dataset: str, files: Sequence[FileEntry], canonical: Any, **changes: Any) -> None:
    """Write the shards' manifest."""
    body = {
        "kind": "shards",
        "stage_version": 1,
        "schema_version": SCHEMA_VERSION,
        "config": {"variants": ["identity", "hflip"]},
        "libraries": library_versions("pyarrow"),
        "parents": {"dataset": dataset},
        "canonical": canonical,
        "files": file_entries(files),
        **changes,
    }
    publish(Folder(str(run / "shards")), "manifest.json", body, overwrite=True)


def newest(run: Path) -> Checkpoint:
    """The newest checkpoint of an unfinished run, which has one."""
    found = Checkpoints(Folder(str(run / "logs" / "checkpoints")), 1).latest()
    assert found is not None
    return found


def flipped(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row's mirror image, as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(decode_canonical(row["image"])[:, ::-1]).save(buffer, format="PNG")
    return {**row, "image": buffer.getvalue(), "variant": "hflip"}


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass
