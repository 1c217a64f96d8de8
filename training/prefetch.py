"""Batches on their way to the device: beside a GPU the next one is copied on a stream of its own while this one trains.

This module must not change a batch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch

from training.loader import Batch

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
    """The same batches with their pixels and labels on the device, one ahead beside a GPU."""
    if device.type != "cuda":
        yield from batches
        return
    stream = torch.cuda.Stream(device)
    waiting: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            moved = batch.to(device)
        if waiting is not None:
            yield waiting
        torch.cuda.current_stream(device).wait_stream(stream)
        for tensor in (moved.pixels, moved.labels):
            tensor.record_stream(torch.cuda.current_stream(device))
        waiting = moved
    if waiting is not None:
        yield waiting
