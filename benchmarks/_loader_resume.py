"""How long a run in mid-epoch takes to its first batch when the split is large; prints one line of JSON.

    python -m benchmarks._loader_resume RUN ROWS WORKERS START      START 0 to 1: where in the epoch

The manifest is made up: it names each training shard of RUN often enough for ROWS rows, every time by another name, by
which a link to it is there. So all of the manifest, the shards' footers and labels and the order are those of so many
rows, and the first batch is really read and decoded.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks._loader_contenders import BATCH
from pipeline.manifest import SEAL, publish, read_sealed
from pipeline.storage import Folder
from training.config import TrainingConfig
from training.inputs import read_inputs
from training.loader import Batches
from training.order import epoch_order

__all__ = ["enlarge", "resume"]


def enlarge(run: Path, rows: int, place: Path) -> None:
    """Shards of at least so many training rows, those of a run over and over, and its statistics."""
    document = read_sealed(Folder(str(run / "shards")), "manifest.json", "shards")
    (place / "shards").mkdir()
    (place / "stats.json").hardlink_to(run / "stats.json")
    training = [entry for entry in document["files"] if entry["path"].startswith("train-")]
    files = [entry for entry in document["files"] if entry not in training]
    for entry in files:
        (place / "shards" / entry["path"]).hardlink_to(run / "shards" / entry["path"])
    left = rows
    for number, entry in enumerate(cycle(training)):
        if left <= 0:
            break
        name = f"train-{number:07d}.parquet"
        (place / "shards" / name).hardlink_to(run / "shards" / entry["path"])
        files.append({**entry, "path": name})
        left -= entry["rows"]
    body: dict[str, Any] = {key: value for key, value in document.items() if key != SEAL}
    publish(Folder(str(place / "shards")), "manifest.json", {**body, "files": files})


def resume(run: Path, rows: int, workers: int, start: float) -> dict[str, float]:
    """Seconds that the inputs took, the order of an epoch, and the loader to its first batch; of how many rows."""
    with tempfile.TemporaryDirectory(dir=run.parent, prefix=".resume-") as scratch:
        enlarge(run, rows, Path(scratch))
        begin = time.perf_counter()
        inputs = read_inputs(os.path.join(scratch, "shards"), os.path.join(scratch, "stats.json"), check_shards=False)
        read, window = time.perf_counter() - begin, TrainingConfig().shuffle_row_groups
        begin = time.perf_counter()
        epoch_order([group.rows for group in inputs.train.groups], inputs.shards, 0, 3, window)
        ordered = time.perf_counter() - begin
        begin = time.perf_counter()
        batches = Batches(inputs, inputs.train, BATCH, workers, window, seed=0)
        batch = next(batches.epoch(3, int(start * (len(batches) - 1))))
        seconds = time.perf_counter() - begin
    return {"rows": batches.rows, "inputs": read, "order": ordered, "batch": seconds, "pictures": len(batch.ids)}


if __name__ == "__main__":
    print("\n" + json.dumps(resume(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
