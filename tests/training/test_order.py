"""The order of the training rows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.shuffle import displacement, groups_in_a_batch, label_deviation, together_again
from training.config import TrainingConfig
from training.order import batches_of, epoch_order

SIZES = [7, 256, 256, 31, 256, 1]


@pytest.mark.parametrize("window", [1, 2, 4, 100])
def test_an_epoch_has_every_row_once(window: int) -> None:
    order = epoch_order(SIZES, "hash", 0, 0, window)
    assert sorted(order.tolist()) == list(range(sum(SIZES)))


def test_no_rows_is_an_empty_order() -> None:
    assert epoch_order([], "hash", 0, 0, 4).shape == (0,)


def test_the_order_is_pinned() -> None:
    """A change here changes every model that was ever trained: raise training's stage version with it."""
    assert epoch_order([3, 4, 2, 3], "hash", 1, 2, 2).tolist() == PINNED


PINNED = [8, 7, 1, 0, 2, 10, 11, 9, 3, 6, 4, 5]


@pytest.mark.parametrize("other", [("other", 0, 0), ("hash", 1, 0), ("hash", 0, 1)])
def test_manifest_seed_and_epoch_each_change_the_order(other: tuple[str, int, int]) -> None:
    assert epoch_order(SIZES, "hash", 0, 0, 4).tolist() != epoch_order(SIZES, *other, 4).tolist()


def test_a_reader_needs_one_window_of_row_groups_at_a_time() -> None:
    window, starts = 2, np.cumsum([0, *SIZES])
    groups = np.searchsorted(starts, epoch_order(SIZES, "hash", 3, 1, window), side="right") - 1
    seen = list(dict.fromkeys(groups.tolist()))
    for first in range(0, len(seen), window):
        places = np.flatnonzero(np.isin(groups, seen[first : first + window]))
        assert places.max() - places.min() == len(places) - 1  # together, with no other group's row between


def test_rows_are_shuffled_across_the_groups_of_a_window() -> None:
    order = epoch_order([100] * 8, "hash", 0, 0, 8)
    assert abs(np.corrcoef(np.arange(800), order)[0, 1]) < 0.15
    assert (np.diff(order) == 1).sum() < 10


@pytest.mark.parametrize(
    ("window", "groups", "together"), [(TrainingConfig().shuffle_row_groups, 13.5, 1.3), (80, 26.3, 1.03)]
)
def test_the_order_is_as_near_to_a_uniform_permutation_as_the_window_lets_it_be(
    window: int, groups: float, together: float
) -> None:
    """On 20,000 rows in row groups of 256; a uniform permutation has 1, 26.4 groups, 1 and 1 (benchmarks/shuffle.py).

    groups: of the 79 at least so many in a batch of 32. together: at most so many times the chance to meet again.
    """
    sizes, labels = [256] * 78 + [32], np.random.default_rng(0).permutation(np.arange(20_000) % 2)
    orders = [[epoch_order(sizes, "hash", seed, epoch, window) for epoch in (0, 1)] for seed in range(8)]
    firsts = [first for first, _ in orders]
    assert np.mean([displacement(order) for order in firsts]) == pytest.approx(1, abs=0.02)
    assert np.mean([groups_in_a_batch(order, 256, 32) for order in firsts]) > groups
    assert np.mean([together_again(first, second, 32) for first, second in orders]) < together
    assert np.mean([label_deviation(order, labels, 32) for order in firsts]) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize(
    ("rows", "size", "training", "expected"),
    [
        (64, 32, True, [0, 32, 64]),
        (70, 32, True, [0, 32, 64, 70]),
        (65, 32, True, [0, 32, 65]),  # a last batch of one joins the one before
        (65, 32, False, [0, 32, 64, 65]),
        (2, 32, True, [0, 2]),
        (1, 32, True, [0, 1]),
    ],
)
def test_the_last_short_batch_is_kept(rows: int, size: int, training: bool, expected: list[int]) -> None:
    assert batches_of(rows, size, training) == expected
