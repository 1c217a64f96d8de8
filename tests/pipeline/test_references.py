"""References in columns: what went in comes out, in the order of Python's text, whatever the names."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import references as module
from pipeline.references import Reference, References

PLAIN = ["a", "a/b", "a.b", "é", "z", "￿", "\U0001f389", "\\xff", "line\nbreak", ""]
ODD = ["\udcff", "a/\udc80", "é\udcfe", "\udc80\udcff"]


def _reference(path: str, number: int = 0) -> Reference:
    problem = ("bad_name", f"detail {number}") if any("\udc80" <= sign <= "\udcff" for sign in path) else None
    group = f"group {number // 3}" if number % 2 else None
    split = (None, "train", "fit", "test")[number % 4]
    return Reference(path, number % 2, f"source {number % 3}", split, group, problem)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BATCH", 3)


@given(st.sets(st.text("ab/é\U00010000\udc80\udcff￿", max_size=4)))
def test_files_come_out_as_they_went_in_sorted_by_path(paths: set[str]) -> None:
    listed = [_reference(path, number) for number, path in enumerate(paths)]
    found = References(iter(listed))
    assert len(found) == len(listed)
    assert list(found) == sorted(listed, key=lambda item: item.path)
    assert list(found.all_paths()) == sorted(paths)


def test_columns_say_what_the_references_say() -> None:
    listed = [_reference(path, number) for number, path in enumerate(PLAIN + ODD)]
    found = References(listed)
    assert found == sorted(listed, key=lambda item: item.path)
    assert found != listed
    codes = found.group_codes().tolist()
    for index, one in enumerate(found):
        assert found[index] == one
        assert found.labels[index] == one.label
        assert found.source_names[found.sources[index]] == one.source
        assert (found.split_names[found.splits[index]] if found.splits[index] >= 0 else None) == one.split
        assert found.group(index) == one.group
        assert [code == codes[index] for code in codes] == [other.group == one.group for other in found]
        assert (codes[index] < 0) == (one.group is None)
    assert found[-1] == found[len(found) - 1]
    with pytest.raises(IndexError):
        found[len(found)]


def test_names_are_shown_in_order_and_rank_decides_between_equal_ones() -> None:
    found = References([_reference(path) for path in PLAIN + ODD])
    for rank in (lambda index: index, lambda index: -index):
        shown = list(found.shown_in_order(np.arange(len(found)), rank))
        expected = [(reference.shown, rank(index), index) for index, reference in enumerate(found)]
        assert shown == [(name, index) for name, _, index in sorted(expected)]
    some = np.array([1, 4, 7])
    assert sorted(index for _, index in found.shown_in_order(some, int)) == some.tolist()


def test_what_is_there_twice_is_found() -> None:
    names = ["a", "b", "a", "c", "c", "c", "d"]
    assert References([_reference(name) for name in names]).twice() == {"a", "c"}
    assert References([_reference("a")]).twice() == set()
    assert References([]).twice() == set()
