"""The rows of a split by their numbers, a batch at a time: read, decoded and changed in whichever process asks.

A process reads whole row groups and keeps the last few; the cores that the processes leave free decode beside it, in
threads. Errors come back as values, so that the user sees the message and not a worker's traceback. This module must
not decide the order (`training.order` does), nor what is done to a training picture (`training.robust`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from itertools import accumulate, cycle, islice
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, get_worker_info

from pipeline.decode import decode_canonical
from pipeline.errors import ImageError, IntegrityError, SetupError, TelltaleError
from pipeline.parquet import read_row_group
from pipeline.storage import Folder
from training._slots import Slots
from training.batch import Batch, SentBatch
from training.inputs import Split
from training.robust_config import Robust

__all__ = ["EpochRows", "ShardRows"]

Pixels = NDArray[np.uint8]

_COLUMNS: Final = ("image", "label", "image_id", "variant")
_PIECES: Final = 4  # of a batch, for each thread: some pictures take ten times as long as others


class EpochRows(list[int]):
    """The row numbers of a batch, and the epoch that asks for them: a loader process lives through all epochs.

    Args:
        rows: of the whole batch.
        epoch: from 0.
        rank, world: whose share is wanted. Shares are filled up with the batch's first rows to the length of the
            longest, and to two, which batch norm needs; what was filled up does not count.
    """

    def __init__(self, rows: Sequence[int], epoch: int, rank: int = 0, world: int = 1) -> None:
        self.epoch, self.total, self.first = epoch, len(rows), len(rows) * rank // world
        mine = rows[self.first : len(rows) * (rank + 1) // world]
        self.counted = len(mine)
        longest = max(2, -(-len(rows) // world)) if world > 1 else 0
        super().__init__([*mine, *islice(cycle(rows), max(0, longest - len(mine)))])


class _Stored(NamedTuple):
    """A row as a shard has it: what it is, and where."""

    image: bytes
    label: int
    sample: str
    group: int
    number: int


class ShardRows(Dataset[Any]):
    """A split's rows by number, a batch at a time; holds at most `cached` row groups of encoded pictures.

    With `robust`, rows that are asked for as `EpochRows` come as that epoch sees them; others come as they are stored.
    With `threads`, so many of them decode and change a batch together, in whichever process it is made. Loader
    processes put their batches into `slots` while one is free.
    """

    def __init__(
        self,
        folder: Folder,
        split: Split,
        size: int,
        cached: int,
        robust: Robust | None = None,
        seed: int = 0,
        threads: int = 1,
        slots: Slots | None = None,
    ) -> None:
        self._folder, self._groups, self._size, self._cached = folder, split.groups, size, cached
        self._robust, self._seed, self._threads = robust, seed, threads
        self._slots = slots
        self._pool: ThreadPoolExecutor | None = None  # made where it is used: a pool cannot go to another process
        self._starts = [0, *accumulate(group.rows for group in split.groups)]
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> Batch | TelltaleError:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch | TelltaleError:
        """The rows as one batch; a Telltale error as a value."""
        slots = self._slots
        slot = None if slots is None else slots.take()
        try:
            if slots is None or slot is None:
                batch = self._batch(rows, _handed_over(torch.empty(self._shape(rows), dtype=torch.uint8)))
                return replace(batch, labels=_handed_over(batch.labels))
            pixels = torch.from_numpy(slots.pixels(slot, self._shape(rows)))
            return SentBatch(**vars(self._batch(rows, pixels)), slots=slots.number, slot=slot)
        except TelltaleError as error:
            if slots is not None and slot is not None:
                slots.free(slot)
            return error

    def _shape(self, rows: Sequence[int]) -> tuple[int, int, int, int]:
        return len(rows), self._size, self._size, 3

    def _batch(self, rows: Sequence[int], tensor: torch.Tensor) -> Batch:
        """The rows, their pixels in `tensor`."""
        pixels = tensor.numpy()
        # A row group at a time: a window larger than the cache must not read a group twice for one batch.
        found = {row: self._stored(row) for row in sorted(set(rows))}
        stored = [found[row] for row in rows]
        ids = [one.sample for one in stored]
        labels = torch.tensor([one.label for one in stored], dtype=torch.float32)
        if self._robust is not None and isinstance(rows, EpochRows):
            self._fill_changed(pixels, stored, self._robust, rows.epoch)
        else:
            self._fill(pixels, stored, self._decode)
        if isinstance(rows, EpochRows):
            return Batch(tensor, labels, ids[: rows.counted], rows.first, rows.total)
        return Batch(tensor, labels, ids, 0, len(rows))

    def _fill(self, pixels: Pixels, stored: Sequence[_Stored], picture: Callable[[_Stored], Pixels]) -> None:
        """Fill `pixels`, in threads; all have ended when the first damaged row is told, whichever they are."""
        errors: dict[int, TelltaleError] = {}

        def fill(places: range) -> None:
            for place in places:
                try:
                    pixels[place] = picture(stored[place])
                except TelltaleError as error:
                    errors[place] = error

        if self._threads == 1:
            fill(range(len(stored)))
        else:
            self._pool = self._pool or ThreadPoolExecutor(self._threads, "decode")
            pieces = self._threads * _PIECES
            jobs = [self._pool.submit(fill, range(first, len(stored), pieces)) for first in range(pieces)]
            wait(jobs)
            for job in jobs:
                job.result()  # raises what is not a damaged row
        if errors:
            raise errors[min(errors)]

    def _fill_changed(self, pixels: Pixels, stored: Sequence[_Stored], robust: Robust, epoch: int) -> None:
        from training.robust import one_thread, robustify  # torchvision takes a second to import; most runs do without

        with one_thread():  # here, so that the pool's threads take it over and none of them sets it for the others
            self._fill(pixels, stored, lambda row: robustify(self._decode(row), robust, self._seed, epoch, row.sample))

    def _table(self, group: int) -> pa.Table:
        if group not in self._cache:
            where = self._groups[group]
            while len(self._cache) >= self._cached:
                self._cache.popitem(last=False)
            self._cache[group] = read_row_group(self._folder, where.path, where.number, _COLUMNS).combine_chunks()
        self._cache.move_to_end(group)
        return self._cache[group]

    def _stored(self, row: int) -> _Stored:
        group = bisect_right(self._starts, row) - 1
        number = row - self._starts[group]
        table = self._table(group)
        image, label, name, variant = (table.column(column)[number].as_py() for column in _COLUMNS)
        return _Stored(image, label, f"{name}/{variant}", group, number)

    def _decode(self, row: _Stored) -> Pixels:
        where = self._groups[row.group]
        at = f"{self._folder.locate(where.path)}: row group {where.number}, row {row.number}"
        try:
            pixels = decode_canonical(row.image)
        except ImageError as error:
            raise IntegrityError(f"{at}: damaged picture ({error}). Make the shards again.") from error
        if pixels.shape != (self._size, self._size, 3):
            raise IntegrityError(
                f"{at}: a picture of shape {pixels.shape}, the manifest says {self._size} px. Make the shards again."
            )
        return pixels


def _handed_over(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor, in a loader process in memory that the trainer sees too: what is shared already is not copied.

    Raises:
        SetupError: there is no room for it.
    """
    if get_worker_info() is None:
        return tensor
    try:
        return tensor.share_memory_()
    except RuntimeError as error:
        raise SetupError(
            f"no room in shared memory for a batch ({error}): make /dev/shm larger (a container's by --shm-size), or "
            "lower training.workers; 0 needs none."
        ) from error
