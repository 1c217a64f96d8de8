"""Reading lists of pictures: CSV and Parquet rows with the number by which a person finds them again.

Nothing here knows what the columns mean, beyond that some are needed and some may be there.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.storage import Folder

__all__ = ["read_list"]

Row = tuple[str, dict[str, str]]


def read_list(folder: Folder, name: str, needed: Sequence[str], optional: Sequence[str] = ()) -> Iterator[Row]:
    """The rows of a `.csv` (UTF-8, with a header) or `.parquet` file.

    Args:
        folder, name: where the file is.
        needed: columns that must be there.
        optional: columns that may be there; a column whose name is nearly one of these is taken for a slip.

    Yields:
        (`file:line`, the needed and optional columns as stripped text, empty where there is nothing).

    Raises:
        DataError: not such a file, or a needed column is missing.
        StorageError: unreadable.
    """
    where = folder.locate(name)
    reader = _parquet if name.lower().endswith(".parquet") else _csv
    yield from reader(folder, name, where, needed, optional)


def _columns(found: Sequence[str], where: str, needed: Sequence[str], optional: Sequence[str]) -> list[str]:
    missing = [column for column in needed if column not in found]
    if missing:
        there = ", ".join(found) or "none"
        raise DataError(f"{where}: column '{missing[0]}' is missing; needed: {', '.join(needed)}; found: {there}.")
    for column in optional:
        near = difflib.get_close_matches(column, [name for name in found if name not in needed], n=1, cutoff=0.75)
        if column not in found and near:
            raise DataError(f"{where}: column '{near[0]}' is not known: did you mean '{column}'? Rename it.")
    return [column for column in (*needed, *optional) if column in found]


def _csv(folder: Folder, name: str, where: str, needed: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    with folder.open(name) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
        reader = csv.reader(text, strict=True)
        try:
            header = [column.strip() for column in next(reader, [])]
            places = [(column, header.index(column)) for column in _columns(header, where, needed, optional)]
            line = reader.line_num + 1
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise DataError(
                        f"{where}:{line}: {len(cells)} fields where the header has {len(header)}; "
                        "put quotes around a field that holds a comma."
                    )
                if cells:
                    yield f"{where}:{line}", {column: _text(column, cells[place]) for column, place in places}
                line = reader.line_num + 1
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(
                f"{where}:{reader.line_num + 1}: not a readable CSV file in UTF-8 ({error}). Save it as CSV UTF-8."
            ) from error


def _parquet(folder: Folder, name: str, where: str, needed: Sequence[str], optional: Sequence[str]) -> Iterator[Row]:
    number = 0
    with folder.open(name) as raw:
        try:
            with pq.ParquetFile(raw) as file:
                columns = _columns(file.schema_arrow.names, where, needed, optional)
                for batch in file.iter_batches(columns=columns, batch_size=4096):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"{where}: row {number}", {key: _text(key, value) for key, value in row.items()}
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"{where}: not a readable Parquet file ({error}).") from error


def _text(column: str, value: Any) -> str:
    """A cell as text; a path's blanks are its own."""
    text = "" if value is None else str(value)
    return text if column in ("path", "file_name") else text.strip()
