"""The metrics of an epoch, and how waiting for data is counted."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from training.prefetch import Waiting
from training.validation import metrics_of


def test_the_metrics_of_an_epoch_are_those_counted_by_hand() -> None:
    """Of the four pairs of a real and an AI picture three are in order; a logit of zero is a verdict of AI."""
    found = metrics_of(np.array([-1.0, 0.5, 0.0, 2.0]), np.array([0.0, 0.0, 1.0, 1.0]))
    losses = [math.log1p(math.exp(z)) for z in (-1.0, 0.5, -0.0, -2.0)]
    assert found["val_loss"] == pytest.approx(sum(losses) / 4)
    assert found["val_auc"] == 0.75
    assert found["val_accuracy"] == 0.75


def test_waiting_is_the_time_until_a_batch_comes_and_not_that_of_its_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("training.prefetch.time", SimpleNamespace(perf_counter=lambda: clock.now))

    def batches() -> Iterator[Any]:
        for number in range(3):
            clock.now += 0.25
            yield number

    waiting, seen = Waiting(), []
    for batch in waiting.timed(batches()):
        clock.now += 10.0
        seen.append((batch, waiting.take()))
    assert seen == [(0, 0.25), (1, 0.25), (2, 0.25)]
    assert waiting.take() == 0.0
