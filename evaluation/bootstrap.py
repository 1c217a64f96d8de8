"""95 % intervals by the percentile bootstrap, drawing whole groups: pictures of one group are no independent evidence.

Weights, counts and rank sums are whole numbers (or halves), far below 2**53, so the result is exact and the same on
every machine. Efron & Tibshirani 1993, "An Introduction to the Bootstrap", chapter 13; whole clusters as in Davison &
Hinkley 1997, "Bootstrap Methods and their Application", section 3.8.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from evaluation.metrics import FPRS, METRICS

__all__ = ["intervals"]

Array = np.ndarray[Any, Any]

_ELEMENTS: Final = 4_000_000  # of the largest array held: resamples are drawn in chunks of that size
_DEFINED: Final = 0.95  # an interval needs that share of resamples in which the figure is defined


def intervals(
    labels: Array, scores: Array, groups: Array, threshold: float, samples: int, seed: int
) -> tuple[dict[str, list[float] | None], dict[str, str]]:
    """95 % intervals of every figure in METRICS.

    Args:
        labels: 0 or 1, (N,).
        scores: probabilities of AI-generated, (N,).
        groups: group ids, (N,).
        threshold: from it on the verdict is AI-generated.
        samples: number of resamples.
        seed: of the draw.

    Returns:
        [low, high] by figure, None where there is none, and for these the reason.
    """
    names, codes = np.unique(groups.astype(str), return_inverse=True)
    if len(names) < 2:
        why = "no pictures" if not len(names) else "a single group: nothing to draw from"
        return dict.fromkeys(METRICS), dict.fromkeys(METRICS, why)
    drawn = _resampled(labels.astype(np.int64), scores, codes, len(names), threshold, samples, seed)
    values: dict[str, list[float] | None] = {}
    reasons = {}
    for name in METRICS:
        defined = drawn[name][~np.isnan(drawn[name])]
        values[name] = None
        if len(defined) >= _DEFINED * samples:
            low, high = np.percentile(defined, [2.5, 97.5])
            values[name] = [float(low), float(high)]
        else:
            reasons[name] = f"undefined in {1 - len(defined) / samples:.0%} of the resamples: too few groups of a class"
    return values, reasons


def _resampled(
    labels: Array, scores: Array, codes: Array, count: int, threshold: float, samples: int, seed: int
) -> dict[str, Array]:
    """Each figure in each resample, NaN where undefined."""
    generator = np.random.default_rng(seed)
    ranks = _Ranks(labels, scores, codes)
    cells = _cells(labels, scores >= threshold, codes, count)
    step = max(1, _ELEMENTS // max(len(labels), count))
    chunks: list[dict[str, Array]] = []
    for start in range(0, samples, step):
        weights = _draw(generator, min(step, samples - start), count)
        chunks.append({**_rates(weights @ cells), **ranks.figures(weights)})
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in METRICS}


def _draw(generator: np.random.Generator, samples: int, count: int) -> Array:
    """How often each of `count` groups is drawn in each resample: float64 (samples, count), rows sum to `count`."""
    drawn = generator.integers(0, count, size=(samples, count))
    drawn += count * np.arange(samples)[:, None]
    return np.bincount(drawn.ravel(), minlength=samples * count).reshape(samples, count).astype(np.float64)


def _cells(labels: Array, predicted: Array, codes: Array, count: int) -> Array:
    """The confusion matrix of each group: float64 (count, 4), columns tn, fp, fn, tp."""
    cells = np.zeros((count, 4))
    np.add.at(cells, (codes, 2 * labels + predicted), 1)
    return cells


def _rates(cells: Array) -> dict[str, Array]:
    tn, fp, fn, tp = cells.T
    recall, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    f1 = _ratio(2 * tp, 2 * tp + fp + fn)
    f1[tp + fn == 0] = np.nan  # as in the figure itself
    return {
        "accuracy": _ratio(tn + tp, tn + fp + fn + tp),
        "balanced_accuracy": (recall + specificity) / 2,
        "precision": _ratio(tp, tp + fp),
        "recall": recall,
        "specificity": specificity,
        "f1": f1,
    }


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full_like(above, np.nan), where=below > 0)


class _Ranks:
    """The pictures sorted by score, to weigh what depends on their order anew for each resample.

    AUC = P(score of an AI picture > score of a real one) + half of P(equal): Mann & Whitney 1947.
    """

    def __init__(self, labels: Array, scores: Array, codes: Array) -> None:
        order = np.argsort(scores, kind="stable")
        self._codes, self._ai = codes[order], labels[order].astype(np.float64)
        self._starts = np.flatnonzero(np.diff(scores[order], prepend=-1.0))  # where each distinct score begins

    def figures(self, weights: Array) -> dict[str, Array]:
        """(samples, groups) weights → auc and the figures of `FPRS`, each (samples,)."""
        rows = weights[:, self._codes]
        ai = np.add.reduceat(rows * self._ai, self._starts, axis=1)
        real = np.add.reduceat(rows, self._starts, axis=1) - ai
        below = np.cumsum(real, axis=1) - real / 2
        auc = _ratio((ai * below).sum(axis=1), ai.sum(axis=1) * real.sum(axis=1))
        # From the highest score down: what is caught and accused by a threshold at each distinct score.
        caught, accused = (np.cumsum(part[:, ::-1], axis=1) for part in (ai, real))
        return {"auc": auc} | {name: _tpr_at(caught, accused, limit) for name, limit in FPRS.items()}


def _tpr_at(caught: Array, accused: Array, limit: float) -> Array:
    """The largest true-positive rate at a false-positive rate of at most `limit`: (samples, scores) → (samples,)."""
    rates = _ratio(accused, np.broadcast_to(accused[:, -1:], accused.shape))
    best = np.where(rates <= limit, caught, 0.0).max(axis=1)
    return np.where(accused[:, -1] > 0, _ratio(best, caught[:, -1]), np.nan)
