"""Phases, rates, plateaus and early stopping: all of them functions of the plan and of the metrics so far."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.config import build
from training.config import Phase, TrainingConfig
from training.schedule import Position, best_of, learning_rate, position, reductions, stopped_early


def history(*aucs: float, phase: int = 0) -> list[dict[str, Any]]:
    return [{"phase": phase, "val_auc": auc, "val_loss": 1 - auc, "val_accuracy": auc} for auc in aucs]


def plan(*phases: dict[str, Any], **common: Any) -> tuple[Phase, ...]:
    return build(TrainingConfig, {**common, "phases": list(phases)}).plan


@pytest.mark.parametrize(
    ("values", "step", "expected"),
    [
        ({"schedule": "constant"}, 17, 1.0),
        ({"schedule": "cosine"}, 0, 1.0),
        ({"schedule": "cosine"}, 20, 0.5),
        ({"schedule": "cosine", "lr_min": 0.5}, 20, 0.75),
        ({"schedule": "cosine"}, 40, 0.0),
        ({"schedule": "plateau"}, 39, 1.0),
        ({"warmup_steps": 4}, 0, 0.25),
        ({"warmup_steps": 4}, 3, 1.0),
        ({"warmup_epochs": 0.4}, 1, 0.5),
        ({"warmup_epochs": 0.4}, 22, 0.5),
        ({"warmup_steps": 1000}, 39, 1.0),
    ],
)
def test_the_rate_of_a_step(values: dict[str, object], step: int, expected: float) -> None:
    phase = build(Phase, {"epochs": 4, "lr": 1.0, **values})
    assert learning_rate(phase, step, steps_per_epoch=10) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("lr_min", "expected"), [(0.0, 0.25), (0.4, 0.4)])
def test_a_plateau_multiplies_the_rate_and_stops_at_the_lowest(lr_min: float, expected: float) -> None:
    phase = build(Phase, {"lr": 1.0, "schedule": "plateau", "lr_min": lr_min})
    assert learning_rate(phase, 50, 10, reductions=2) == expected


@pytest.mark.parametrize(
    ("losses", "patience", "count"),
    [
        ([], 2, 0),
        ([0.5, 0.4, 0.3], 1, 0),
        ([0.5, 0.5], 1, 1),
        ([0.5, 0.5, 0.5], 2, 1),
        ([0.5, 0.6, 0.4, 0.5, 0.5], 2, 1),
        ([0.5, 0.5, 0.5, 0.5, 0.5], 2, 2),
        ([0.5, 0.49995, 0.4999], 2, 1),  # by less than min_delta is no improvement
    ],
)
def test_plateaus_are_counted_as_keras_counts_them(losses: list[float], patience: int, count: int) -> None:
    """Worked out by hand from the rule of ReduceLROnPlateau: wait, and begin to count anew after a reduction."""
    phase = build(Phase, {"schedule": "plateau", "plateau": {"patience": patience}})
    assert reductions([{"val_loss": loss} for loss in losses], phase) == count


def test_only_the_schedule_of_that_name_has_plateaus() -> None:
    assert reductions([{"val_loss": 0.5}] * 9, build(Phase, {"schedule": "cosine"})) == 0


@pytest.mark.parametrize(
    ("aucs", "patience", "stopped"),
    [
        ([], 1, False),
        ([0.9, 0.8], 0, False),
        ([0.9, 0.8], 1, True),
        ([0.9, 0.9], 1, True),  # no better is not better
        ([0.9, 0.8], 2, False),
        ([0.8, 0.7, 0.9, 0.8], 2, False),
        ([0.9, 0.7, 0.8, 0.89], 3, True),
    ],
)
def test_a_phase_stops_after_its_patience(aucs: list[float], patience: int, stopped: bool) -> None:
    assert stopped_early(history(*aucs), "val_auc", patience) is stopped


def test_the_best_epoch_is_the_first_of_equals_and_less_loss_is_better() -> None:
    assert best_of(history(0.5, 0.9, 0.9, 0.7), "val_auc") == 1
    assert best_of([{"val_loss": loss} for loss in (0.5, 0.3, 0.4)], "val_loss") == 1
    assert best_of([], "val_auc") == -1


def test_phases_follow_one_another_and_count_their_own_epochs() -> None:
    phases = plan({"epochs": 2, "unfreeze": "head"}, {"epochs": 3})
    found = [
        position(phases, history(*[0.5] * min(n, 2)) + history(*[0.5] * (n - 2), phase=1), "val_auc") for n in range(6)
    ]
    assert found == [
        Position(0, 0, 0, 0),
        Position(0, 0, 1, 0),
        Position(1, 2, 2, 0),
        Position(1, 2, 3, 0),
        Position(1, 2, 4, 0),
        None,
    ]


def test_a_phase_that_stops_early_makes_way_for_the_next() -> None:
    phases = plan({"epochs": 9, "patience": 2}, {"epochs": 1})
    assert position(phases, history(0.9, 0.8, 0.7), "val_auc") == Position(1, 3, 3, 0)
    assert position(phases, history(0.9, 0.8, 0.7) + history(0.95, phase=1), "val_auc") is None


def test_a_phase_has_what_it_does_not_say_from_the_run() -> None:
    common: dict[str, Any] = {"epochs": 7, "lr": 0.25, "patience": 3, "warmup_steps": 9}
    common |= {"schedule": "plateau", "plateau": {"patience": 5}}
    first, second = plan({"epochs": 2, "lr": 0.5, "warmup_epochs": 0.5}, {"plateau": {"factor": 0.1}}, **common)
    assert (first.epochs, first.lr, first.patience) == (2, 0.5, 3)
    assert (first.warmup_epochs, first.warmup_steps) == (0.5, 0)
    assert (second.epochs, second.lr, second.warmup_steps) == (7, 0.25, 9)
    assert (second.schedule, second.plateau.factor, second.plateau.patience) == ("plateau", 0.1, 5)
