"""From shards to batches of uint8 pictures, in an order that no number of workers changes.

Workers are handed row numbers (a batch at a time), read whole row groups and keep the last few; the cores that are left
decode beside them, in threads. Errors come back as values, so that the user sees the message and not a worker's
traceback. This module must not decide the order (`training.order` does), nor what is done to a training picture
(`training.robust`), nor normalise (the model does).
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import accumulate, cycle, islice, pairwise
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from pipeline.decode import decode_canonical
from pipeline.errors import ImageError, IntegrityError, SetupError, TelltaleError
from pipeline.parquet import read_row_group
from pipeline.storage import Folder
from training._slots import Slots, lent
from training._workers import DEATHS, Context, more_workers_than_cores, start_worker
from training.inputs import Inputs, Split
from training.order import batches_of, epoch_order
from training.ranks import local_cores
from training.robust_config import Robust

__all__ = ["Batch", "Batches", "EpochRows", "ShardRows"]

_COLUMNS: Final = ("image", "label", "image_id", "variant")
_MOST_THREADS: Final = 8  # of one process: with more they mostly wait for Python's lock
_PIECES: Final = 4  # of a batch, for each thread: some pictures take ten times as long as others


@dataclass
class Batch:
    """A batch, or one rank's share of it.

    Attributes:
        pixels: uint8 (n, size, size, 3).
        labels: float32 (n,), 0 real, 1 AI.
        ids: `<image_id>/<variant>` of each row that counts. Rows past them only make the ranks' shares equally long.
        first: the place in the whole batch of the first row.
        total: rows of the whole batch.
    """

    pixels: torch.Tensor
    labels: torch.Tensor
    ids: list[str]
    first: int
    total: int

    def pin_memory(self) -> Batch:
        """The same in page-locked memory (DataLoader calls this beside a GPU)."""
        return replace(self, pixels=self.pixels.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """The same on a device, without waiting for the copy."""
        pixels, labels = (tensor.to(device, non_blocking=True) for tensor in (self.pixels, self.labels))
        return replace(self, pixels=pixels, labels=labels)

    def digest(self) -> int:
        """A signed 64-bit number of the ids and their places; those of the shares of a batch add up, modulo 2**64, to
        the number of the whole batch."""
        texts = (f"{self.first + at}/{name}" for at, name in enumerate(self.ids))
        total = sum(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") for text in texts) % 2**64
        return total - 2**64 if total >= 2**63 else total


@dataclass
class _Sent(Batch):
    """A batch whose pixels are in a slot, on its way out of a loader process: what arrives is a `Batch`."""

    slots: int
    slot: int

    def __reduce__(self) -> tuple[Any, ...]:
        shape, labels = tuple(self.pixels.shape), self.labels.numpy()
        return _arrived, (self.slots, self.slot, shape, labels, self.ids, self.first, self.total)


def _arrived(
    slots: int, slot: int, shape: tuple[int, ...], labels: NDArray[np.float32], ids: list[str], first: int, total: int
) -> Batch:
    return Batch(lent(slots, slot, shape), torch.from_numpy(labels), ids, first, total)


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
    With `threads`, so many of them decode a batch together, in whichever process it is made.
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
    ) -> None:
        self._folder, self._groups, self._size, self._cached = folder, split.groups, size, cached
        self._robust, self._seed, self._threads = robust, seed, threads
        self.slots: Slots | None = None  # where loader processes put their batches
        self._pool: ThreadPoolExecutor | None = None  # made where it is used: a pool cannot go to another process
        self._starts = [0, *accumulate(group.rows for group in split.groups)]
        self._cache: OrderedDict[int, pa.Table] = OrderedDict()

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, row: int) -> Batch | TelltaleError:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[int]) -> Batch | TelltaleError:
        """The rows as one batch; a Telltale error as a value."""
        slot = None if self.slots is None else self.slots.take()
        try:
            if self.slots is None or slot is None:
                return self._batch(rows, _handed_over(torch.empty(self._shape(rows), dtype=torch.uint8)))
            pixels = torch.from_numpy(self.slots.pixels(slot, self._shape(rows)))
            return _Sent(**vars(self._batch(rows, pixels)), slots=self.slots.number, slot=slot)
        except TelltaleError as error:
            if self.slots is not None and slot is not None:
                self.slots.free(slot)
            return error

    def bytes_of(self, rows: Sequence[int]) -> int:
        """How many bytes the pixels of a batch take."""
        return math.prod(self._shape(rows))

    def _shape(self, rows: Sequence[int]) -> tuple[int, int, int, int]:
        return len(rows), self._size, self._size, 3

    def _batch(self, rows: Sequence[int], tensor: torch.Tensor) -> Batch:
        """The rows, their pixels in `tensor`."""
        pixels = tensor.numpy()
        # A row group at a time: a window larger than the cache must not read a group twice for one batch.
        found = {row: self._stored(row) for row in sorted(set(rows))}
        ids = [found[row].sample for row in rows]
        labels = torch.tensor([found[row].label for row in rows], dtype=torch.float32)

        def decode(places: range) -> None:
            for place in places:
                pixels[place] = self._decode(found[rows[place]])

        self._share(decode, len(rows))
        if not isinstance(rows, EpochRows):
            return Batch(tensor, labels, ids, 0, len(rows))
        if self._robust is not None:
            self._change(pixels, ids, self._robust, rows.epoch)
        return Batch(tensor, labels, ids[: rows.counted], rows.first, rows.total)

    def _share(self, work: Callable[[range], None], places: int) -> None:
        """Have the threads do the work for all places, each a few of them at a time."""
        if self._threads == 1:
            work(range(places))
            return
        self._pool = self._pool or ThreadPoolExecutor(self._threads, "decode")
        pieces = self._threads * _PIECES
        for _ in self._pool.map(work, (range(first, places, pieces) for first in range(pieces))):
            pass

    def _change(self, pixels: NDArray[np.uint8], ids: Sequence[str], robust: Robust, epoch: int) -> None:
        from training.robust import robustify  # torchvision takes a second to import, and most runs do without

        for place, sample in enumerate(ids):
            pixels[place] = robustify(pixels[place], robust, self._seed, epoch, sample)

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

    def _decode(self, row: _Stored) -> NDArray[np.uint8]:
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
    """An empty tensor, in a loader process in memory that the trainer sees too: what is shared already is not copied.

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


