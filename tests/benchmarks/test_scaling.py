"""When time a picture counts as flat."""

from __future__ import annotations

import pytest

from benchmarks.scaling import verdict


@pytest.mark.parametrize(
    ("each", "said"),
    [
        ([2.0, 2.3, 1.7], "flat within 20 % (a picture takes 0.85 to 1.15"),
        ([2.0, 2.3, 2.5], "NOT flat within 20 % (a picture takes 1.00 to 1.25"),
        ([2.0, 1.8, 1.5], "NOT flat within 20 % (a picture takes 0.75 to 1.00"),
        ([-0.1, 1.0, 1.0], "not known"),
    ],
)
def test_verdict(each: list[float], said: str) -> None:
    assert verdict(each).startswith(said)
