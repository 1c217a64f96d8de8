"""Many pictures: in order, a few at a time, none stopped by another."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import detection
from detection.inputs import Found, find
from detection.predict import Answer, Problem, in_order, predict


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_results_come_in_order_and_few_items_are_on_their_way(workers: int) -> None:
    taken, given = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        for number in range(60):
            taken += 1
            assert taken - given <= 2 * workers + 1
            yield number

    def slow(number: int) -> int:
        time.sleep(0.002 * (number % 3))
        return number

    for result in in_order(slow, items(), workers):
        assert result == given
        given += 1
    assert given == 60


def test_work_stops_when_nobody_wants_the_rest() -> None:
    done: list[int] = []
    before = threading.active_count()  # other tests' libraries have threads too
    results = in_order(done.append, range(10_000), 2)
    next(results)
    results.close()
    assert len(done) < 20
    assert threading.active_count() == before


def test_an_exception_of_the_function_reaches_the_caller() -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda number: 1 // number, [1, 0, 1], 2))


@pytest.mark.parametrize("workers", [1, 4])
def test_one_bad_picture_is_an_answer_of_its_own(
    bundle: Path, tmp_path: Path, real: bytes, ai: bytes, workers: int
) -> None:
    for name, data in {"1.jpg": real, "2.jpg": b"", "3.png": ai, "4.jpg": real[:-300]}.items():
        (tmp_path / name).write_bytes(data)
    detector = detection.load(str(bundle))
    results = list(predict(detector, [*find([str(tmp_path)], io.BytesIO()), Found("gone.jpg")], workers))
    assert [type(result) for result in results] == [Answer, Problem, Answer, Problem, Problem]
    assert results[0] == Answer(str(tmp_path / "1.jpg"), detector.probability(real), "real")
    assert isinstance(results[2], Answer)
    assert results[2].verdict == "ai"
    reasons = [result.reason for result in results if isinstance(result, Problem)]
    assert reasons == ["empty", "truncated", "unreadable"]
