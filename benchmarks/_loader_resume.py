"""How long a run in mid-epoch takes to its first batch when the split is large; prints one line of JSON.

    python -m benchmarks._loader_resume RUN ROWS WORKERS START      START 0 to 1: where in the epoch

The split is made up: so many row groups, each of which is one of the few of RUN's training shards. So the order is that
of a split of ROWS rows, and the first batch is really read and decoded.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from itertools import cycle, islice
from pathlib import Path

from benchmarks._loader_contenders import BATCH
from training.config import TrainingConfig
from training.inputs import Inputs, Split, read_inputs
from training.loader import Batches
from training.order import epoch_order

__all__ = ["resume", "stretched"]


def stretched(inputs: Inputs, rows: int) -> Split:
    """A split of at least so many rows, of the row groups of the training split over and over."""
    groups = inputs.train.groups
    many = tuple(islice(cycle(groups), -(-rows * len(groups) // inputs.train.rows)))
    return dataclasses.replace(inputs.train, groups=many)


def resume(run: Path, rows: int, workers: int, start: float) -> dict[str, float]:
    """Seconds until the order of an epoch is known, until its first batch is there, and how many rows that was of."""
    inputs = read_inputs(str(run / "shards"), str(run / "stats.json"), check_shards=False)
    split, window = stretched(inputs, rows), TrainingConfig().shuffle_row_groups
    begin = time.perf_counter()
    epoch_order([group.rows for group in split.groups], inputs.shards, 0, 3, window)
    ordered = time.perf_counter() - begin
    begin = time.perf_counter()
    batches = Batches(inputs, split, BATCH, workers, window, seed=0)
    batch = next(batches.epoch(3, int(start * (len(batches) - 1))))
    return {"rows": batches.rows, "order": ordered, "batch": time.perf_counter() - begin, "pictures": len(batch.ids)}


if __name__ == "__main__":
    print("\n" + json.dumps(resume(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))))
