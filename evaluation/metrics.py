"""The figures of a set of scored pictures, by scikit-learn: numbers, or None with the reason why there is none.

The positive class is always AI-generated (label 1). This module must not know about splits or sources.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from sklearn import metrics

__all__ = ["FPRS", "METRICS", "calibration", "confusion", "curves", "histogram", "measure", "worth"]

Array = np.ndarray[Any, Any]

FPRS: Final = {"tpr_at_1pct_fpr": 0.01, "tpr_at_0_5pct_fpr": 0.005}
"""The share of AI pictures that are caught where at most so many of the real ones are accused."""
METRICS: Final = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "auc", *FPRS)
"""The figures that get a confidence interval."""

_SCORES: Final = {
    "accuracy": metrics.accuracy_score,
    "balanced_accuracy": metrics.balanced_accuracy_score,
    "precision": metrics.precision_score,
    "recall": metrics.recall_score,
    "f1": metrics.f1_score,
}


def confusion(labels: Array, predicted: Array) -> dict[str, int]:
    """Counts: tn, fp, fn, tp."""
    if not len(labels):
        return {"tn": 0, "fp": 0, "fn": 0, "tp": 0}
    cells = metrics.confusion_matrix(labels, predicted, labels=[0, 1]).ravel()
    return dict(zip(("tn", "fp", "fn", "tp"), (int(cell) for cell in cells), strict=True))


def measure(labels: Array, scores: Array, threshold: float) -> tuple[dict[str, float | None], dict[str, str]]:
    """Every figure that is one number.

    Args:
        labels: 0 or 1, (N,).
        scores: probabilities of AI-generated, (N,).
        threshold: from it on the verdict is AI-generated.

    Returns:
        the values (METRICS, average_precision, brier, nll), and for each that is None the reason.
    """
    predicted = (scores >= threshold).astype(np.int8)
    reasons = _undefined(labels, predicted)
    values: dict[str, float | None] = {
        name: None if name in reasons else float(function(labels, predicted)) for name, function in _SCORES.items()
    }
    values["specificity"] = None if "specificity" in reasons else float(np.mean(predicted[labels == 0] == 0))
    ranked = "auc" not in reasons
    values["auc"] = float(metrics.roc_auc_score(labels, scores)) if ranked else None
    values["average_precision"] = float(metrics.average_precision_score(labels, scores)) if ranked else None
    values |= {name: _tpr_at(labels, scores, limit) if ranked else None for name, limit in FPRS.items()}
    values["brier"] = float(np.mean((scores - labels) ** 2)) if len(labels) else None
    values["nll"] = float(metrics.log_loss(labels, scores, labels=[0, 1])) if len(labels) else None
    return values, reasons


def _undefined(labels: Array, predicted: Array) -> dict[str, str]:
    """Figure → why it is undefined."""
    real, ai = int(np.sum(labels == 0)), int(np.sum(labels == 1))
    if not real + ai:
        names = (*METRICS, "average_precision", "brier", "nll", "ece")
        return dict.fromkeys(names, "no pictures")
    reasons: dict[str, str] = {}
    if not real or not ai:
        one = "no real pictures" if not real else "no AI-generated pictures"
        reasons |= dict.fromkeys(("balanced_accuracy", "auc", "average_precision", *FPRS), one)
    if not ai:
        reasons |= dict.fromkeys(("recall", "f1"), "no AI-generated pictures")
    if not real:
        reasons["specificity"] = "no real pictures"
    if not np.any(predicted):
        reasons["precision"] = "no picture was called AI-generated"
    return reasons


def _tpr_at(labels: Array, scores: Array, limit: float) -> float:
    """The largest share of AI pictures caught at a false-positive rate of at most `limit`."""
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)
    return float(np.max(tpr[fpr <= limit]))


def curves(labels: Array, scores: Array, points: int) -> dict[str, dict[str, list[float]]] | None:
    """ROC and precision-recall curves, thinned to at most `points` points; None if a class is missing."""
    if len(np.unique(labels)) < 2:
        return None
    fpr, tpr, _ = metrics.roc_curve(labels, scores)
    precision, recall, _ = metrics.precision_recall_curve(labels, scores)
    return {
        "roc": {"fpr": _thin(fpr, points), "tpr": _thin(tpr, points)},
        "pr": {"recall": _thin(recall[::-1], points), "precision": _thin(precision[::-1], points)},
    }


def _thin(values: Array, points: int) -> list[float]:
    """Evenly chosen values, the first and the last among them."""
    chosen = np.unique(np.linspace(0, len(values) - 1, min(points, len(values))).round().astype(int))
    return [float(value) for value in values[chosen]]


def calibration(labels: Array, scores: Array, bins: int) -> dict[str, Any]:
    """Reliability bins of equal width, and the expected calibration error over them.

    ECE = sum over bins of (n_bin / n) * |share of AI - mean probability| (Guo et al. 2017, "On Calibration of Modern
    Neural Networks", equation 3, for the probability of the positive class).
    """
    place = np.minimum((scores * bins).astype(int), bins - 1)
    rows: list[dict[str, Any]] = []
    for number in range(bins):
        mine = place == number
        count = int(mine.sum())
        rows.append(
            {
                "low": number / bins,
                "high": (number + 1) / bins,
                "n": count,
                "mean_probability": float(scores[mine].mean()) if count else None,
                "share_ai": float(labels[mine].mean()) if count else None,
            }
        )
    gaps = [row["n"] * abs(row["share_ai"] - row["mean_probability"]) for row in rows if row["n"]]
    return {"ece": sum(gaps) / len(labels) if len(labels) else None, "bins": rows}


def histogram(labels: Array, scores: Array, bins: int) -> dict[str, list[int]]:
    """How many pictures of each class have a score in each of `bins` equal parts of [0, 1]."""
    counts = {}
    for name, label in (("real", 0), ("ai", 1)):
        found, _ = np.histogram(scores[labels == label], bins=bins, range=(0.0, 1.0))
        counts[name] = [int(count) for count in found]
    return counts


def worth(recall: float | None, specificity: float | None) -> list[dict[str, float | None]]:
    """What the verdict AI-generated is worth where AI pictures are rarer than in the data: Bayes' rule.

    precision = recall * share / (recall * share + (1 - specificity) * (1 - share))
    """
    rows: list[dict[str, float | None]] = []
    for share in (0.5, 0.1, 0.01):
        value = None
        if recall is not None and specificity is not None:
            called = recall * share + (1 - specificity) * (1 - share)
            value = recall * share / called if called else None
        rows.append({"share_ai": share, "precision": value})
    return rows
