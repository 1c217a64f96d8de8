"""Much work in waves: Spark's driver keeps a few kilobytes for every task of a job, and every line of its work list.

Nothing here knows what the work is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from pyspark.sql import SparkSession

__all__ = ["tasks_in_wave", "waves"]

T = TypeVar("T")

_AT_ONCE: Final = 2  # while the last tasks of a wave run, the next wave's fill the idle cores
_LEAST: Final = 32  # cores: with fewer, a wave is as for so many


def tasks_in_wave(spark: SparkSession, rounds: int) -> int:
    """How many tasks a wave has: so many for every core."""
    return rounds * max(_LEAST, spark.sparkContext.defaultParallelism)


def waves(count: int, size: int, run: Callable[[range], T]) -> Iterator[T]:
    """Run `count` pieces of work, `size` of them at a time.

    Args:
        count: how many pieces there are.
        size: how many go into a wave.
        run: does the pieces of a range as one Spark job; called in two threads.

    Yields:
        what `run` returned, in order. The first error ends it, after the wave that is under way.
    """
    wanted = [range(start, min(start + size, count)) for start in range(0, count, size)]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield from pool.map(run, wanted)
