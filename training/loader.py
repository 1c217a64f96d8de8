"""From shards to batches of uint8 pictures, in an order that no number of workers changes.

Workers are handed row numbers (a batch at a time), read whole row groups and keep the last few. Errors come back as
values, so that the user sees the message and not a worker's traceback. This module must not decide the order
(`training.order` does) nor normalise (the model does).
"""

from __future__ import annotations

import ctypes
import signal
import warnings
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from multiprocessing.context import ForkServerContext
from typing import Any, Final

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.decode import decode_canonical
from pipeline.errors import ImageError, IntegrityError, SetupError, TelltaleError
from pipeline.parquet import read_row_group
from pipeline.storage import Folder
from training.inputs import Inputs, Split
from training.order import batches_of, epoch_order

__all__ = ["Batch", "Batches", "ShardRows"]

_COLUMNS: Final = ("image", "label", "image_id", "variant")

_DEATHS: Final = ("DataLoader worker", "Pin memory thread")  # how torch's messages begin: the thread goes with a worker


@dataclass
class Batch:
    """A batch.

    Attributes:
        pixels: uint8 (n, size, size, 3).
        labels: float32 (n,), 0 real, 1 AI.
        ids: `<image_id>/<variant>` of each row.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    ids: list[str]

    def pin_memory(self) -> Batch:
        """The same in page-locked memory (DataLoader calls this beside a GPU)."""
        return Batch(self.pixels.pin_memory(), self.labels.pin_memory(), self.ids)


class ShardRows(Dataset[Any]):
    """A split's rows by number, a batch at a time; holds at most `cached` row groups of encoded pictures."""

    def __init__(self, folder: Folder, split: Split, size: int, cached: int) -> None:
        self._folder, self._groups, self._size, self._cached = folder, split.groups, size, cached
        self._starts = [0, *accumulate(group.rows for group in split.groups)]
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> Batch | TelltaleError:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch | TelltaleError:
        """The rows as one batch; a Telltale error as a value."""
        try:
            return self._batch(rows)
        except TelltaleError as error:
            return error

    def _batch(self, rows: Sequence[int]) -> Batch:
        pixels = np.empty((len(rows), self._size, self._size, 3), np.uint8)
        labels, ids = np.empty(len(rows), np.float32), []
        # A row group at a time: a window larger than the cache must not read a group twice for one batch.
        for place in sorted(range(len(rows)), key=lambda place: rows[place]):
            group = bisect_right(self._starts, rows[place]) - 1
            table, number = self._table(group), rows[place] - self._starts[group]
            pixels[place] = self._decode(table.column("image")[number].as_py(), group, number)
            labels[place] = table.column("label")[number].as_py()
        for row in rows:
            group = bisect_right(self._starts, row) - 1
            table, number = self._table(group), row - self._starts[group]
            ids.append(f"{table.column('image_id')[number].as_py()}/{table.column('variant')[number].as_py()}")
        return Batch(torch.from_numpy(pixels), torch.from_numpy(labels), ids)

    def _table(self, group: int) -> pa.Table:
        if group not in self._cache:
            where = self._groups[group]
            while len(self._cache) >= self._cached:
                self._cache.popitem(last=False)
            self._cache[group] = read_row_group(self._folder, where.path, where.number, _COLUMNS).combine_chunks()
        self._cache.move_to_end(group)
        return self._cache[group]

    def _decode(self, image: bytes, group: int, number: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        where = self._groups[group]
        at = f"{self._folder.locate(where.path)}: row group {where.number}, row {number}"
        try:
            pixels = decode_canonical(image)
        except ImageError as error:
            raise IntegrityError(f"{at}: damaged picture ({error}). Make the shards again.") from error
        if pixels.shape != (self._size, self._size, 3):
            raise IntegrityError(
                f"{at}: a picture of shape {pixels.shape}, the manifest says {self._size} px. Make the shards again."
            )
        return pixels


class _Order(Sampler[list[int]]):
    """The batches of one epoch, from a step on, as lists of row numbers. Lives in the main process."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class Batches:
    """A split's batches: shuffled by epoch in training, in file order otherwise.

    Args:
        inputs: what to read.
        split: which part of it.
        batch_size: rows a batch.
        workers: loader processes; 0 decodes in this one. The batches are the same for any number.
        window: row groups shuffled together, and kept in memory by each process.
        seed: of the order; None: file order.
        pin_memory: for a GPU.
    """

    def __init__(
        self,
        inputs: Inputs,
        split: Split,
        batch_size: int,
        workers: int,
        window: int,
        seed: int | None = None,
        pin_memory: bool = False,
    ) -> None:
        self._split, self._shards, self._window, self._seed = split, inputs.shards, window, seed
        self._bounds = batches_of(split.rows, batch_size, training=seed is not None)
        self._order = _Order()
        with _more_workers_than_cores():
            self._loader = DataLoader(
                ShardRows(inputs.folder, split, inputs.canonical.geometry.size, window),
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_same,
                pin_memory=pin_memory,
                persistent_workers=workers > 0,
                worker_init_fn=_start_worker,
                multiprocessing_context=_Context() if workers else None,
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._bounds) - 1

    @property
    def rows(self) -> int:
        """Rows an epoch."""
        return self._split.rows

    def epoch(self, epoch: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, from batch number `start` on.

        Raises:
            IntegrityError, StorageError: naming the file that is damaged or missing.
            SetupError: a worker died.
        """
        rows = self._rows(epoch)
        self._order.batches = [
            rows[first:last].tolist()
            for first, last in zip(self._bounds[start:], self._bounds[start + 1 :], strict=False)
        ]
        try:
            with _more_workers_than_cores():
                items = iter(self._loader)
            for item in items:
                if isinstance(item, TelltaleError):
                    raise item
                yield item
        except (RuntimeError, EOFError, OSError) as error:  # the last two: it died while it handed a batch over
            other = isinstance(error, RuntimeError) and not str(error).startswith(_DEATHS)
            if other or not self._loader.num_workers:
                raise
            raise SetupError(
                f"a loader process died ({str(error).partition('.')[0] or type(error).__name__}): most often the "
                "machine ran out of memory. Lower training.workers or training.shuffle_row_groups, then continue with "
                "--resume."
            ) from error

    def _rows(self, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        if self._seed is None:
            return np.arange(self._split.rows)
        sizes = [group.rows for group in self._split.groups]
        return epoch_order(sizes, self._shards, self._seed, epoch, self._window)


def _same(item: Any) -> Any:
    """The dataset makes whole batches already."""
    return item


def _start_worker(number: int) -> None:
    """Ctrl-C goes to the whole process group; the trainer decides what happens then, not its loaders."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def _more_workers_than_cores() -> Iterator[None]:
    """torch warns of it; it is the user's choice, and the batches are the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        yield


class _Context(ForkServerContext):
    """Forking a process with threads can deadlock; a server that has torch loaded forks workers in no time.

    Its events have no lock. DataLoader's end sets one that every worker asks for each batch: a worker killed while it
    asked would keep the lock for ever, and the trainer with it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_forkserver_preload([__name__])

    def Event(self) -> Any:  # noqa: N802 - multiprocessing's name
        return _Flag(self.RawValue(ctypes.c_bool, False))


@dataclass(frozen=True)
class _Flag:
    """What DataLoader needs of an event: a byte in shared memory, set once."""

    value: Any

    def set(self) -> None:
        self.value.value = True

    def is_set(self) -> bool:
        return bool(self.value.value)
