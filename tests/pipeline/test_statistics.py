"""Exact statistics: equal to numpy's, whatever the order and the division of the pictures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.statistics import CHANNELS, LEVELS, Tally, count_values, mean_and_std, summarise, total
from tests.pictures import photo

PICTURES = [photo(seed, 40 + 8 * seed, 32) for seed in range(6)]


def tally_of(*pictures: NDArray[np.uint8]) -> Tally:
    tally = Tally()
    for picture in pictures:
        tally.add(picture)
    return tally


@pytest.mark.parametrize("picture", PICTURES)
def test_counting_is_numpys_bincount(picture: NDArray[np.uint8]) -> None:
    expected = [np.bincount(picture[..., channel].ravel(), minlength=LEVELS) for channel in range(CHANNELS)]
    assert count_values(picture) == np.concatenate(expected).tolist()


def test_counting_takes_a_view_into_a_larger_picture() -> None:
    whole = photo(1, 64, 64)
    assert count_values(whole[8:40, 8:24]) == count_values(np.ascontiguousarray(whole[8:40, 8:24]))


def test_moments_are_numpys_float64() -> None:
    values = np.concatenate([picture.reshape(-1, 3) for picture in PICTURES]).astype(np.float64) / 255
    found = tally_of(*PICTURES).moments()
    assert found["mean"] == pytest.approx(values.mean(axis=0).tolist(), abs=1e-12)
    assert found["std"] == pytest.approx(values.std(axis=0).tolist(), abs=1e-12)
    assert (found["pictures"], found["pixels"]) == (len(PICTURES), len(values))


@given(st.permutations(range(len(PICTURES))), st.integers(0, len(PICTURES)))
def test_order_and_division_change_no_bit(order: list[int], cut: int) -> None:
    chosen = [PICTURES[number] for number in order]
    merged = total([tally_of(*chosen[:cut]), tally_of(*chosen[cut:])])
    assert merged.moments() == tally_of(*PICTURES).moments()
    assert merged.histogram() == tally_of(*PICTURES).histogram()


@given(st.lists(st.integers(0, 10**15), min_size=LEVELS, max_size=LEVELS).filter(any))
def test_mean_and_std_of_any_counts_lie_in_the_unit_interval(counts: list[int]) -> None:
    mean, std = mean_and_std(counts)
    assert 0 <= mean <= 1
    assert 0 <= std <= 0.5


def test_std_does_not_cancel_where_floating_point_would() -> None:
    counts = [0] * LEVELS
    counts[254], counts[255] = 1, 10**15  # in float64, E X² − (E X)² is zero or negative here
    _, std = mean_and_std(counts)
    assert std == pytest.approx(math.sqrt(1e-15) / 255, rel=1e-12)


@pytest.mark.parametrize(("value", "mean"), [(0, 0.0), (51, 0.2), (255, 1.0)])
def test_one_colour_has_its_mean_and_no_deviation(value: int, mean: float) -> None:
    found = tally_of(np.full((4, 4, 3), value, np.uint8)).moments()
    assert found["mean"] == [mean] * 3
    assert found["std"] == [0.0] * 3


def test_a_tally_survives_json() -> None:
    tally = tally_of(*PICTURES)
    again = Tally.from_json(json.loads(json.dumps(tally.to_json())))
    assert again.pictures == tally.pictures
    assert np.array_equal(again.counts, tally.counts)


def test_summary_adds_labels_and_sources_to_the_whole() -> None:
    tallies = {
        ("real", "camera"): tally_of(PICTURES[0], PICTURES[1]),
        ("ai", "gan"): tally_of(PICTURES[2]),
        ("ai", "camera"): tally_of(PICTURES[3]),
    }
    found = summarise(tallies)
    assert found["pictures"] == 4
    assert {name: part["pictures"] for name, part in found["by_label"].items()} == {"ai": 2, "real": 2}
    assert {name: part["pictures"] for name, part in found["by_source"].items()} == {"camera": 3, "gan": 1}
    assert found["by_source"]["gan"] == tally_of(PICTURES[2]).moments()
    assert np.shape(found["histogram"]) == (CHANNELS, LEVELS)
    assert found["mean"] == tally_of(*PICTURES[:4]).moments()["mean"]


@pytest.mark.parametrize("tallies", [{}, {("real", "camera"): Tally()}])
def test_no_pictures_have_no_statistics(tallies: dict[tuple[str, str], Tally]) -> None:
    with pytest.raises(DataError, match="at least one picture"):
        summarise(tallies)
