"""Memory that loader processes and the trainer share, used again and again: a batch goes where an earlier one was.

By itself every batch would be a new shared file, cleared and mapped page by page, its descriptor sent from process to
process: a tenth of what decoding takes. This module must not know what is in a slot.
"""

from __future__ import annotations

import ctypes
import math
import os
import weakref
from itertools import count
from multiprocessing.context import BaseContext
from shutil import disk_usage
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import get_worker_info

from training.ranks import local_world

__all__ = ["Slots", "lent"]

_SHM: Final = "/dev/shm"  # where multiprocessing puts what processes share, if there is room
_EACH: Final = 4  # of a loader process: two batches wait for the trainer, one is with it, one is being made
_NUMBERS: Final = count()
_HERE: Final[weakref.WeakValueDictionary[int, Slots]] = weakref.WeakValueDictionary()
"""Those that this process has made, by their numbers; what comes from a loader process names one."""


class Slots:
    """So many slots of equal length for each loader process.

    A slot is taken by the process whose it is, and is free again when the trainer has dropped the last tensor that
    shows it, views and arrays made of it included. A process whose slots are all taken does without.

    Args:
        context: that starts the processes; the slots may only go to them as they start.
        workers: how many processes.
        length: bytes of a slot.

    """

    @classmethod
    def where_room(cls, context: BaseContext, workers: int, length: int) -> Slots | None:
        """Slots for loader processes if the machine's shared memory has room for them, for every rank here at once."""
        wanted = local_world() * workers * _EACH * length
        return cls(context, workers, length) if os.path.isdir(_SHM) and disk_usage(_SHM).free > wanted else None

    def __init__(self, context: BaseContext, workers: int, length: int) -> None:
        self.number, self._length = next(_NUMBERS), length
        self._memory: Any = context.RawArray(ctypes.c_ubyte, workers * _EACH * length)
        self._taken: Any = context.RawArray(ctypes.c_bool, workers * _EACH)
        _HERE[self.number] = self

    def take(self) -> int | None:
        """A free slot of this loader process, from now on taken; None: it has none left."""
        worker: Any = get_worker_info()
        first = worker.id * _EACH
        slot = next((slot for slot in range(first, first + _EACH) if not self._taken[slot]), None)
        if slot is not None:
            self._taken[slot] = True
        return slot

    def free(self, slot: int) -> None:
        """Whoever had it has no use for it any more."""
        self._taken[slot] = False

    def pixels(self, slot: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
        """The beginning of a slot as uint8 of a shape; whoever writes to it must have taken it."""
        return np.frombuffer(self._memory, np.uint8, math.prod(shape), slot * self._length).reshape(shape)


def lent(number: int, slot: int, shape: tuple[int, ...]) -> torch.Tensor:
    """What a loader process has written to a slot that it took: uint8 of a shape, its own until nobody has it."""
    slots = _HERE[number]
    pixels = slots.pixels(slot, shape)
    # torch keeps this very array as long as the memory is in use, whatever becomes of the tensor.
    weakref.finalize(pixels, slots.free, slot).atexit = False
    return torch.from_numpy(pixels)
