"""Near-duplicates on Spark: signatures go to buckets, buckets give links. No pair outside a bucket is compared.

Nothing here may decide what a link means.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import groupby
from operator import itemgetter

from pyspark.sql import SparkSession

from pipeline.grouping import band_keys, spanning_edges
from pipeline.perceptual import NearDuplicates
from spark_jobs.session import parallelism

__all__ = ["near_links"]

Link = tuple[int, int]
Marked = tuple[bytes, int]
_PER_TASK = 20_000


def near_links(spark: SparkSession, marks: Iterable[tuple[int, bytes]], limits: NearDuplicates) -> list[Link]:
    """Links that join all near-duplicates.

    Args:
        spark: the session.
        marks: (index, signature) of every picture that has one.
        limits: what counts.

    Returns:
        pairs of indexes; which ones depends on the order in which Spark delivers, what they join does not.
    """
    if not limits.enabled:
        return []
    links, first = [], dict[bytes, int]()
    for index, mark in marks:  # equal signatures are one from here on: a crowd of them costs nothing
        kept = first.setdefault(mark, index)
        if kept != index:
            links.append((kept, index))
    tasks = parallelism(spark, len(first), _PER_TASK)
    found = (
        spark.sparkContext.parallelize(list(first.items()), tasks)
        .flatMap(partial(_keyed, limits=limits))
        .repartitionAndSortWithinPartitions(tasks, _task_of)
        .mapPartitions(partial(_bucket_links, limits=limits))
        .collect()
    )
    return links + found


def _keyed(item: Marked, limits: NearDuplicates) -> Iterator[tuple[int, Marked]]:
    for key in band_keys(item[0], limits):
        yield key, item


def _task_of(key: int) -> int:
    return zlib.crc32(key.to_bytes(9, "big"))


def _bucket_links(items: Iterable[tuple[int, Marked]], limits: NearDuplicates) -> Iterator[Link]:
    for _, bucket in groupby(items, key=itemgetter(0)):
        members = [item for _, item in bucket]
        for one, other in spanning_edges([mark for mark, _ in members], limits):
            yield members[one][1], members[other][1]
