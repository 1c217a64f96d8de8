"""Grouping: candidates without comparing all pairs, and what is linked to what in the end.

A coarse hash of 64 bits is cut into `distance + 1` bands. Two hashes that differ in at most `distance` bits agree in at
least one whole band (the pigeonhole principle), so comparing only within the buckets of equal bands misses no pair.
This module must not know where signatures come from or what groups are for.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from pipeline.perceptual import COARSE_BITS, NearDuplicates, alike, coarse, stack

__all__ = ["UnionFind", "band_keys", "first_of_equal", "spanning_edges", "text_keys"]

_WORD = 1 << COARSE_BITS


@cache
def _masks(bands: int) -> list[int]:
    """One mask a band; each takes every `bands`-th bit, so that all bands hold low and high frequencies alike."""
    return [sum(1 << bit for bit in range(band, COARSE_BITS, bands)) for band in range(bands)]


def band_keys(mark: bytes, limits: NearDuplicates) -> list[int]:
    """The buckets of a signature: one integer a band, different between bands.

    Args:
        mark: a signature.
        limits: `coarse_distance` decides the number of bands.
    """
    bits = coarse(mark)
    return [band * _WORD + (bits & mask) for band, mask in enumerate(_masks(limits.coarse_distance + 1))]


def spanning_edges(marks: Sequence[bytes], limits: NearDuplicates) -> Iterator[tuple[int, int]]:
    """Links that join all near-duplicates of a bucket, and no more of them than needed (fewer than pictures).

    A breadth-first walk: what is joined leaves the comparison, so a crowd of alike pictures costs little, and memory
    stays proportional to the bucket.

    Args:
        marks: the signatures in a bucket.
        limits: the distances.

    Yields:
        pairs of positions in `marks`.
    """
    if len(marks) < 2:
        return
    block, rest = stack(list(marks)), np.arange(len(marks))
    while len(rest) > 1:
        queue, rest = [int(rest[0])], rest[1:]
        while queue and len(rest):
            here = queue.pop()
            near = alike(block[here], block[rest], limits)
            found = [int(position) for position in rest[near]]
            yield from ((here, position) for position in found)
            queue += found
            rest = rest[~near]


class UnionFind:
    """Which of N things hang together (disjoint sets; Tarjan 1975, with path halving): 8 bytes a thing."""

    def __init__(self, size: int) -> None:
        self._parent = array("q", range(size))

    def find(self, item: int) -> int:
        """The representative of an item's set: its smallest member."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    def union(self, one: int, other: int) -> None:
        """Join two sets."""
        low, high = sorted((self.find(one), self.find(other)))
        self._parent[high] = low

    def roots(self) -> NDArray[np.int64]:
        """The representative of every item, int64 (N,)."""
        found: NDArray[np.int64] = np.array(self._parent)
        while not np.array_equal(found, further := found[found]):
            found = further
        return found


def first_of_equal(rows: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For every row the number of the first row with the same bytes.

    Args:
        rows: uint8 (N, width).

    Returns:
        int64 (N,).
    """
    keys = text_keys(rows)
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    begins = np.ones(len(keys), bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    first = np.empty(len(keys), np.int64)
    first[order] = order[begins][np.cumsum(begins) - 1]
    return first


def text_keys(rows: NDArray[np.uint8]) -> NDArray[np.bytes_]:
    """Rows of bytes as values that numpy sorts as Python sorts bytes. All are of one width, so none is cut short.

    Args:
        rows: uint8 (N, width).

    Returns:
        bytes of that width (N,).
    """
    keys: NDArray[np.bytes_] = np.ascontiguousarray(rows).view(f"S{rows.shape[1]}").reshape(-1)
    return keys
