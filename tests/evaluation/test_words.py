"""Sentences that follow from the figures."""

from __future__ import annotations

from typing import Any

import pytest

from evaluation.words import headline, notes, unseen, untested


def figures(auc: float | None, verdicts: float, **others: Any) -> dict[str, Any]:
    bounds = {"auc": [auc, 1.0], "balanced_accuracy": [verdicts, 1.0], "recall": [0.8, 0.9], "specificity": [0.7, 0.9]}
    return {
        **dict.fromkeys(("balanced_accuracy", "recall", "specificity"), verdicts),
        "auc": auc,
        "n": 100,
        "n_real": 50,
        "n_ai": 50,
        **dict.fromkeys(("groups_drawn", "groups_real", "groups_ai"), 100),
        "ci95": bounds if auc is not None else dict.fromkeys(bounds),
        **others,
    }


def body(same: bool = True, **splits: Any) -> dict[str, Any]:
    return {"splits": splits, "chain": {"same_dataset": same}, "by_source": {"gan": {"label": "ai"}}}


@pytest.mark.parametrize(
    ("auc", "verdicts", "level"),
    [
        (0.999, 0.98, "excellent"),
        (0.999, 0.90, "good"),  # the verdicts count as much as the ranking
        (0.95, 0.95, "good"),
        (0.80, 0.75, "fair"),
        (0.999, 0.60, "weak"),
        (0.60, 0.55, "weak"),
        (0.50, 0.55, "chance"),
        (0.40, 0.30, "chance"),
    ],
)
def test_the_headline_goes_by_the_lower_ends(auc: float, verdicts: float, level: str) -> None:
    assert headline(body(test=figures(auc, verdicts)))["level"] == level


def test_the_headline_is_of_test_and_mentions_unseen_sources() -> None:
    found = headline(body(val=figures(0.99, 0.99), test=figures(0.95, 0.9), ood=figures(0.7, 0.6)))
    assert found["split"] == "test"
    assert "pictures of test" in found["sentences"][0]
    assert "never saw its AUC is 0.700" in found["sentences"][-1]


@pytest.mark.parametrize(
    ("auc", "verdicts", "level", "title"),
    [
        (0.99, 0.95, "good", "Tells generated pictures from real ones well"),  # better elsewhere is no merit
        (0.95, 0.90, "good", "Tells generated pictures from real ones well"),
        (
            0.80,
            0.75,
            "fair",
            "Tells generated pictures from real ones well; on sources it has not met it makes many mistakes",
        ),
        (0.64, 0.52, "weak", "Tells generated pictures from real ones well; on sources it has not met it hardly does"),
        (
            0.64,
            0.48,
            "chance",
            "Tells generated pictures from real ones well; on sources it has not met it only guesses",
        ),
    ],
)
def test_the_headline_does_not_hide_what_fails_elsewhere(auc: float, verdicts: float, level: str, title: str) -> None:
    found = headline(body(test=figures(0.95, 0.9), ood=figures(auc, verdicts)))
    assert (found["level"], found["title"]) == (level, title)


def test_without_both_classes_there_is_no_verdict() -> None:
    found = headline(body(test=figures(None, 0.5)))
    assert (found["split"], found["level"]) == (None, "unknown")


def test_a_threshold_that_does_not_suit_is_named() -> None:
    assert any("threshold does not suit" in text for text in headline(body(test=figures(0.99, 0.5)))["sentences"])


def test_no_mistake_is_not_certainty() -> None:
    perfect = figures(1.0, 1.0, groups_ai=20)
    perfect["ci95"] = {name: [1.0, 1.0] for name in perfect["ci95"]}
    assert "no mistake in 20 groups: up to 13.9" in headline(body(test=perfect))["sentences"][0]
    assert any("no mistake was seen" in note for note in notes(body(test=perfect)))
    assert unseen(100) == pytest.approx(0.0295, abs=1e-4)


def test_a_report_without_a_test_split_says_so() -> None:
    assert notes(body(val=figures(0.9, 0.9)))[0].startswith("There is no test split")


def test_notes_name_what_weakens_the_figures() -> None:
    found = notes(body(same=False, val=figures(0.9, 0.9), test=figures(0.9, 0.9, groups_drawn=3)))
    assert len(found) == 3
    words = ("not the one", "test: its pictures come from only 3", "val: training chose")
    for note, word in zip(found, words, strict=True):
        assert word in note
    assert notes(body(test=figures(0.9, 0.9))) == []


def test_what_was_not_tested_names_the_generators_that_were() -> None:
    assert any("ood" in text for text in untested(body(test=figures(0.9, 0.9))))
    with_ood = untested(body(test=figures(0.9, 0.9), ood=figures(0.9, 0.9)))
    assert not any("no pictures in ood" in text for text in with_ood)
    assert any("(gan)" in text for text in with_ood)