class _Order(Sampler[EpochRows]):
    """The batches of one epoch, from a step on, each made when its turn comes. Lives in the main process.

    Args:
        ranks: (rank, world).
    """

    def __init__(self, ranks: tuple[int, int]) -> None:
        self.ranks = ranks
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.bounds: list[int] = []
        self.epoch = 0

    def __iter__(self) -> Iterator[EpochRows]:
        for first, last in pairwise(self.bounds):
            yield EpochRows(self.rows[first:last].tolist(), self.epoch, *self.ranks)

    def __len__(self) -> int:
        return max(0, len(self.bounds) - 1)


class Batches:
    """A split's batches: shuffled by epoch in training, in file order otherwise.

    Args:
        inputs: what to read.
        split: which part of it.
        batch_size: rows a batch.
        workers: loader processes; 0 decodes in this one. Each decodes with its share of the cores. The batches are the
            same for any number of either.
        window: row groups shuffled together, and kept in memory by each process.
        seed: of the order; None: file order.
        pin_memory: for a GPU.
        robust: what is done to the pictures, a function of (seed, epoch, id); needs a seed. None or off: nothing.
        ranks: (rank, world): of each batch this rank's share only; (0, 1): all of it.
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
        robust: Robust | None = None,
        ranks: tuple[int, int] = (0, 1),
    ) -> None:
        robust = robust if robust is not None and robust.on else None
        if robust is not None and seed is None:
            raise ValueError("robust augmentation is for training: batches in file order are never changed")
        self._split, self._shards, self._window, self._seed = split, inputs.shards, window, seed
        self._bounds = batches_of(split.rows, batch_size, training=seed is not None)
        self._order = _Order(ranks)
        changes = () if robust is None else ("training.robust",)
        size, threads = inputs.canonical.geometry.size, min(_MOST_THREADS, max(1, local_cores() // max(1, workers)))
        self._reader = ShardRows(inputs.folder, split, size, window, robust, seed or 0, threads)
        self._context, self._room_made = Context(*changes) if workers else None, False
        with more_workers_than_cores():
            self._loader = DataLoader(
                self._reader,
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_same,
                pin_memory=pin_memory,
                persistent_workers=workers > 0,
                worker_init_fn=start_worker,
                multiprocessing_context=self._context,
            )

    def __len__(self) -> int:
        """Batches an epoch."""
        return len(self._bounds) - 1

    @property
    def split(self) -> Split:
        """What the batches are of."""
        return self._split

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
        self._order.rows, self._order.bounds, self._order.epoch = self._rows(epoch), self._bounds[start:], epoch
        self._make_room()
        try:
            with more_workers_than_cores():
                items = iter(self._loader)
            for item in items:
                if isinstance(item, TelltaleError):
                    raise item
                yield item
        except (RuntimeError, EOFError, OSError) as error:  # the last two: it died while it handed a batch over
            other = isinstance(error, RuntimeError) and not str(error).startswith(DEATHS)
            if other or not self._loader.num_workers:
                raise
            raise SetupError(
                f"a loader process died ({str(error).partition('.')[0] or type(error).__name__}): most often the "
                "machine ran out of memory. Lower training.workers or training.shuffle_row_groups, then continue with "
                "--resume."
            ) from error

    def _make_room(self) -> None:
        """Before the first epoch starts the loader processes."""
        if self._context is None or self._room_made:
            return
        self._room_made = True
        largest = EpochRows(range(max(end - start for start, end in pairwise(self._bounds))), 0, *self._order.ranks)
        self._reader.slots = Slots.where_room(self._context, self._loader.num_workers, self._reader.bytes_of(largest))

    def _rows(self, epoch: int) -> NDArray[np.int64]:
        if self._seed is None:
            return np.arange(self._split.rows)
        sizes = [group.rows for group in self._split.groups]
        return epoch_order(sizes, self._shards, self._seed, epoch, self._window)


def _same(item: Any) -> Any:
    """The dataset makes whole batches already."""
    return item
