"""One job of `loader` in a process of its own; prints one line of JSON, last.

python -m benchmarks._loader_job write NAME RUN FOLDER FILES     the rows of the shards, in a loader's own format
python -m benchmarks._loader_job expected - RUN                  a digest of every row's id, label and pixels
python -m benchmarks._loader_job check NAME FOLDER WORKERS       that of two epochs, as the loader delivers them
python -m benchmarks._loader_job time NAME FOLDER WORKERS        seconds of two epochs after a first one
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._loader_contenders import BATCH, LOADERS, Delivered, rows_of
from pipeline.decode import decode_canonical

__all__ = ["digest", "marks_of"]

Mark = tuple[str, int, str]
"""id, label, sha256 of the pixels."""


def digest(marks: Iterable[Mark]) -> str:
    """Of a multiset of pictures: the same in any order, another when one is missing, repeated or changed."""
    return hashlib.sha256("\n".join(repr(mark) for mark in sorted(marks)).encode()).hexdigest()


def marks_of(batches: Iterable[Delivered]) -> list[Mark]:
    """What batches hold, in their order.

    Raises:
        ValueError: a batch is not of at most `BATCH` uint8 pictures with as many labels and ids.
    """
    found: list[Mark] = []
    for pixels, labels, ids in batches:
        shape = tuple(pixels.shape)
        if pixels.dtype != torch.uint8 or len(shape) != 4 or shape[3] != 3 or not 0 < shape[0] <= BATCH:
            raise ValueError(f"a batch of {pixels.dtype} {shape}")
        for picture, label, name in zip(pixels.numpy(), labels, ids, strict=True):
            found.append((str(name), int(label), hashlib.sha256(np.ascontiguousarray(picture).tobytes()).hexdigest()))
    return found


def _expected(run: Path) -> dict[str, Any]:
    rows = [
        (row["id"], int(row["label"]), hashlib.sha256(decode_canonical(row["image"]).tobytes()).hexdigest())
        for row in rows_of(run)
    ]
    return {"digest": digest(rows), "rows": len(rows), "stored": [row[0] for row in rows[: 2 * BATCH]]}


def _check(name: str, folder: Path, workers: int) -> dict[str, Any]:
    epochs = LOADERS[name].epochs(folder, workers)
    seen = [marks_of(epochs(number)) for number in range(2)]
    return {
        "digests": [digest(marks) for marks in seen],
        "rows": [len(marks) for marks in seen],
        "first": [[mark[0] for mark in marks[: 2 * BATCH]] for marks in seen],
    }


def _time(name: str, folder: Path, workers: int) -> dict[str, Any]:
    epochs = LOADERS[name].epochs(folder, workers)
    warm = sum(len(pixels) for pixels, _, _ in epochs(0))
    begin = time.perf_counter()
    pictures = [sum(len(pixels) for pixels, _, _ in epochs(number)) for number in (1, 2)]
    seconds = time.perf_counter() - begin
    if pictures != [warm, warm]:
        raise ValueError(f"{warm} pictures in the first epoch, {pictures} in those after it")
    return {"seconds": seconds, "pictures": sum(pictures)}


def main(words: list[str]) -> None:
    """Do one job."""
    job, name, folder, *rest = words
    if job == "write":
        write = LOADERS[name].write
        if write is not None:
            write(Path(folder), Path(rest[0]), int(rest[1]))
        result: dict[str, Any] = {}
    elif job == "expected":
        result = _expected(Path(folder))
    else:
        result = {"check": _check, "time": _time}[job](name, Path(folder), int(rest[0]))
    print("\n" + json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
