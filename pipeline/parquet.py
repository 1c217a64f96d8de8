"""Parquet files of records: content-addressed, byte-identical for the same rows, read a row group at a time.

`image` has neither dictionary nor statistics and nothing is compressed: the pictures already are. This module must not
decide which row goes where; its callers do, from ids.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import IntegrityError
from pipeline.manifest import FileEntry
from pipeline.records import SCHEMA, check_schema
from pipeline.storage import Folder

__all__ = ["ROW_GROUP_ROWS", "open_parquet", "read_row_group", "write_parquet"]

ROW_GROUP_ROWS: Final = 256


class _Hashing:
    """A write-only stream that hashes what passes."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self._digest, self.size = stream, hashlib.sha256(), 0
        self.closed = False

    def write(self, data: Any) -> int:
        view = memoryview(data)
        self._digest.update(view)
        self.size += view.nbytes
        self._stream.write(view)
        return view.nbytes

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        self.closed = True

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def write_parquet(
    folder: Folder,
    stem: str,
    rows: Iterable[dict[str, Any]],
    schema: pa.Schema = SCHEMA,
    name: str | None = None,
) -> FileEntry:
    """Write rows in the order given and publish them as `<stem>-<sha256, 16 digits>.parquet`.

    At most `ROW_GROUP_ROWS` rows are held beside what the iterable holds.

    Args:
        folder: where to publish.
        stem: the name's beginning, e.g. `train-00003`.
        rows: dictionaries with the schema's columns.
        schema: the columns.
        name: a fixed name instead of the content-addressed one.

    Raises:
        StorageError: disk full, no permission; nothing is published then.
    """
    iterator, count = iter(rows), 0
    with folder.staged() as staged:
        sink = _Hashing(staged.stream)
        with pq.ParquetWriter(
            pa.PythonFile(sink, mode="w"),
            schema,
            compression="none",
            use_dictionary=[field.name for field in schema if field.type == pa.string()],
            write_statistics=[field.name for field in schema if not pa.types.is_binary(field.type)],
            store_schema=True,
        ) as writer:
            while batch := list(islice(iterator, ROW_GROUP_ROWS)):
                writer.write_table(pa.Table.from_pylist(batch, schema=schema), row_group_size=ROW_GROUP_ROWS)
                count += len(batch)
        digest = sink.hexdigest()
        path = name or f"{stem}-{digest[:16]}.parquet"
        staged.publish(path)
    return FileEntry(path=path, bytes=sink.size, sha256=digest, rows=count)


@contextmanager
def open_parquet(folder: Folder, path: str, schema: pa.Schema = SCHEMA) -> Iterator[pq.ParquetFile]:
    """A Parquet file of records, its schema version checked.

    Raises:
        StorageError: missing or unreadable.
        IntegrityError: not Parquet, damaged, or of another schema version.
    """
    where = folder.locate(path)
    with folder.open(path) as stream:
        try:
            # No reading ahead: Arrow's threads could still hold the Python stream at exit, and the process aborts then.
            with pq.ParquetFile(stream, pre_buffer=False) as file:
                check_schema(file.schema_arrow, where, schema)
                yield file
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(f"{where}: not a readable Parquet file ({error}). Make this stage again.") from error


def read_row_group(
    folder: Folder,
    path: str,
    row_group: int,
    columns: Sequence[str] | None = None,
    schema: pa.Schema = SCHEMA,
) -> pa.Table:
    """One row group of a file, all columns or those named.

    Raises:
        StorageError, IntegrityError: as `open_parquet`; the message names file and row group.
    """
    with open_parquet(folder, path, schema) as file:
        try:
            return file.read_row_group(row_group, columns=columns, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise IntegrityError(
                f"{folder.locate(path)}: row group {row_group} is damaged ({error}). Make this stage again."
            ) from error
