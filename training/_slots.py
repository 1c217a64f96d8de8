"""Memory that loader processes and the trainer share, used again and again: a batch goes where an earlier one was.

By itself every batch would be a new shared file, cleared and mapped page by page, its descriptor sent from process to
process: a tenth of what decoding takes. This module must not know what is in a slot.
"""

from __future__ import annotations

import math
import mmap
import os
import weakref
from itertools import count
from multiprocessing import reduction
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

__all__ = ["Slots", "lent"]

_EACH: Final = 4  # of a loader process: two batches wait for the trainer, one is with it, one is being made
_NUMBERS: Final = count()
_HERE: Final[weakref.WeakValueDictionary[int, Slots]] = weakref.WeakValueDictionary()
"""Those that this process has made, by their numbers; what comes from a loader process names one."""


class Slots:
    """So many slots of equal length for each loader process, in anonymous memory that a process gets as it starts.

    A slot is taken by the process whose it is, and is free again when the trainer has dropped the last tensor that
    shows it, views and arrays made of it included. A process whose slots are all taken does without. The system gives
    memory only to slots that are used; the size of /dev/shm does not matter.

    Args:
        workers: how many processes.
        length: bytes of a slot.

    Raises:
        OSError: the system has no such memory, or gives none.
    """

    def __init__(self, workers: int, length: int) -> None:
        self.number, self._workers, self._length = next(_NUMBERS), workers, length
        if not hasattr(os, "memfd_create"):
            raise OSError("memfd_create is Linux's")
        self._file = os.memfd_create("telltale-batches")
        weakref.finalize(self, os.close, self._file).atexit = False
        os.ftruncate(self._file, self._bytes)
        self._map(self._file)
        _HERE[self.number] = self

    @property
    def _bytes(self) -> int:
        """The slots, and behind them a byte for each: whether it is taken."""
        return self._workers * _EACH * (self._length + 1)

    def _map(self, file: int) -> None:
        slots = self._workers * _EACH
        self._memory = mmap.mmap(file, self._bytes)
        self.taken = np.frombuffer(self._memory, np.bool_, slots, slots * self._length)

    def __getstate__(self) -> tuple[Any, ...]:
        return self.number, self._workers, self._length, reduction.DupFd(self._file)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.number, self._workers, self._length, file = state
        descriptor = file.detach()
        self._map(descriptor)
        os.close(descriptor)  # the mapping has its own

    def take(self) -> int | None:
        """A free slot of this loader process, from now on taken; None: it has none left."""
        worker: Any = get_worker_info()
        first = worker.id * _EACH
        slot = next((slot for slot in range(first, first + _EACH) if not self.taken[slot]), None)
        if slot is not None:
            self.taken[slot] = True
        return slot

    def free(self, slot: int) -> None:
        """Whoever had it has no use for it any more."""
        self.taken[slot] = False

    def pixels(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The beginning of a slot as uint8 of a shape; whoever writes to it must have taken it."""
        if math.prod(shape) > self._length:
            raise ValueError(f"{shape} in a slot of {self._length} bytes")
        return np.frombuffer(self._memory, np.uint8, math.prod(shape), slot * self._length).reshape(shape)


def lent(number: int, slot: int, shape: tuple[int, ...]) -> torch.Tensor:
    """What a loader process has written to a slot that it took: uint8 of a shape, its own until nobody has it."""
    slots = _HERE.get(number)
    if slots is None:  # the loader is gone; this batch was on its way, and nobody will see it
        return torch.empty(shape, dtype=torch.uint8)
    pixels = slots.pixels(slot, shape)
    # torch keeps this very array as long as the memory is in use, whatever becomes of the tensor.
    weakref.finalize(pixels, slots.free, slot).atexit = False
    return torch.from_numpy(pixels)
