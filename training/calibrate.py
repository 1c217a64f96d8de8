"""Temperature and threshold, fitted on validation logits. Pure numpy and scipy; must not know of torch or files."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from sklearn.metrics import roc_auc_score, roc_curve

from pipeline.bundle import probability
from training.config import Threshold

__all__ = ["fit_temperature", "fit_threshold", "operating_point"]

Floats = NDArray[np.float64]
_LOG_RANGE: Final = (float(np.log(0.05)), float(np.log(20.0)))


def _nll(logits: Floats, labels: Floats, temperature: float) -> float:
    """Mean negative log-likelihood of the labels."""
    scaled = logits / temperature
    return float(np.mean(np.logaddexp(0.0, scaled) - labels * scaled))


def fit_temperature(logits: Floats, labels: Floats) -> float:
    """The temperature in [0.05, 20] that minimises the NLL (Guo et al. 2017, "On Calibration of Modern Neural
    Networks"); the bounds matter where the classes are separated perfectly, and no finite one would do.

    Args:
        logits: float64 (n,).
        labels: float64 (n,) of 0 and 1.
    """
    result = minimize_scalar(
        lambda log: _nll(logits, labels, float(np.exp(log))),
        bounds=_LOG_RANGE,
        method="bounded",
        options={"xatol": 1e-9, "maxiter": 500},
    )
    return float(np.exp(result.x))


def fit_threshold(scores: Floats, labels: Floats, rule: Threshold) -> float:
    """The threshold t of the verdict `score >= t`, halfway between two neighbouring scores.

    Among equally good ones the nearest to one half, then the lowest.

    Args:
        scores: calibrated probabilities, float64 (n,).
        labels: float64 (n,) of 0 and 1; both occur.
        rule: what to optimise.
    """
    fpr, tpr, cuts = roc_curve(labels, scores, drop_intermediate=False)
    # `cuts` are scores, highest first, after one above all; halfway down to the next score the verdicts are the same.
    below = np.append(cuts[1:], 0.0)
    above = np.where(np.isinf(cuts), 1.0, cuts)
    middle = (above + below) / 2
    middle = np.where((middle > below) & (middle <= above), middle, above)
    middle[0] = np.nextafter(max(middle[0], cuts[1]), np.inf) if middle[0] <= cuts[1] else middle[0]
    if rule.rule == "target_fpr":
        goal = np.where(fpr <= rule.target_fpr, tpr, -1.0)
    else:
        goal = (tpr + 1.0 - fpr) / 2
    best = np.flatnonzero(goal >= goal.max() - 1e-12)
    return float(min(middle[best], key=lambda cut: (abs(cut - 0.5), cut)))


def operating_point(logits: Floats, labels: Floats, temperature: float, threshold: float) -> dict[str, Any]:
    """What validation says of the fitted temperature and threshold, JSON-ready."""
    called = probability(logits, temperature) >= threshold
    return {
        "n": len(labels),
        "auc": float(roc_auc_score(labels, logits)),
        "true_positive_rate": float(called[labels == 1].mean()),
        "false_positive_rate": float(called[labels == 0].mean()),
        "nll": _nll(logits, labels, temperature),
        "nll_uncalibrated": _nll(logits, labels, 1.0),
    }
