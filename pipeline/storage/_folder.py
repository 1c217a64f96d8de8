"""`Folder`: the one face of all kinds of storage.

This file must not know what a kind of storage is like beyond `Backend`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from pipeline.errors import StorageError
from pipeline.storage._backend import Backend, Entry, Staged, sha256_of
from pipeline.storage._local import LocalBackend
from pipeline.storage._uri import Place, parse

__all__ = ["Folder", "split_uri"]


def _backend(uri: str) -> Backend:
    """What stands behind a URI. A client is only loaded when it is first asked something."""
    place = parse(uri)
    if not isinstance(place, Place):
        return LocalBackend(place)
    if place.scheme == "hdfs":
        from pipeline.storage._hdfs import HdfsBackend

        return HdfsBackend(place)
    from pipeline.storage._objects import ObjectBackend

    return ObjectBackend(place)


def split_uri(uri: str) -> tuple[Folder, str]:
    """The folder that holds a file, and the file's name in it."""
    place = parse(uri)
    if isinstance(place, Place):
        parent, _, name = place.path.rpartition("/")
        return Folder(str(Place(place.scheme, place.authority, parent))), name
    return Folder(str(place.parent)), place.name


class Folder:
    """A folder of files on some storage, addressed by relative paths. Cheap to make, safe to pickle."""

    def __init__(self, uri: str) -> None:
        """A folder, which need not exist.

        Raises:
            UsageError: no such kind of storage, or no valid place on it.
        """
        self.uri = uri
        self._backend = _backend(uri)

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    @property
    def remote(self) -> bool:
        """Whether its files are not on a local file system."""
        return self._backend.remote

    def child(self, path: str) -> Folder:
        """The folder at a relative path."""
        return Folder(self._backend.locate(path))

    def locate(self, path: str) -> str:
        """The URI of a file in this folder, for messages and for commands."""
        return self._backend.locate(path)

    def absolute(self) -> str:
        """The folder's URI, independent of the working directory."""
        return self._backend.absolute()

    def holds(self, other: Folder) -> bool:
        """Whether the other folder is this one, or lies in it."""
        return self._backend.holds(other._backend)

    def exists(self, path: str = "") -> bool:
        """Whether a file or folder of that name is there (a broken link is)."""
        return self._backend.exists(path)

    def is_file(self, path: str) -> bool:
        """Whether a readable regular file of that name is there."""
        return self._backend.is_file(path)

    def is_folder(self, path: str = "") -> bool:
        """Whether a folder of that name is there; on S3 and GCS: whether some file lies below it."""
        return self._backend.is_folder(path)

    def open(self, path: str) -> BinaryIO:
        """A seekable binary stream for reading. On remote storage, what fails later is a StorageError too.

        Raises:
            StorageError: the file is missing or unreadable.
        """
        return self._backend.open(path)

    def read(self, path: str) -> bytes:
        """All bytes of a file.

        Raises:
            StorageError: the file is missing or unreadable.
        """
        return self._backend.read(path)

    def sha256(self, path: str) -> tuple[str, int]:
        """(sha256 in hex, bytes) of a file, read in chunks.

        Raises:
            StorageError: the file is missing or unreadable.
        """
        try:
            with self.open(path) as stream:
                return sha256_of(stream)
        except OSError as error:
            raise StorageError(f"{self.locate(path)}: cannot read: {error.strerror or error}.") from error

    def list(self, hidden: bool = False) -> Iterator[Entry]:
        """Every file below the folder, sorted by path; names that begin with `.` and `_staging/` only if `hidden`.

        Links are followed; a broken link or a loop is listed with size -1, so that it can be reported, and a folder
        reached a second time through a link is not entered again.

        Raises:
            StorageError: the folder is missing or cannot be listed.
        """
        yield from sorted(self.walk(hidden))

    def walk(self, hidden: bool = False) -> Iterator[Entry]:
        """What `list` gives, in any order and without holding it all.

        Raises:
            StorageError: as `list`.
        """
        yield from self._backend.walk(hidden)

    @contextmanager
    def staged(self) -> Iterator[Staged]:
        """A new file that nobody sees: write to its `stream`, then `publish` it; gone if it is not published.

        Raises:
            StorageError: disk full, no permission.
        """
        with self._backend.staged() as staged:
            yield staged

    def put(self, path: str, data: bytes) -> None:
        """Write a file, replacing one of that name, so that readers see the old bytes or the new, never a part.

        Raises:
            StorageError: disk full, no permission.
        """
        with self.staged() as staged:
            staged.stream.write(data)
            staged.publish(path)

    def create(self, path: str, data: bytes) -> None:
        """Write a file only if none of that name exists: of two writers at once, exactly one succeeds.

        Raises:
            OutputExistsError: the name is taken.
            StorageError: disk full, no permission.
        """
        with self.staged() as staged:
            staged.stream.write(data)
            staged.publish(path, only_if_absent=True)

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; what is not there is no error.

        Raises:
            StorageError: no permission.
        """
        self._backend.remove(path)
