"""Ask a detector about many pictures: in the order given, on all cores, with bounded memory.

One bad picture is an answer of its own and stops nothing. This module must not print.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from detection.inputs import Found, read
from detection.model import Detector, Verdict
from pipeline.cli import cores
from pipeline.errors import ImageError, StorageError

__all__ = ["Answer", "Problem", "in_order", "predict"]

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Answer:
    """What the detector says of a picture: its AI probability in [0, 1], and the verdict at the bundle's threshold."""

    path: str
    ai_probability: float
    verdict: Verdict


@dataclass(frozen=True)
class Problem:
    """Why there is no answer: `reason` is an ImageError's code, or `unreadable`; `message` is for people."""

    path: str
    reason: str
    message: str


def predict(detector: Detector, pictures: Iterable[Found], workers: int | None = None) -> Iterator[Answer | Problem]:
    """An answer or a problem for each picture, in the order given.

    Args:
        detector: a loaded bundle.
        pictures: from `detection.inputs.find`; taken as they are needed.
        workers: threads, each decoding and scoring a picture; by default one a core.
    """
    return in_order(lambda found: _one(detector, found), pictures, workers or cores())


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Generator[Result, None, None]:
    """`map`, in threads: results in the items' order, at most twice `workers` items on their way."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                while waiting and (len(waiting) > 2 * workers or waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _one(detector: Detector, found: Found) -> Answer | Problem:
    try:
        data = read(found, detector.bundle.canonical.limits.max_bytes)
        ai_probability = detector.probability(data)
    except ImageError as error:
        return Problem(found.path, error.reason, str(error))
    except StorageError as error:
        return Problem(found.path, "unreadable", str(error).removeprefix(f"{found.path}: "))
    return Answer(found.path, ai_probability, detector.verdict(ai_probability))
