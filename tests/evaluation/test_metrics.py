"""Figures: what they are, and why they are not when they are not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from evaluation import metrics
from tests.evaluation.scored import scored

# What needs both classes.
RANKING = {"balanced_accuracy", "auc", "average_precision", *metrics.FPRS}


def test_figures_are_those_of_the_confusion_matrix() -> None:
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, 1, 1], np.int8)
    scores = np.array([0.1, 0.2, 0.3, 0.9, 0.5, 0.6, 0.7, 0.8, 0.4, 0.1])
    values, reasons = metrics.measure(labels, scores, 0.5)
    assert metrics.confusion(labels, scores >= 0.5) == {"tn": 3, "fp": 1, "fn": 2, "tp": 4}
    assert reasons == {}
    expected = {"accuracy": 0.7, "precision": 0.8, "recall": 4 / 6, "specificity": 0.75, "f1": 8 / 11}
    for name, value in expected.items():
        assert values[name] == pytest.approx(value)
    assert values["balanced_accuracy"] == pytest.approx((4 / 6 + 0.75) / 2)
    pairs = [(a > r) + (a == r) / 2 for a in scores[labels == 1] for r in scores[labels == 0]]
    assert values["auc"] == pytest.approx(np.mean(pairs))
    assert values["tpr_at_1pct_fpr"] == 0.0  # the highest score is a real picture's


def test_the_threshold_itself_is_ai() -> None:
    values, _ = metrics.measure(np.array([0, 1]), np.array([0.49, 0.5]), 0.5)
    assert values["accuracy"] == 1


@pytest.mark.parametrize(
    ("labels", "scores", "undefined"),
    [
        ([], [], RANKING | {"accuracy", "precision", "recall", "specificity", "f1", "brier", "nll"}),
        ([0, 0], [0.1, 0.9], RANKING | {"recall", "f1"}),
        ([1, 1], [0.1, 0.9], RANKING | {"specificity"}),
        ([0, 1], [0.1, 0.2], {"precision"}),
        ([0, 0], [0.1, 0.2], RANKING | {"recall", "f1", "precision"}),
    ],
)
def test_what_is_undefined_is_none_with_a_reason(labels: list[int], scores: list[float], undefined: set[str]) -> None:
    values, reasons = metrics.measure(np.array(labels, np.int8), np.array(scores), 0.5)
    assert {name for name, value in values.items() if value is None} == undefined
    assert undefined <= set(reasons)
    assert all(reasons.values())


def test_curves_are_thinned_but_keep_their_ends() -> None:
    labels, scores = scored(1000, 3)
    thin = metrics.curves(labels, scores, 50)
    full = metrics.curves(labels, scores, 10_000)
    if thin is None or full is None:
        pytest.fail("both classes are there")
    for kind, axes in thin.items():
        for name, values in axes.items():
            assert len(values) <= 50
            assert (values[0], values[-1]) == (full[kind][name][0], full[kind][name][-1])
    area = np.trapezoid(full["roc"]["tpr"], full["roc"]["fpr"])
    assert area == pytest.approx(reference.roc_auc_score(labels, scores))
    assert np.trapezoid(thin["roc"]["tpr"], thin["roc"]["fpr"]) == pytest.approx(area, abs=0.02)
    assert metrics.curves(np.ones(5), scores[:5], 50) is None


def test_calibration_error_by_hand() -> None:
    labels = np.array([0, 1, 1, 1, 0])
    scores = np.array([0.1, 0.2, 0.9, 1.0, 0.8])
    found = metrics.calibration(labels, scores, 2)
    assert [one["n"] for one in found["bins"]] == [2, 3]
    assert found["bins"][0]["share_ai"] == 0.5
    assert found["bins"][0]["mean_probability"] == pytest.approx(0.15)
    assert found["ece"] == pytest.approx(2 / 5 * 0.35 + 3 / 5 * (0.9 - 2 / 3))
    assert metrics.calibration(labels[:0], scores[:0], 2)["ece"] is None


def test_a_calibrated_detector_has_a_small_calibration_error() -> None:
    generator = np.random.default_rng(1)
    scores = generator.random(50_000)
    labels = (generator.random(50_000) < scores).astype(np.int8)
    assert metrics.calibration(labels, scores, 10)["ece"] < 0.01
    assert metrics.calibration(labels, scores**3, 10)["ece"] > 0.1


def test_a_histogram_counts_every_picture_once() -> None:
    labels, scores = scored(500, 4)
    counts = metrics.histogram(labels, np.concatenate([scores[:-2], [0.0, 1.0]]), 20)
    assert (sum(counts["real"]), sum(counts["ai"])) == (int(np.sum(labels == 0)), int(np.sum(labels == 1)))


def test_an_alarm_is_worth_less_where_generated_pictures_are_rare() -> None:
    rows = metrics.worth(0.9, 0.9)
    assert [row["share_ai"] for row in rows] == [0.5, 0.1, 0.01]
    assert [row["precision"] for row in rows] == pytest.approx([0.9, 0.5, 0.009 / 0.108])
    assert all(row["precision"] is None for row in metrics.worth(None, 0.9) + metrics.worth(0.0, 1.0))
