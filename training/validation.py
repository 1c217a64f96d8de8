"""A detector's logits on a split, in float32, as in serving, and the metrics of an epoch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from training.loader import Batches
from training.model import Detector
from training.prefetch import on_device
from training.ranks import Ranks
from training.signals import Signals

__all__ = ["metrics_of", "validation_logits"]

Floats = NDArray[np.float64]


def validation_logits(
    detector: Detector,
    batches: Batches,
    device: torch.device,
    ranks: Ranks | None = None,
    signals: Signals | None = None,
) -> tuple[Floats, Floats]:
    """(logits, labels) of a split, float64 (rows,), in file order, on every rank; each rank does its share.

    Raises:
        TelltaleError, KeyboardInterrupt: a signal came to one of the ranks.
    """
    ranks = ranks or Ranks()
    detector.eval()
    found: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
    with _true_float32(device), torch.inference_mode():
        for batch in on_device(batches.epoch(), device):
            counted = len(batch.ids)
            logits = detector(batch.pixels).cpu().numpy()[:counted]
            found.append((logits, batch.labels.cpu().numpy()[:counted]))
            if signals is not None and (stop := signals.agreed()):
                signals.stop(stop, "in validation")
    # Batch by batch, the shares of the ranks one after the other.
    every = [share for shares in zip(*ranks.gather(found), strict=True) for share in shares]
    return (
        np.concatenate([logits for logits, _ in every]).astype(np.float64),
        np.concatenate([labels for _, labels in every]).astype(np.float64),
    )


@contextmanager
def _true_float32(device: torch.device) -> Iterator[None]:
    """Serving computes in float32; a GPU's convolutions would take TF32 for it, of 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    try:
        torch.backends.cudnn.allow_tf32 = before and device.type != "cuda"
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def metrics_of(logits: Floats, labels: Floats) -> dict[str, Any]:
    """Loss (without smoothing, weights and L2), area under the ROC curve, and accuracy at a probability of one half."""
    loss = F.binary_cross_entropy_with_logits(torch.from_numpy(logits), torch.from_numpy(labels))
    return {
        "val_loss": float(loss),
        "val_auc": float(roc_auc_score(labels, logits)),
        "val_accuracy": float(np.mean((logits >= 0) == (labels == 1))),
    }
