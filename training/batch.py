"""A batch of uint8 pictures, and how it comes from a loader process to the trainer.

This module must not read data, nor know of the order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from training._slots import lent

__all__ = ["Batch", "SentBatch"]


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
class SentBatch(Batch):
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
