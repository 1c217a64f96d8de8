"""The files of an input as Arrow columns: a lake has a hundred million, and Python objects take a kilobyte each.

A `Reference` is made when one is asked for, and forgotten. This module must not know how pictures are laid out.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["BAD_NAME", "Indexes", "Reference", "References", "printable"]

BAD_NAME: Final = "bad_name"
"""The reason of a file whose name is no UTF-8."""

Indexes = NDArray[np.int64]

_BATCH: Final = 16_384
_SCHEMA: Final = pa.schema(
    [
        # As UTF-8 in which lone surrogates are written like other characters: of bytes in the order of Python's text.
        ("path", pa.large_binary()),
        ("label", pa.int8()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("group", pa.large_string()),
        ("reason", pa.large_string()),
        ("detail", pa.large_string()),
    ]
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A file of the input.

    Attributes:
        path: relative to the raw root, with `/`; bytes that are no UTF-8 as surrogates.
        label, source: what the layout says of it.
        split: one of `SPLITS`, `FIT`, or None to have it drawn.
        group: the explicit group, or None.
        problem: (reason, detail) if it cannot become a row whatever is in it.
    """

    path: str
    label: int
    source: str
    split: str | None = None
    group: str | None = None
    problem: tuple[str, str] | None = None

    @property
    def shown(self) -> str:
        """The path as text that any file may hold: bytes that are no UTF-8 become `\\xNN`."""
        return printable(self.path)


def printable(text: str) -> str:
    """A name as text that any file may hold: bytes that are no UTF-8 become `\\xNN`."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class References:
    """Files sorted by path, by their indexes: about 50 bytes each, beside the path and an explicit group.

    Attributes:
        labels: int8 (N,).
        sources: the number of each one's source, int32 (N,); `source_names` has the names.
        splits: the number of each one's given split, int32 (N,), -1 for none; `split_names` has the names.
    """

    def __init__(self, found: Iterable[Reference]) -> None:
        """The files of an input, in any order."""
        self._table = _sorted(_collected(found))
        pa.default_memory_pool().release_unused()  # it would keep what sorting took, twice as much as the columns
        column = {name: self._table.column(name).chunk(0) for name in ("label", "source", "split", "group")}
        self.labels: NDArray[np.int8] = column["label"].to_numpy()
        self.sources: NDArray[np.int32] = column["source"].indices.to_numpy()
        self.source_names: list[str] = column["source"].dictionary.to_pylist()
        self.splits: NDArray[np.int32] = pc.fill_null(column["split"].indices, -1).to_numpy()
        self.split_names: list[str] = column["split"].dictionary.to_pylist()
        self._groups: pa.LargeStringArray = column["group"]
        self._has_groups = self._groups.null_count < len(self)
        self._odd = np.flatnonzero(pc.fill_null(pc.equal(self._table["reason"], BAD_NAME), False).to_numpy())

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __iter__(self) -> Iterator[Reference]:
        for first in range(0, len(self), _BATCH):
            yield from self.part(first, first + _BATCH)

    def __getitem__(self, index: int) -> Reference:
        (found,) = self.part(range(len(self))[index], range(len(self))[index] + 1)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, References | list) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]  # as a list's

    def part(self, first: int, end: int) -> list[Reference]:
        """Those from one index to before another."""
        columns = [column.to_pylist() for column in self._table.slice(first, end - first).columns]
        return [
            Reference(_text(path), label, source, split, group, None if reason is None else (reason, detail))
            for path, label, source, split, group, reason, detail in zip(*columns, strict=True)
        ]

    def paths(self, chosen: Indexes) -> list[str]:
        """The paths of some."""
        return [_text(path) for path in self._table.column("path").take(pa.array(chosen)).to_pylist()]

    def all_paths(self) -> Iterator[str]:
        """All paths, a batch at a time."""
        for first in range(0, len(self), _BATCH):
            yield from map(_text, self._table.column("path").slice(first, _BATCH).to_pylist())

    def twice(self) -> set[str]:
        """The paths that are there more than once."""
        paths = self._table.column("path").chunk(0)
        again = pc.indices_nonzero(pc.equal(paths[1:], paths[:-1]))
        return set(self.paths(again.to_numpy()))

    def group(self, index: int) -> str | None:
        """The explicit group of one."""
        found: str | None = self._groups[index].as_py() if self._has_groups else None
        return found

    def group_codes(self) -> NDArray[np.int64]:
        """A number for each one's explicit group, the same for the same group; -1 for none. int64 (N,)."""
        if not self._has_groups:
            return np.full(len(self), -1)
        found: NDArray[np.int64] = pc.fill_null(
            self._groups.dictionary_encode().indices.cast(pa.int64()), -1
        ).to_numpy()
        return found

    def shown_in_order(self, chosen: Indexes, rank: Callable[[int], Any]) -> Iterator[tuple[str, int]]:
        """(shown path, index) of some, sorted by the shown path; where that is the same, by their rank.

        Args:
            chosen: indexes, ascending.
            rank: of an index.
        """
        odd = np.intersect1d(chosen, self._odd)
        if not len(odd):
            yield from self._shown(chosen)
            return
        plain = self._shown(np.setdiff1d(chosen, odd))  # in order already: these are shown as they are

        def key(item: tuple[str, int]) -> tuple[str, Any]:
            return item[0], rank(item[1])

        yield from heapq.merge(plain, sorted(self._shown(odd), key=key), key=key)

    def _shown(self, chosen: Indexes) -> Iterator[tuple[str, int]]:
        for first in range(0, len(chosen), _BATCH):
            batch = chosen[first : first + _BATCH]
            yield from zip(map(printable, self.paths(batch)), batch.tolist(), strict=True)


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogatepass")


def _collected(found: Iterable[Reference]) -> pa.Table:
    iterator, tables = iter(found), [_SCHEMA.empty_table()]
    while batch := list(islice(iterator, _BATCH)):
        problems = [item.problem or (None, None) for item in batch]
        columns = [
            [item.path.encode("utf-8", "surrogatepass") for item in batch],
            [item.label for item in batch],
            [item.source for item in batch],
            [item.split for item in batch],
            [item.group for item in batch],
            [reason for reason, _ in problems],
            [detail for _, detail in problems],
        ]
        arrays = [pa.array(values, field.type) for values, field in zip(columns, _SCHEMA, strict=True)]
        tables.append(pa.Table.from_arrays(arrays, schema=_SCHEMA))
    return pa.concat_tables(tables).unify_dictionaries()


def _sorted(table: pa.Table) -> pa.Table:
    """The rows by path, each column in one piece; a column at a time, so that no more than one is there twice."""
    order, columns = pc.sort_indices(table.column("path")), []
    for name in _SCHEMA.names:
        whole = table.column(name).combine_chunks()
        table = table.drop_columns([name])
        columns.append(whole.take(order))
    return pa.Table.from_arrays(columns, schema=_SCHEMA)
