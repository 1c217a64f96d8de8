"""What a GPU did while a trace of torch's profiler was taken: seconds by kind of work. Pure; must not import torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["KINDS", "busy", "kind_of", "shares"]

KINDS = ("to the device", "optimiser", "forward and backward")
_WORK = ("kernel", "gpu_memcpy", "gpu_memset")
_OPTIMISER = ("multi_tensor_apply", "fusedadam", "fused_adam", "fused_sgd")
"""Parts of the names of the kernels of torch's fused and foreach optimisers (which clipping and EMA use too)."""


def kind_of(event: Mapping[str, Any]) -> str | None:
    """The kind of work of an event of a Chrome trace; None: not a GPU's work."""
    if event.get("cat") not in _WORK or "dur" not in event:
        return None
    name = str(event.get("name", "")).lower()
    if event["cat"] == "gpu_memcpy" and "htod" in name:
        return KINDS[0]
    return KINDS[1] if any(part in name for part in _OPTIMISER) else KINDS[2]


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """The length of the union of (begin, end): two streams at work at once count once."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def shares(events: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds by kind, and `busy`: seconds in which the GPU did anything."""
    found = dict.fromkeys(KINDS, 0.0)
    spans = []
    for event in events:
        kind = kind_of(event)
        if kind is not None:
            found[kind] += event["dur"] / 1e6
            spans.append((event["ts"], event["ts"] + event["dur"]))
    return {**found, "busy": busy(spans) / 1e6}
