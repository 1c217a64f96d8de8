"""Temperature and threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.bundle import probability
from training.calibrate import fit_temperature, fit_threshold, operating_point
from training.config import Threshold


def sample(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 2, n)
    return logits * temperature, (rng.random(n) < probability(logits, 1.0)).astype(float)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 3.0])
def test_the_temperature_that_made_the_logits_is_found(temperature: float) -> None:
    assert fit_temperature(*sample(temperature)) == pytest.approx(temperature, rel=0.05)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_perfectly_separated_classes_have_a_temperature_within_bounds(scale: float) -> None:
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    assert 0.05 <= fit_temperature(scale * (labels - 0.5), labels) <= 20.0


def test_the_fit_is_the_same_every_time() -> None:
    assert fit_temperature(*sample(2.0)) == fit_temperature(*sample(2.0))


def rates(scores: np.ndarray, labels: np.ndarray, threshold: float) -> tuple[float, float]:
    called = scores >= threshold
    return float(called[labels == 1].mean()), float(called[labels == 0].mean())


scored = st.lists(
    st.tuples(st.sampled_from([0.0, 1.0]), st.floats(0, 1) | st.sampled_from([0.0, 0.25, 1.0])), min_size=2, max_size=40
).filter(lambda rows: {row[0] for row in rows} == {0.0, 1.0})


@given(rows=scored)
def test_no_threshold_has_a_better_balanced_accuracy(rows: list[tuple[float, float]]) -> None:
    labels, scores = np.array(rows).T
    tpr, fpr = rates(scores, labels, fit_threshold(scores, labels, Threshold()))
    for other in [*scores, np.inf]:
        other_tpr, other_fpr = rates(scores, labels, other)
        assert tpr - fpr >= other_tpr - other_fpr - 1e-9


@given(rows=scored, target=st.sampled_from([0.0, 0.05, 0.3, 1.0]))
def test_a_target_fpr_is_kept_with_the_highest_tpr(rows: list[tuple[float, float]], target: float) -> None:
    labels, scores = np.array(rows).T
    tpr, fpr = rates(scores, labels, fit_threshold(scores, labels, Threshold("target_fpr", target)))
    assert fpr <= target
    for other in [*scores, np.inf]:
        other_tpr, other_fpr = rates(scores, labels, other)
        assert other_fpr > target or tpr >= other_tpr


def test_the_threshold_lies_in_the_middle_of_a_gap() -> None:
    scores, labels = np.array([0.1, 0.2, 0.8, 0.9]), np.array([0.0, 0.0, 1.0, 1.0])
    assert fit_threshold(scores, labels, Threshold()) == pytest.approx(0.5)


def test_the_operating_point_says_what_validation_saw() -> None:
    logits, labels = np.array([-3.0, 1.0, 2.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0])
    point = operating_point(logits, labels, 2.0, float(probability(0.5, 2.0)))
    assert (point["n"], point["auc"]) == (4, 1.0)
    assert (point["true_positive_rate"], point["false_positive_rate"]) == (1.0, 0.5)
    assert point["nll_uncalibrated"] == pytest.approx(np.mean(np.log1p(np.exp([-3.0, 1.0, -2.0, -4.0]))))
