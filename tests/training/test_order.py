"""The order of the training rows."""

from __future__ import annotations

import numpy as np
import pytest

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
