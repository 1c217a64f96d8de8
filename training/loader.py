"""From shards to batches of uint8 pictures, in an order that no number of workers changes.

Workers are handed row numbers, a batch at a time. This module must not decide the order (`training.order` does), nor
what a row is (`training.rows`), nor normalise (the model does).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Sampler

from pipeline.errors import SetupError, TelltaleError
from training._slots import Slots
from training._workers import DEATHS, Context, more_workers_than_cores, start_worker
from training.batch import Batch
from training.inputs import Inputs, Split
from training.order import batches_of, epoch_order
from training.ranks import local_cores
from training.robust_config import Robust
from training.rows import EpochRows, ShardRows

__all__ = ["Batches"]

_MOST_THREADS: Final = 8  # of one process: with more they mostly wait for Python's lock


class _Order(Sampler[EpochRows]):
    """The batches of one epoch, from a step on, each made when its turn comes. Lives in the main process.

    Args:
        ranks: (rank, world).
    """

    def __init__(self, ranks: tuple[int, int]) -> None:
        self._ranks = ranks
        self.rows: NDArray[np.int64] = np.empty(0, np.int64)
        self.bounds: list[int] = []
        self.epoch = 0

    def __iter__(self) -> Iterator[EpochRows]:
        for first, last in pairwise(self.bounds):
            yield EpochRows(self.rows[first:last].tolist(), self.epoch, *self._ranks)

    def __len__(self) -> int:
        return max(0, len(self.bounds) - 1)


class Batches:
    """A split's batches: shuffled by epoch in training, in file order otherwise.

    Args:
        inputs: what to read.
        split: which part of it.
        batch_size: rows a batch.
        workers: loader processes; 0 decodes in this one. Each works with its share of the cores. The batches are the
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
        largest = max((end - start for start, end in pairwise(self._bounds)), default=0)
        slots = _slots(workers, len(EpochRows(range(largest), 0, *ranks)) * size * size * 3)
        with more_workers_than_cores():
            self._loader = DataLoader(
                ShardRows(inputs.folder, split, size, window, robust, seed or 0, threads, slots),
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=_same,
                pin_memory=pin_memory,
                persistent_workers=workers > 0,
                worker_init_fn=start_worker,
                multiprocessing_context=Context(*changes) if workers else None,
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

    def _rows(self, epoch: int) -> NDArray[np.int64]:
        if self._seed is None:
            return np.arange(self._split.rows)
        sizes = [group.rows for group in self._split.groups]
        return epoch_order(sizes, self._shards, self._seed, epoch, self._window)


def _slots(workers: int, length: int) -> Slots | None:
    """Where loader processes put their batches; where the system has no such memory, each batch gets its own."""
    if workers:
        with suppress(OSError):
            return Slots(workers, length)
    return None


def _same(item: Any) -> Any:
    """The dataset makes whole batches already."""
    return item
