"""Splitting: whole groups, exact to one group a stratum, and what `hash` promises when a lake grows."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.config import build
from pipeline.errors import ConfigError, DataError
from pipeline.records import SPLITS
from pipeline.splitting import FIT, Fractions, Member, Split, assign_splits, surplus

HELD_OUT = ("train", "val", "test", "ood")
Group = tuple[str, list[Member]]


def _member(name: str, label: int = 0, source: str = "camera", given: Sequence[str] = ()) -> Member:
    return Member(label, source, frozenset(given), (name,))


def _groups(sizes: Sequence[int], label: int = 0, source: str = "camera", given: Sequence[str] = ()) -> list[Group]:
    def key(number: int) -> str:
        return hashlib.sha256(f"{source}/{number}".encode()).hexdigest()

    return [
        (key(number), [_member(f"{key(number)}/{k}", label, source, given) for k in range(size)])
        for number, size in enumerate(sizes)
    ]


def _assign(groups: Sequence[tuple[str, Sequence[Member]]], setting: Split) -> tuple[list[list[str | None]], int]:
    """The splits by name, a list a group."""
    splits, moved = assign_splits(iter(groups), setting)
    names = iter([SPLITS[split] if split >= 0 else None for split in splits.tolist()])
    found = [[next(names) for _ in members] for _, members in groups]
    assert next(names, "no more") == "no more"
    return found, moved


def _counts(groups: Sequence[Group], setting: Split) -> Counter[str | None]:
    return Counter(split for splits in _assign(groups, setting)[0] for split in splits)


@pytest.mark.parametrize("method", ["exact", "hash"])
def test_a_group_goes_to_one_split(method: Any) -> None:
    groups = _groups(np.random.default_rng(0).integers(1, 9, 200).tolist())
    for splits in _assign(groups, Split(method=method))[0]:
        assert len(set(splits) - {None}) == 1


@pytest.mark.parametrize("count", [1, 2, 5, 9, 10, 11, 99, 1000])
@pytest.mark.parametrize("fractions", [(0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.7, 0.3, 0.0), (0.0, 0.0, 1.0)])
def test_single_pictures_are_split_exactly(count: int, fractions: tuple[float, float, float]) -> None:
    found = _counts(_groups([1] * count), Split(fractions=Fractions(*fractions)))
    for name, fraction in zip(HELD_OUT, fractions, strict=False):
        assert abs(found[name] - fraction * count) < 1
    assert found.total() == count


@pytest.mark.parametrize("seed", range(10))
def test_groups_are_split_to_within_one_group(seed: int) -> None:
    sizes = np.random.default_rng(seed).integers(1, 30, 80).tolist()
    found = _counts(_groups(sizes), Split(seed=seed))
    for name, fraction in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert abs(found[name] - fraction * sum(sizes)) <= max(sizes)


def test_every_label_and_source_is_split_alike() -> None:
    groups = [
        *_groups([1] * 100, 0, "camera"),
        *_groups([1] * 50, 1, "gan"),
        *_groups([1] * 10, 1, "vae"),
    ]
    splits, _ = _assign(groups, Split())
    for source, count in (("camera", 100), ("gan", 50), ("vae", 10)):
        mine = Counter(
            found[0] for (_, members), found in zip(groups, splits, strict=True) if members[0].source == source
        )
        assert mine == {"train": 0.8 * count, "val": 0.1 * count, "test": 0.1 * count}


def test_tiny_strata_together_come_out_right() -> None:
    found = Counter[str | None]()
    for number in range(500):
        found += _counts(_groups([1, 1], source=f"camera {number}"), Split())
    assert 700 < found["train"] < 900
    assert 60 < found["val"] < 140
    assert 60 < found["test"] < 140


def test_the_order_of_groups_does_not_matter() -> None:
    groups = _groups(np.random.default_rng(1).integers(1, 5, 100).tolist())
    there = dict(zip((key for key, _ in groups), _assign(groups, Split())[0], strict=True))
    back = dict(zip((key for key, _ in groups[::-1]), _assign(groups[::-1], Split())[0], strict=True))
    assert there == back


@pytest.mark.parametrize("method", ["exact", "hash"])
def test_another_seed_draws_otherwise(method: Any) -> None:
    groups = _groups([1] * 50)
    assert _assign(groups, Split(method=method)) != _assign(groups, Split(method=method, seed=1))


def test_hash_keeps_its_fractions() -> None:
    found = _counts(_groups([1] * 5000), Split(method="hash"))
    assert abs(found["train"] - 4000) < 100
    assert abs(found["val"] - 500) < 80


def test_hash_never_moves_an_old_picture_when_the_lake_grows() -> None:
    """New pictures join old groups and link old groups to one another; who had a split has it, or is withdrawn."""
    rng, setting = np.random.default_rng(0), Split(method="hash", fractions=Fractions(0.4, 0.3, 0.3))
    old = {f"old {number}": {f"old {number}"} for number in range(300)}
    before = _splits_of(old.values(), setting)
    grown = [set(names) for names in old.values()]
    for number in range(300):
        chosen = {int(k) for k in rng.integers(0, len(grown), int(rng.integers(1, 3)))}
        joined = set[str]().union(*(grown[k] for k in chosen)) | {f"new {number}"}
        grown = [names for k, names in enumerate(grown) if k not in chosen] + [joined]
    after = _splits_of(grown, setting)
    assert all(after[name] in (before[name], None) for name in before)
    assert all(after[name] == "train" for name in before if before[name] == "train")
    assert any(after[name] is None for name in before)  # so the test above says something


def _splits_of(groups: Any, setting: Split) -> dict[str, str | None]:
    members = [(min(names), [_member(f"image/{name}") for name in sorted(names)]) for names in groups]
    found = _assign(members, setting)[0]
    return {
        name: split
        for names, splits in zip(groups, found, strict=True)
        for name, split in zip(sorted(names), splits, strict=True)
    }


def test_hash_keeps_an_explicit_group_whole() -> None:
    members = [Member(label, "x", frozenset(), ("group/pair",)) for label in (0, 1)]
    (splits,), _ = _assign([("any", members)], Split(method="hash"))
    assert len(set(splits)) == 1
    assert None not in splits


@pytest.mark.parametrize("method", ["exact", "hash"])
@pytest.mark.parametrize(
    ("given", "expected", "moved"),
    [
        (["train", "val"], ["val", "val"], 1),
        (["test", "train"], ["test", "test"], 1),
        (["train", ""], ["train", "train"], 0),
        (["ood", "train"], ["ood", "test"], 1),
        (["ood", "val"], ["ood", "test"], 1),
        (["ood", "test"], ["ood", "test"], 0),
        (["ood", ""], ["ood", "test"], 0),
        (["test", FIT], ["test", "test"], 1),
        (["val", FIT], ["val", "val"], 0),
    ],
)
def test_given_splits_win_and_the_most_held_out_takes_the_group(
    method: Any, given: list[str], expected: list[str], moved: int
) -> None:
    members = [_member(f"{k}", given=[split] if split else []) for k, split in enumerate(given)]
    assert _assign([("key", members)], Split(method=method)) == ([expected], moved)


def test_copies_with_two_given_splits_count_as_moved() -> None:
    assert _assign([("key", [_member("a", given=["train", "test"])])], Split()) == ([["test"]], 1)


@pytest.mark.parametrize("method", ["exact", "hash"])
def test_fit_means_train_or_val(method: Any) -> None:
    found = _counts(_groups([1] * 900, given=[FIT]), Split(method=method))
    assert set(found) == {"train", "val"}
    assert abs(found["val"] - 100) <= (1 if method == "exact" else 40)


@pytest.mark.parametrize(
    "values", [{"train": 0.5}, {"train": 0.8, "val": 0.3, "test": 0.1}, {"train": -0.1}, {"train": 1.2}]
)
def test_fractions_that_are_none_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="train"):
        build(Fractions, values)


def _training(count: int) -> tuple[Any, Any, Any]:
    """Labels, group ids and image ids of so many pairs of each label; a pair has one group."""
    labels = np.repeat([0, 1], 2 * count).astype(np.int8)
    numbers = np.tile(np.arange(2 * count), 2)
    groups = np.zeros((4 * count, 8), np.uint8)
    groups[:, 0] = numbers // 2
    images = np.zeros((4 * count, 32), np.uint8)
    images[:, 0], images[:, 1] = numbers, labels
    return labels, groups, images


def test_train_is_cut_to_a_number_a_label() -> None:
    labels, groups, images = _training(10)
    over = surplus(labels, groups, images, Split(train_per_label=14))
    left = np.setdiff1d(np.arange(40), over)
    assert Counter(labels[left].tolist()) == {0: 14, 1: 14}
    assert {groups[n, 0] for n in over if labels[n] == 0} == {groups[n, 0] for n in over if labels[n] == 1}
    assert len({groups[n, 0] for n in over}) == 3  # matched pairs leave together
    assert len(surplus(labels, groups, images, Split())) == 0


def test_what_is_cut_hangs_on_ids_alone() -> None:
    labels, groups, images = _training(10)
    order = np.random.default_rng(0).permutation(40)
    setting = Split(train_per_label=7)
    over = surplus(labels[order], groups[order], images[order], setting)
    assert sorted(order[over]) == sorted(surplus(labels, groups, images, setting))


def test_too_few_for_train_per_label_is_an_error() -> None:
    with pytest.raises(DataError, match="only 2 real"):
        surplus(*_training(1), Split(train_per_label=3))
