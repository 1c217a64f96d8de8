"""What training took, from the lines of its log."""

from __future__ import annotations

from typing import Any

import pytest

from training.compare_cost import Cost, cost_of


def steps(*times: float, epoch: int = 1, pictures: int = 32) -> list[dict[str, Any]]:
    return [{"kind": "step", "epoch": epoch, "time": time, "pictures": pictures} for time in times]


VALIDATED = [*steps(0, 2, 4), {"kind": "epoch", "epoch": 1}, *steps(1000, 1002, 1004, epoch=2)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([{"kind": "epoch", "epoch": 1}], None),
        ([{**step, "seconds": 4.0} for step in steps(0, 9000, 0, 5)], Cost(128, 128 / 8 / 3600, 8.0)),
        (steps(0, 2, 4, 6), Cost(128, 128 / 16 / 3600, 16.0)),
        (steps(0, 2, 4, 3600, 3602), Cost(160, 160 / 16 / 3600, 16.0)),  # stopped and resumed
        (steps(0, 2, 32, 34), Cost(128, 128 / (96 / 34) / 3600, 96 / 34)),  # a slow step is no pause
        (steps(0, 100, 600, 700), Cost(128, 128 / (96 / 700) / 3600, 96 / 700)),  # nor is one of a slow model
        (steps(100, 102, 50, 52), Cost(128, 128 / 16 / 3600, 16.0)),  # resumed where the clock is behind
        (VALIDATED, Cost(192, 192 / 16 / 3600, 16.0)),  # validation is no training
        (steps(5), Cost(32, None, None)),
        ([{"kind": "step", "epoch": 1, "pictures": 8}] * 3, Cost(24, None, None)),  # without times
    ],
)
def test_cost_is_that_of_training_steps(lines: list[dict[str, Any]], expected: Cost | None) -> None:
    found = cost_of(lines)
    if expected is None or found is None:
        assert found is expected
        return
    assert found.pictures == expected.pictures
    assert (found.hours, found.rate) == (pytest.approx(expected.hours), pytest.approx(expected.rate))
