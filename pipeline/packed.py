"""Packed pictures: tar archives and Parquet files of a raw input, seen as folders of the pictures in them.

Many small files are what a NameNode, a bucket's listing and a disk are slowest at; a lake therefore packs them. Where a
raw folder holds `real/camera/0001.tar`, its pictures are `real/camera/0001.tar/<name in it>`, and those of
`ai/gan/part-0.parquet` are `ai/gan/part-0.parquet/<row, 9 digits>`: paths as of any other file, in rejects, hashes and
messages, and nothing downstream knows the difference.

    tar       plain (`.tar`), with any folders in it; all members but ordinary files are left out, hidden ones too. A
              compressed one cannot be read from the middle, so it is refused, and so is one without its end mark.
    Parquet   a binary column `image`, or a struct `image` with a binary `bytes` (as Hugging Face's data sets have)

A picture is read from its place without reading what comes before it. This module must not decode a picture.
"""

from __future__ import annotations

import errno
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import DataError, StorageError
from pipeline.storage import Entry, Folder

__all__ = ["PackedFolder"]

_COMPRESSED: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_COLUMN: Final = "image"
_INDEXES_KEPT: Final = 4  # archives whose directory a process remembers; work comes in the order of paths


class PackedFolder(Folder):
    """A folder of raw pictures in which archives are folders. For reading only."""

    def walk(self, hidden: bool = False) -> Iterator[Entry]:
        """Every picture, in any order, those inside archives in the archives' places.

        Raises:
            StorageError: a folder cannot be listed, or an archive not read.
            DataError: an archive is damaged, compressed, or has no pictures' column.
        """
        for entry in super().walk(hidden):
            index = _opener(entry.path)
            if index is None or entry.size < 0:
                yield entry
            else:
                for name, size in index(self.uri, entry.path).sizes():
                    yield Entry(f"{entry.path}/{name}", size)

    def child(self, path: str) -> PackedFolder:
        """The folder at a relative path."""
        return PackedFolder(self.locate(path))

    def is_file(self, path: str) -> bool:
        """Whether a picture of that name is there."""
        archive, name = _divided(path)
        if archive is None:
            return super().is_file(path)
        index = _opener(archive)
        return index is not None and super().is_file(archive) and index(self.uri, archive).has(name)

    def exists(self, path: str = "") -> bool:
        """Whether a picture or folder of that name is there."""
        return self.is_file(path) if _divided(path)[0] else super().exists(path)

    def open(self, path: str) -> BinaryIO:
        """A picture as a stream.

        Raises:
            StorageError: it is missing or unreadable.
        """
        archive, _ = _divided(path)
        return super().open(path) if archive is None else io.BytesIO(self.read(path))

    def read(self, path: str) -> bytes:
        """All bytes of a picture.

        Raises:
            StorageError: it is missing or unreadable.
        """
        archive, name = _divided(path)
        index = _opener(archive) if archive else None
        if archive is None or index is None:
            return super().read(path)
        found = index(self.uri, archive).read(name)
        if found is None:
            error = StorageError(f"{self.locate(path)}: no such picture in the archive.")
            raise error from OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found


def _divided(path: str) -> tuple[str | None, str]:
    """(archive, name in it) of a picture in an archive, (None, path) of any other."""
    parts = path.split("/")
    for number, part in enumerate(parts[:-1], 1):
        if _opener(part) is not None:
            return "/".join(parts[:number]), "/".join(parts[number:])
    return None, path


