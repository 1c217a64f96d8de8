"""Grouping: no pair within the distance is missed, links join exactly what hangs together, crowds stay cheap."""

from __future__ import annotations

import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.grouping import UnionFind, band_keys, first_of_equal, spanning_edges, text_keys
from pipeline.perceptual import COARSE_BITS, SIGNATURE_BYTES, NearDuplicates, alike, stack


def _marks(count: int, seed: int = 0) -> list[bytes]:
    rng = np.random.default_rng(seed)
    return [bytes(row) for row in rng.integers(0, 256, (count, SIGNATURE_BYTES), dtype=np.uint8).tolist()]


def _flipped(mark: bytes, bits: set[int]) -> bytes:
    number = int.from_bytes(mark, "big")
    for bit in bits:
        number ^= 1 << (8 * SIGNATURE_BYTES - 1 - bit)
    return number.to_bytes(SIGNATURE_BYTES, "big")


@given(
    distance=st.integers(0, 7),
    bits=st.sets(st.integers(0, COARSE_BITS - 1), max_size=7),
    seed=st.integers(0, 1000),
)
def test_whatever_lies_within_the_distance_shares_a_bucket(distance: int, bits: set[int], seed: int) -> None:
    limits, mark = NearDuplicates(coarse_distance=distance), _marks(1, seed)[0]
    near = _flipped(mark, set(sorted(bits)[:distance]))
    assert set(band_keys(mark, limits)) & set(band_keys(near, limits))


@pytest.mark.parametrize("distance", [0, 3, 4, 7])
def test_bands_have_buckets_of_their_own(distance: int) -> None:
    limits = NearDuplicates(coarse_distance=distance)
    assert len(set(band_keys(bytes(SIGNATURE_BYTES), limits))) == distance + 1


def test_unrelated_pictures_hardly_meet() -> None:
    limits, met = NearDuplicates(), dict[int, int]()
    for mark in _marks(2000):
        for key in band_keys(mark, limits):
            met[key] = met.get(key, 0) + 1
    compared = sum(count * (count - 1) // 2 for count in met.values())
    assert compared < 0.002 * 2000 * 1999 / 2


def _components(count: int, links: list[tuple[int, int]]) -> list[list[int]]:
    sets = UnionFind(count)
    for one, other in links:
        sets.union(one, other)
    found: dict[int, list[int]] = {}
    for item, root in enumerate(sets.roots().tolist()):
        found.setdefault(root, []).append(item)
    return list(found.values())


@pytest.mark.parametrize("seed", range(5))
def test_links_join_what_all_pairs_would(seed: int) -> None:
    limits, rng = NearDuplicates(), np.random.default_rng(seed)
    marks = _marks(20, seed)
    for _ in range(60):  # chains: near-duplicates of near-duplicates
        parent = marks[int(rng.integers(len(marks)))]
        marks.append(_flipped(parent, {int(bit) for bit in rng.integers(0, 256, int(rng.integers(1, 9)))}))
    block = stack(marks)
    pairs = [(i, j) for i, j in combinations(range(len(marks)), 2) if alike(block[i], block[j : j + 1], limits)[0]]
    links = list(spanning_edges(marks, limits))
    assert _components(len(marks), links) == _components(len(marks), pairs)
    assert len(links) == len(marks) - len(_components(len(marks), pairs))


def test_a_crowd_of_alike_pictures_is_not_compared_pair_by_pair() -> None:
    rng, mark = np.random.default_rng(0), _marks(1)[0]
    crowd = [_flipped(mark, {int(rng.integers(64, 256))}) for _ in range(20_000)]
    started = time.perf_counter()
    links = list(spanning_edges(crowd, NearDuplicates()))
    assert len(links) == len(crowd) - 1
    assert time.perf_counter() - started < 5  # all pairs would take minutes


@pytest.mark.parametrize("count", [0, 1])
def test_there_is_nothing_to_link(count: int) -> None:
    assert list(spanning_edges(_marks(count), NearDuplicates())) == []


@given(links=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19))))
def test_sets_are_those_of_a_walk(links: list[tuple[int, int]]) -> None:
    reached = {item: {item} for item in range(20)}
    for one, other in links:
        joined = reached[one] | reached[other]
        for item in joined:
            reached[item] = joined
    expected = sorted({tuple(sorted(found)) for found in reached.values()})
    assert [tuple(found) for found in _components(20, links)] == expected


@given(links=st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19))))
def test_a_root_is_the_smallest_of_its_set(links: list[tuple[int, int]]) -> None:
    sets = UnionFind(20)
    for one, other in links:
        sets.union(one, other)
    assert sets.roots().tolist() == [sets.find(item) for item in range(20)]
    assert all(root == min(members) for members in _components(20, links) for root in [sets.find(members[0])])


@given(st.lists(st.binary(min_size=3, max_size=3)))
def test_bytes_are_sorted_and_found_as_python_does(rows: list[bytes]) -> None:
    """Nul bytes at the end and bytes over 127 included."""
    block = np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 3)
    order = np.argsort(text_keys(block), kind="stable").tolist()
    assert order == sorted(range(len(rows)), key=rows.__getitem__)
    assert first_of_equal(block).tolist() == [rows.index(row) for row in rows]
