"""Waves: all the work, in order, two waves at a time; an error ends it."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from pipeline.errors import DataError
from spark_jobs._waves import waves


@pytest.mark.parametrize(("count", "size"), [(0, 3), (1, 3), (3, 3), (10, 3), (10, 100)])
def test_all_the_work_is_done_in_order(count: int, size: int) -> None:
    found = list(waves(count, size, list))
    assert [number for wave in found for number in wave] == list(range(count))
    assert all(len(wave) <= size for wave in found)


def test_the_next_wave_begins_before_the_last_one_ends() -> None:
    meeting = threading.Barrier(2, timeout=20)
    assert len(list(waves(4, 1, lambda wave: meeting.wait()))) == 4


def test_an_error_ends_the_work() -> None:
    begun = []

    def run(wave: range) -> Any:
        begun.append(wave.start)
        if wave.start == 1:
            raise DataError("no more")
        time.sleep(0.001)  # no work at all would be over before anyone hears of the error

    with pytest.raises(DataError, match="no more"):
        list(waves(10_000, 1, run))
    assert len(begun) < 10_000