class _Tar:
    """Where the files of a tar archive are."""

    def __init__(self, uri: str, path: str) -> None:
        self._folder, self._path = Folder(uri), path
        self._places: dict[str, tuple[int, int]] = {}
        where = self._folder.locate(path)
        try:
            with self._folder.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    if member.isreg() and not member.issparse() and not _hidden(member.name):
                        self._places[_plain(member.name, where)] = (member.offset_data, member.size)
                    archive.members = []  # type: ignore[attr-defined]  # else it keeps every header it has seen
                stream.seek(archive.offset)
                if stream.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):  # the library takes any end for the end
                    raise tarfile.ReadError("cut short: its end mark is missing")
        except tarfile.TarError as error:
            raise DataError(
                f"{where}: not a readable tar archive ({error}). Pack it again, or leave it out."
            ) from error

    def sizes(self) -> Iterator[tuple[str, int]]:
        return ((name, size) for name, (_, size) in self._places.items())

    def has(self, name: str) -> bool:
        return name in self._places

    def read(self, name: str) -> bytes | None:
        if name not in self._places:
            return None
        offset, size = self._places[name]
        with self._folder.open(self._path) as stream:
            stream.seek(offset)
            data = stream.read(size)
        if len(data) != size:
            raise StorageError(f"{self._folder.locate(self._path)}: cut short within '{name}'. Fetch it again.")
        return data


class _Parquet:
    """The rows of a Parquet file of pictures; the last row group that was read is kept."""

    def __init__(self, uri: str, path: str) -> None:
        self._folder, self._path = Folder(uri), path
        with self._file() as file:
            self._ends, total = [], 0
            for group in range(file.num_row_groups):
                total += file.metadata.row_group(group).num_rows
                self._ends.append(total)
            schema = file.schema_arrow
        kind = schema.field(_COLUMN).type if _COLUMN in schema.names else None
        nested = kind is not None and pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0
        if kind is None or not (nested or pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise DataError(
                f"{self._folder.locate(path)}: no binary column '{_COLUMN}' (or a struct with 'bytes') in it; "
                f"its columns are {', '.join(schema.names)}. Leave it out, or rename the column."
            )
        self._column, self._kept = f"{_COLUMN}.bytes" if nested else _COLUMN, (-1, pa.array([]))

    @contextmanager
    def _file(self) -> Iterator[pq.ParquetFile]:
        with self._folder.open(self._path) as stream:
            try:
                with pq.ParquetFile(stream, pre_buffer=False) as file:
                    yield file
            except (pa.ArrowException, OSError) as error:
                where = self._folder.locate(self._path)
                raise DataError(f"{where}: not a readable Parquet file ({error}). Fetch it again.") from error

    def sizes(self) -> Iterator[tuple[str, int]]:
        return ((f"{row:09d}", 0) for row in range(self._ends[-1] if self._ends else 0))

    def has(self, name: str) -> bool:
        return name.isdigit() and len(name) == 9 and int(name) < (self._ends[-1] if self._ends else 0)

    def read(self, name: str) -> bytes | None:
        if not self.has(name):
            return None
        row = int(name)
        group = next(number for number, end in enumerate(self._ends) if row < end)
        if self._kept[0] != group:
            with self._file() as file:
                column = file.read_row_group(group, columns=[self._column], use_threads=False).column(0)
            values = column.combine_chunks()
            self._kept = group, values.field("bytes") if pa.types.is_struct(values.type) else values
        first = self._ends[group - 1] if group else 0
        found: bytes | None = self._kept[1][row - first].as_py()
        return found if found is not None else b""  # an empty file is a reject, not a gap


def _hidden(name: str) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in name.split("/"))


def _plain(name: str, where: str) -> str:
    """A member's name as a relative path.

    Raises:
        DataError: it leads out of the archive.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if name.startswith("/") or ".." in parts or not parts:
        raise DataError(f"{where}: its member '{name}' leads out of the archive. Pack it again with relative names.")
    return "/".join(parts)


def _refuse(uri: str, path: str) -> _Tar:
    raise DataError(
        f"{Folder(uri).locate(path)}: a compressed archive cannot be read from the middle. Unpack it, or pack it "
        "again as a plain .tar (pictures do not get smaller anyway)."
    )


_tar = lru_cache(_INDEXES_KEPT)(_Tar)
_parquet = lru_cache(_INDEXES_KEPT)(_Parquet)


def _opener(path: str) -> Callable[[str, str], _Tar | _Parquet] | None:
    """What reads an archive of that name, None for any other file."""
    name = path.rpartition("/")[2].lower()
    if name.endswith(_COMPRESSED):
        return _refuse
    return _tar if name.endswith(".tar") else _parquet if name.endswith(".parquet") else None
