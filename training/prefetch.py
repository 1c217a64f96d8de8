"""Batches on their way to the device: the next one is copied to a GPU while it still trains on this one.

This module must not change a batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from training.batch import Batch

__all__ = ["Waiting", "on_device"]


class Waiting:
    """How long whoever iterates has waited for batches, in seconds."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """The same batches, the time until each of them comes added up."""
        while True:
            begin = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - begin
            if batch is None:
                return
            yield batch

    def take(self) -> float:
        """The seconds since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


def on_device(batches: Iterator[Batch], device: torch.device) -> Iterator[Batch]:
    """The same batches with their pixels and labels on the device.

    A GPU is still at the last step's kernels when the next batch is asked for, so a copy on a stream of its own goes on
    beside them. From page-locked memory the copy itself keeps nobody waiting.
    """
    if device.type != "cuda":
        yield from batches
        return
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
        current.wait_stream(stream)
        for tensor in (moved.pixels, moved.labels):
            tensor.record_stream(current)
        yield moved
