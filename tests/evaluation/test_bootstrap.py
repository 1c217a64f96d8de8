"""Intervals: whole groups are drawn, and each resample's figures are scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from evaluation import bootstrap
from evaluation.bootstrap import intervals
from evaluation.metrics import FPRS, METRICS, measure
from tests.evaluation.scored import Array, scored

THRESHOLD = 0.55


def names(codes: Array) -> Array:
    return np.array([f"group-{code}" for code in codes], dtype=object)


def test_each_resample_has_the_figures_that_scikit_learn_gives_its_pictures() -> None:
    labels, scores = scored(60, 1)
    codes = np.random.default_rng(2).integers(0, 12, 60)
    found = bootstrap._resampled(labels.astype(np.int64), scores, codes, 12, THRESHOLD, 25, 7)
    weights = bootstrap._draw(np.random.default_rng(7), 25, 12)
    assert np.all(weights.sum(axis=1) == 12)
    for number in range(25):
        drawn = np.repeat(np.arange(60), weights[number][codes].astype(int))
        expected, _ = measure(labels[drawn], scores[drawn], THRESHOLD)
        for name in METRICS:
            assert found[name][number] == pytest.approx(expected[name], abs=1e-12), name


def test_the_area_with_weights_is_scikit_learns() -> None:
    labels, scores = scored(200, 5)
    weights = np.random.default_rng(3).integers(0, 4, (10, 200)).astype(float)
    areas = bootstrap._Ranks(labels, scores, np.arange(200)).figures(weights)["auc"]
    for row, area in zip(weights, areas, strict=True):
        assert area == pytest.approx(reference.roc_auc_score(labels, scores, sample_weight=row), abs=1e-12)


def test_an_interval_surrounds_its_figure_and_narrows_with_more_pictures() -> None:
    widths = []
    for count in (100, 1600):
        labels, scores = scored(count, 6)
        values, _ = measure(labels, scores, THRESHOLD)
        ranges, reasons = intervals(labels, scores, names(np.arange(count)), THRESHOLD, 500, 0)
        assert reasons == {}
        for name in METRICS:
            low, high = ranges[name] or (1, 0)
            assert low <= (values[name] or -1) <= high, name
        widths.append(np.diff(ranges["auc"] or [0, 0])[0])
    assert 2.5 < widths[0] / widths[1] < 6  # a sixteenth of the pictures: four times as wide


def test_copies_in_a_group_are_no_evidence() -> None:
    labels, scores = scored(80, 8)
    alone, _ = intervals(labels, scores, names(np.arange(80)), THRESHOLD, 400, 0)
    labels, scores, groups = np.repeat(labels, 9), np.repeat(scores, 9), np.repeat(names(np.arange(80)), 9)
    grouped, _ = intervals(labels, scores, groups, THRESHOLD, 400, 0)
    apart, _ = intervals(labels, scores, names(np.arange(720)), THRESHOLD, 400, 0)
    assert grouped == alone
    assert np.diff(apart["accuracy"] or [0, 0])[0] < 0.6 * np.diff(alone["accuracy"] or [0, 0])[0]


def test_the_seed_decides() -> None:
    labels, scores = scored(60, 1)
    first, again, other = (intervals(labels, scores, names(np.arange(60)), 0.5, 200, seed)[0] for seed in (3, 3, 4))
    assert first == again != other


def test_many_pictures_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "_ELEMENTS", 1000)
    labels, scores = scored(300, 1)
    ranges, _ = intervals(labels, scores, names(np.arange(300)), 0.5, 200, 0)
    low, high = ranges["auc"] or (0, 0)
    assert low < reference.roc_auc_score(labels, scores) < high


@pytest.mark.parametrize(
    ("labels", "codes", "missing", "reason"),
    [
        ([], [], set(METRICS), "no pictures"),
        ([0, 1, 1], [0, 0, 0], set(METRICS), "a single group"),
        (
            [0, 0, 0],
            [0, 1, 2],
            {"auc", "recall", "f1", "balanced_accuracy", "precision", *FPRS},
            "undefined in 100% of",
        ),
        ([0, 1], [0, 1], {*METRICS} - {"accuracy"}, "too few groups"),
    ],
)
def test_no_interval_where_too_little_is_there(
    labels: list[int], codes: list[int], missing: set[str], reason: str
) -> None:
    scores = np.array([0.2, 0.4, 0.3])[: len(labels)] + 0.5 * np.array(labels)
    ranges, reasons = intervals(np.array(labels, np.int8), scores, names(np.array(codes)), 0.65, 200, 0)
    assert {name for name, value in ranges.items() if value is None} == missing == set(reasons)
    assert all(reason in text for text in reasons.values())
