"""The tables of `benchmarks.faces`."""

from __future__ import annotations

from typing import Any

from benchmarks.faces import cell, rows

FIGURES: dict[str, Any] = {
    "n_real": 10,
    "n_ai": 0,
    "auc": None,
    "tpr_at_1pct_fpr": 0.5,
    "tpr_at_0_5pct_fpr": 0.25,
    "ci95": {"auc": None, "tpr_at_1pct_fpr": [0.4, 0.6], "tpr_at_0_5pct_fpr": None},
}


def test_a_figure_comes_with_its_interval_and_an_undefined_one_is_a_dash() -> None:
    assert [cell(FIGURES, name) for name in ("auc", "tpr_at_1pct_fpr", "tpr_at_0_5pct_fpr")] == [
        "–",
        "0.500 [0.400, 0.600]",
        "0.250",
    ]


def test_both_splits_come_first_and_every_source_has_a_row() -> None:
    report = {
        "splits": {"test": FIGURES, "ood": {**FIGURES, "n_ai": 3}},
        "by_source": {"z": {**FIGURES, "split": "ood"}, "a": {**FIGURES, "split": "test"}},
    }
    found = rows(report, "plain")
    assert [row[0] for row in found] == ["test", "ood", "a (test)", "z (ood)"]
    assert {row[1] for row in found} == {"plain"}
    assert [row[3] for row in found] == ["0", "3", "0", "0"]
    assert {len(row) for row in found} == {7}
