"""Where a run is in its phases, and the learning rate there: pure functions of the plan and of the epochs' metrics.

So a resume needs no scheduler's state, and what stopped early stops there again. This module must not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.config import MONITORS, Phase, Plateau

__all__ = ["Position", "best_of", "learning_rate", "position", "reductions", "stopped_early"]

Metrics = Mapping[str, Any]


@dataclass(frozen=True)
class Position:
    """The epoch that comes next.

    Attributes:
        phase: number of the phase, from 0.
        first: epochs that were finished before the phase began.
        epoch: epochs finished, over all phases.
        reductions: how often `schedule: plateau` has lowered the rate in this phase.
    """

    phase: int
    first: int
    epoch: int
    reductions: int


def position(plan: Sequence[Phase], history: Sequence[Metrics], monitor: str) -> Position | None:
    """The epoch after those of a history, or None when the run is done.

    Args:
        plan: the phases.
        history: the metrics of the finished epochs, each with its `phase`.
        monitor: what early stopping follows.
    """
    first = 0
    for number, phase in enumerate(plan):
        mine = [metrics for metrics in history if metrics["phase"] == number]
        if len(mine) < phase.epochs and not stopped_early(mine, monitor, phase.patience):
            return Position(number, first, first + len(mine), reductions(mine, phase))
        first += len(mine)
    return None


def best_of(history: Sequence[Metrics], monitor: str) -> int:
    """The place of the best epoch, the first of equals; -1 for an empty history."""
    sign = MONITORS[monitor]
    return max(range(len(history)), key=lambda at: (sign * history[at][monitor], -at), default=-1)


def stopped_early(history: Sequence[Metrics], monitor: str, patience: int) -> bool:
    """Whether `patience` epochs have followed the best one; never with a patience of 0."""
    return bool(patience and history) and len(history) - 1 - best_of(history, monitor) >= patience


def reductions(history: Sequence[Metrics], phase: Phase) -> int:
    """How often a phase's rate has been lowered, counted as Keras' ReduceLROnPlateau does."""
    return _plateaus(history, phase.plateau) if phase.schedule == "plateau" else 0


def _plateaus(history: Sequence[Metrics], rule: Plateau) -> int:
    sign, best, waited, count = MONITORS[rule.monitor], -math.inf, 0, 0
    for metrics in history:
        value = sign * metrics[rule.monitor]
        if value > best + rule.min_delta:
            best, waited = value, 0
            continue
        waited += 1
        if waited >= rule.patience:
            count, waited = count + 1, 0
    return count


def learning_rate(phase: Phase, step: int, steps_per_epoch: int, reductions: int = 0) -> float:
    """The rate of a step of a phase: linear warm-up, then constant, half a cosine (Loshchilov & Hutter 2017), or
    lowered at plateaus.

    Args:
        phase: schedule and rates.
        step: counted from 0 at the phase's beginning.
        steps_per_epoch: optimiser steps.
        reductions: how often the rate has been lowered.
    """
    total = phase.epochs * steps_per_epoch
    warmup = min(phase.warmup_steps or round(phase.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return phase.lr * (step + 1) / warmup
    if phase.schedule == "constant":
        return phase.lr
    if phase.schedule == "plateau":
        return max(phase.lr_min, phase.lr * phase.plateau.factor**reductions)
    done = (step - warmup) / max(1, total - warmup)
    return phase.lr_min + (phase.lr - phase.lr_min) * 0.5 * (1.0 + math.cos(math.pi * done))
