"""The curves of a run as a PNG. This module must not open a window: it draws without a display."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

__all__ = ["draw_curves"]


def draw_curves(history: Sequence[dict[str, Any]]) -> bytes:
    """Loss, validation AUC and learning rate by epoch.

    Args:
        history: an item an epoch, with `epoch` (from 1), `train_loss`, `val_loss`, `val_auc`, `lr`.

    Returns:
        A PNG file.
    """
    figure = Figure(figsize=(12, 3.6))
    figure.subplots_adjust(left=0.05, right=0.98, bottom=0.15, top=0.9, wspace=0.2)
    FigureCanvasAgg(figure)
    loss, auc, rate = figure.subplots(1, 3)
    epochs = [item["epoch"] for item in history]
    for key, name in (("train_loss", "train"), ("val_loss", "validation")):
        loss.plot(epochs, [item[key] for item in history], marker="o", label=name)
    loss.legend()
    auc.plot(epochs, [item["val_auc"] for item in history], marker="o", color="tab:green")
    rate.plot(epochs, [item["lr"] for item in history], marker="o", color="tab:gray")
    for axes, title in ((loss, "loss"), (auc, "validation AUC"), (rate, "learning rate")):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
