"""The order of the training rows: a pure function of (manifest hash, seed, epoch), the same on every machine.

Row groups are permuted over the whole split; rows are permuted within windows of so many row groups, so that a reader
holds one window at a time. This module must not read a file or know of workers.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["batches_of", "epoch_order"]

Indices = NDArray[np.int64]


def _stream(manifest: str, seed: int, epoch: int) -> np.random.PCG64:
    """Random bits: across its versions numpy keeps a bit generator's raw output, but not a Generator's methods."""
    digest = hashlib.sha256(f"telltale/order/{manifest}/{seed}/{epoch}".encode()).digest()
    return np.random.PCG64(int.from_bytes(digest, "big"))


def _permutation(stream: np.random.PCG64, n: int) -> Indices:
    """A uniform permutation of range(n), by sorting random 64-bit keys (equal keys keep their order)."""
    keys = np.atleast_1d(stream.random_raw(n)) if n else np.empty(0, np.uint64)
    return np.argsort(keys, kind="stable").astype(np.int64)


def epoch_order(group_rows: list[int], manifest: str, seed: int, epoch: int, window: int) -> Indices:
    """The rows of a split in the order of one epoch.

    Args:
        group_rows: rows of each row group, in the order of the manifest's files.
        manifest: the shards manifest's sha256.
        seed: the run's seed.
        epoch: counted from 0.
        window: row groups that are shuffled together.

    Returns:
        int64 (rows,): a permutation of range(sum(group_rows)).
    """
    starts = np.concatenate([[0], np.cumsum(group_rows, dtype=np.int64)])
    stream = _stream(manifest, seed, epoch)
    groups = _permutation(stream, len(group_rows))
    pieces = []
    for first in range(0, len(groups), window):
        chosen = groups[first : first + window]
        rows = np.concatenate([np.arange(starts[group], starts[group + 1]) for group in chosen])
        pieces.append(rows[_permutation(stream, len(rows))])
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


def batches_of(rows: int, size: int, training: bool) -> list[int]:
    """Where the batches of an epoch begin, and where the last one ends: batch k is `order[b[k]:b[k + 1]]`.

    No row is lost or repeated: the last batch may be short. In training a last batch of a single row joins the one
    before it, because batch norm cannot tell one value's variance.
    """
    bounds = [*range(0, rows, size), rows]
    if training and len(bounds) > 2 and bounds[-1] - bounds[-2] == 1:
        del bounds[-2]
    return bounds
