"""From scored pictures to the body of `report.json`: all that the report says, as data.

What cannot be computed is null, with the reason beside it. This module must not draw or write anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from detection.model import Detector
from evaluation import metrics
from evaluation.bootstrap import intervals
from evaluation.config import EvaluationConfig, result_fields
from evaluation.scores import Scores
from evaluation.slices import Slice, of_sources, of_split
from evaluation.words import headline, notes, untested
from pipeline.manifest import SEAL, library_versions

__all__ = ["STAGE_VERSION", "chain", "figures_of", "fixed_members", "report_body"]

STAGE_VERSION: Final = 3
_LIBRARIES: Final = (
    "jinja2",
    "matplotlib",
    "numpy",
    "onnxruntime",
    "pillow",
    "pyarrow",
    "scikit-learn",
    "simplejpeg",
)
_SHOWN_FIRST: Final = ("test", "ood", "val", "train")  # a source in several splits is summed up by the first of these


def fixed_members(detector: Detector, document: Mapping[str, Any], config: EvaluationConfig) -> dict[str, Any]:
    """The members of the manifest that are known before anything is scored: what the report is of."""
    return {
        "kind": "report",
        "stage_version": STAGE_VERSION,
        "config": result_fields(config),
        "libraries": library_versions(*_LIBRARIES),
        "parents": {"bundle": detector.bundle.sha256, "dataset": document[SEAL]},
    }


def chain(detector: Detector, document: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes from the raw pictures to the bundle, and whether the bundle was trained on this very dataset.

    `stats`, `shards` and `trained_on` are what the bundle says of its parents.
    """
    parents = detector.bundle.document["parents"]
    return {
        "raw": document["parents"]["raw"],
        "dataset": document[SEAL],
        "stats": parents.get("stats"),
        "shards": parents.get("shards"),
        "bundle": detector.bundle.sha256,
        "trained_on": parents.get("dataset"),
        "same_dataset": parents.get("dataset") == document[SEAL],
    }


def report_body(
    detector: Detector, document: Mapping[str, Any], config: EvaluationConfig, scores: Scores
) -> dict[str, Any]:
    """The manifest without `files` and seal.

    Args:
        detector: the bundle that scored.
        document: the dataset's manifest.
        config: the evaluation's settings.
        scores: every row of the splits that were asked for.
    """
    body = {
        **fixed_members(detector, document, config),
        "chain": chain(detector, document),
        "model": _model(detector),
        "splits": {split: _split(scores, of_split(scores, split), detector, config) for split in config.splits},
        "by_source": _by_source(scores, detector, config),
        "mistakes": _mistakes(scores, detector, config),
    }
    return {**body, "headline": headline(body), "notes": notes(body), "untested": untested(body)}


def _model(detector: Detector) -> dict[str, Any]:
    bundle = detector.bundle
    return {
        "name": detector.name,
        "size": bundle.canonical.geometry.size,
        "geometry": bundle.canonical.geometry.mode,
        "quality": bundle.canonical.harmonise.quality,
        "temperature": bundle.temperature,
        "threshold": bundle.threshold,
        "threshold_rule": bundle.document.get("threshold_rule"),
    }


def figures_of(scores: Scores, part: Slice, detector: Detector, config: EvaluationConfig) -> dict[str, Any]:
    """What splits and sources have in common: every figure that is one number, its interval, and its counts.

    Args:
        scores: of the pictures, and of those that they are scored against.
        part: which they are.
        detector: the bundle that scored; its threshold decides.
        config: the settings of the intervals.
    """
    labels, values = scores.label[part.scored], scores.probability[part.scored]
    threshold = detector.bundle.threshold
    numbers, reasons = metrics.measure(labels, values, threshold)
    ranges, why_not = intervals(
        labels, values, scores.group_id[part.scored], threshold, config.bootstrap_samples, config.seed
    )
    own = scores.probability[part.own]
    return {
        **numbers,
        "n": int(part.own.sum()),
        "n_real": int(np.sum(labels == 0)),
        "n_ai": int(np.sum(labels == 1)),
        "groups": len(set(scores.group_id[part.own])),
        "groups_drawn": len(set(scores.group_id[part.scored])),
        "groups_real": len(set(scores.group_id[part.scored][labels == 0])),
        "groups_ai": len(set(scores.group_id[part.scored][labels == 1])),
        "against": part.against,
        "mean_probability": float(own.mean()) if len(own) else None,
        "confusion": metrics.confusion(labels, (values >= threshold).astype(np.int8)),
        "ci95": ranges,
        "reasons": reasons | {f"ci95.{name}": why for name, why in why_not.items() if name not in reasons},
    }


def _split(scores: Scores, part: Slice, detector: Detector, config: EvaluationConfig) -> dict[str, Any]:
    labels, values = scores.label[part.scored], scores.probability[part.scored]
    figures = figures_of(scores, part, detector, config)
    calibration = metrics.calibration(labels, values, config.calibration_bins)
    return {
        **figures,
        "ece": calibration["ece"],
        "calibration": calibration["bins"],
        "curves": metrics.curves(labels, values, config.curve_points),
        "histogram": metrics.histogram(labels, values, config.histogram_bins),
        "worth": metrics.worth(figures["recall"], figures["specificity"]),
    }


def _by_source(scores: Scores, detector: Detector, config: EvaluationConfig) -> dict[str, Any]:
    """By name: the figures in its first split of `_SHOWN_FIRST`, and those of further splits under `other_splits`.

    A name that both labels use is written `real/name` and `ai/name`.
    """
    order = sorted(config.splits, key=_SHOWN_FIRST.index)
    parts = [part for split in order for part in of_sources(scores, split)]
    labels: dict[str, set[str | None]] = {}
    for part in parts:
        labels.setdefault(part.name, set()).add(part.label)
    result: dict[str, Any] = {}
    for part in parts:
        key = f"{part.label}/{part.name}" if len(labels[part.name]) > 1 else part.name
        figures = {"label": part.label, "split": part.split, **figures_of(scores, part, detector, config)}
        if key in result:
            result[key]["other_splits"][part.split] = figures
        else:
            result[key] = {**figures, "other_splits": {}}
    return result


def _mistakes(scores: Scores, detector: Detector, config: EvaluationConfig) -> dict[str, list[dict[str, Any]]]:
    """The mistakes that the detector was most certain of, in test and ood (or in what was scored instead)."""
    judged = [split for split in config.splits if split in ("test", "ood")] or list(config.splits)
    here = np.isin(scores.split, judged)
    predicted = scores.probability >= detector.bundle.threshold
    wrong = {
        "called_ai": (here & (scores.label == 0) & predicted, -scores.probability),
        "called_real": (here & (scores.label == 1) & ~predicted, scores.probability),
    }
    return {
        kind: [_mistake(scores, i) for i in _first(scores, mask, keys, config.mistakes)]
        for kind, (mask, keys) in wrong.items()
    }


def _first(scores: Scores, mask: Any, keys: Any, count: int) -> list[int]:
    chosen = [int(i) for i in np.flatnonzero(mask)]
    return sorted(chosen, key=lambda i: (float(keys[i]), str(scores.image_id[i])))[:count]


def _mistake(scores: Scores, i: int) -> dict[str, Any]:
    return {
        "path": str(scores.path[i]),
        "split": str(scores.split[i]),
        "source": str(scores.source[i]),
        "image_id": str(scores.image_id[i]),
        "ai_probability": float(scores.probability[i]),
    }
