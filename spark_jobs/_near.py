"""Near-duplicates on Spark: signatures go to buckets, buckets give links. No pair outside a bucket is compared.

The driver keeps the columns that it is given, and holds a few pieces of them beside.

Nothing here may decide what a link means.
"""

from __future__ import annotations

import sys
import zlib
from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from pipeline.grouping import band_keys, first_of_equal, spanning_edges
from pipeline.perceptual import SIGNATURE_BYTES, NearDuplicates
from pipeline.references import Indexes
from spark_jobs.session import parallelism

__all__ = ["near_links"]

Marked = tuple[bytes, int]
_PER_TASK: Final = 20_000
_TASKS_AT_ONCE: Final = 64  # whose signatures Python holds in pieces while it hands them to Spark
_NUMBER: Final = 8  # bytes
_WIDTH: Final = _NUMBER + SIGNATURE_BYTES


def near_links(spark: SparkSession, numbers: Indexes, marks: NDArray[np.uint8], limits: NearDuplicates) -> Indexes:
    """Links that join all near-duplicates.

    Args:
        spark: the session.
        numbers: of the pictures that have a signature, ascending, int64 (N,).
        marks: the signatures of all pictures by their numbers, uint8 (M, `SIGNATURE_BYTES`).
        limits: what counts.

    Returns:
        pairs of numbers, int64 (K, 2); which ones depends on the order in which Spark delivers, what they join does
        not.
    """
    if not limits.enabled or not len(numbers):
        return np.zeros((0, 2), np.int64)
    first = numbers[first_of_equal(marks[numbers])]
    same = first != numbers  # equal signatures are one from here on: a crowd of them costs nothing
    links, different = np.column_stack([first[same], numbers[same]]), numbers[~same]
    tasks = parallelism(spark, len(different), _PER_TASK)
    found = (
        _spread(spark, different, marks, tasks)
        .flatMap(partial(_keyed, limits=limits))
        .repartitionAndSortWithinPartitions(tasks, _task_of)
        .mapPartitions(partial(_bucket_links, limits=limits))
        .collect()
    )
    return np.concatenate([links, *(np.frombuffer(piece, np.int64).reshape(-1, 2) for piece in found)])


def _spread(spark: SparkSession, numbers: Indexes, marks: NDArray[np.uint8], tasks: int) -> Any:
    """The signatures on Spark, one piece of bytes a task: as objects of their own they would fill the driver."""
    pieces, context = np.array_split(numbers, tasks), spark.sparkContext
    parts = []
    for start in range(0, tasks, _TASKS_AT_ONCE):
        some = [_packed(piece, marks) for piece in pieces[start : start + _TASKS_AT_ONCE]]
        parts.append(context.parallelize(some, len(some)))
    return context.union(parts)


def _packed(numbers: Indexes, marks: NDArray[np.uint8]) -> bytes:
    shown = numbers.astype(np.int64)[:, None].view(np.uint8)
    return np.concatenate([shown, marks[numbers]], axis=1).tobytes()


def _keyed(piece: bytes, limits: NearDuplicates) -> Iterator[tuple[int, Marked]]:
    for start in range(0, len(piece), _WIDTH):
        number, mark = piece[start : start + _NUMBER], piece[start + _NUMBER : start + _WIDTH]
        item = (mark, int.from_bytes(number, sys.byteorder))
        for key in band_keys(mark, limits):
            yield key, item


def _task_of(key: int) -> int:
    return zlib.crc32(key.to_bytes(9, "big"))


def _bucket_links(items: Iterable[tuple[int, Marked]], limits: NearDuplicates) -> Iterator[bytes]:
    links = array("q")
    for _, bucket in groupby(items, key=itemgetter(0)):
        members = [item for _, item in bucket]
        for one, other in spanning_edges([mark for mark, _ in members], limits):
            links.extend((members[one][1], members[other][1]))
    yield links.tobytes()
