"""S3 and GCS as folders: a folder is a prefix of keys, and there is one as soon as some key lies below it.

Nothing is under a final name before the store has all of it, and `only_if_absent` is decided by the store itself in one
step. Keys are taken to the letter. This file must not know either store's own client.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, NamedTuple, Protocol

from pipeline.errors import OutputExistsError
from pipeline.storage._backend import Entry, Staged, is_hidden
from pipeline.storage._remote import FIRST, RangeFile, fail, spooled
from pipeline.storage._uri import Place, join

__all__ = ["MARK", "ObjectBackend", "Piece", "Store"]

MARK: Final = "telltale-upload"
"""Metadata of an object that was created only if absent: which upload made it, so that a lost answer does no harm."""

_BATCH: Final = 1000


class Piece(NamedTuple):
    """A part of an object: its bytes, the size of the whole, and what tells this object from a later one."""

    data: bytes
    size: int
    version: Any


class Store(Protocol):
    """What a bucket must be able to do. Every method raises StorageError, with `where` in its message."""

    def size(self, key: str, where: str) -> int | None:
        """The object's size, or None if there is none."""

    def get(self, key: str, start: int, stop: int | None, version: Any, where: str) -> Piece:
        """Exactly the bytes from start to stop (None: to the end; past it: to the end); of that version if given."""

    def keys(self, prefix: str, limit: int | None, where: str) -> Iterator[tuple[str, int]]:
        """(key, size) of what begins with the prefix."""

    def upload(self, key: str, source: BinaryIO, where: str) -> None:
        """Store a whole file, replacing what is there."""

    def create(self, key: str, source: BinaryIO, mark: str, where: str) -> bool:
        """Store a whole file unless the key is taken, with the metadata MARK; False if it was taken."""

    def delete(self, keys: Sequence[str], where: str) -> None:
        """Remove objects; what is not there is no error."""


def _store(place: Place) -> Store:
    if place.scheme == "s3":
        from pipeline.storage._s3 import S3Store

        return S3Store(place.authority)
    from pipeline.storage._gcs import GcsStore

    return GcsStore(place.authority)


@dataclass(frozen=True)
class ObjectBackend:
    """A prefix of a bucket's keys."""

    place: Place
    remote = True

    def _key(self, path: str) -> str:
        return join(self.place, path).path

    def _below(self, path: str) -> str:
        key = self._key(path)
        return f"{key}/" if key else ""

    def locate(self, path: str) -> str:
        """The URI of an object."""
        return str(join(self.place, path))

    def absolute(self) -> str:
        """The URI."""
        return str(self.place)

    def holds(self, other: Any) -> bool:
        """Whether the other prefix is this one or lies below it."""
        return (
            isinstance(other, ObjectBackend)
            and (self.place.scheme, self.place.authority) == (other.place.scheme, other.place.authority)
            and other._below("").startswith(self._below(""))
        )

    def exists(self, path: str) -> bool:
        """Whether there is an object of that name, or one below it."""
        return self.is_file(path) or self.is_folder(path)

    def is_file(self, path: str) -> bool:
        """Whether there is an object of that name."""
        return bool(self._key(path)) and _store(self.place).size(self._key(path), self.locate(path)) is not None

    def is_folder(self, path: str) -> bool:
        """Whether there is an object below it."""
        return any(True for _ in _store(self.place).keys(self._below(path), 1, self.locate(path)))

    def open(self, path: str) -> BinaryIO:
        """The object as it is now: if it is replaced while it is read, that is an error and never a mixture."""
        store, key, where = _store(self.place), self._key(path), self.locate(path)
        first = store.get(key, 0, FIRST, None, where)

        def fetch(start: int, stop: int) -> bytes:
            return store.get(key, start, stop, first.version, where).data

        return RangeFile(fetch, first.size, where, first.data)  # type: ignore[return-value]

    def read(self, path: str) -> bytes:
        """All of an object."""
        return _store(self.place).get(self._key(path), 0, None, None, self.locate(path)).data

    def walk(self, hidden: bool) -> Iterator[Entry]:
        """The objects below, without those that some tools make to stand for folders."""
        prefix, where = self._below(""), self.locate("")
        empty = True
        for key, size in _store(self.place).keys(prefix, None, where):
            empty = False
            path = key[len(prefix) :]
            if path and not path.endswith("/") and (hidden or not is_hidden(path)):
                yield Entry(path, size)
        if empty:
            fail(f"{where}: not a folder: nothing lies below it. Check the URI.", errno.ENOENT)

    @contextmanager
    def staged(self) -> Iterator[Staged]:
        """A local temporary file, uploaded when it is published."""
        with spooled(self._publish) as staged:
            yield staged

    def _publish(self, source: BinaryIO, path: str, only_if_absent: bool) -> None:
        store, key, where = _store(self.place), self._key(path), self.locate(path)
        if not only_if_absent:
            store.upload(key, source, where)
        elif not store.create(key, source, uuid.uuid4().hex, where):
            raise OutputExistsError(
                f"{where}: already there: another run has published it. Look at it, or give --overwrite."
            )

    def remove(self, path: str) -> None:
        """Remove an object and whatever lies below it."""
        store, where = _store(self.place), self.locate(path)
        batch = [self._key(path)] if self._key(path) else []
        for key, _ in store.keys(self._below(path), None, where):
            batch.append(key)
            if len(batch) >= _BATCH:
                store.delete(batch, where)
                batch = []
        if batch:
            store.delete(batch, where)
