"""Storage: every data URI goes through here (`file:` and plain paths now; other schemes join in this module).

A `Folder` is a place with files in it, named by paths relative to it, with `/` between the parts. A plain path is
taken to the letter (`#`, `%`, quotes and newlines are ordinary characters); a `file:` URI is percent-decoded.

Nothing half-written is ever visible under a final name: `put` stages the bytes and then puts them under the name,
`create` does so only if the name is still free. What a killed attempt leaves lies under `_staging/` and nowhere else.
This module must not know what is in the files.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from pipeline.errors import OutputExistsError, StorageError, UsageError

__all__ = ["STAGING", "Entry", "Folder", "Staged", "local_path", "sha256_of", "split_uri"]

STAGING = "_staging"
_CHUNK = 1 << 20
_ATTEMPTS = 1000


@dataclass(frozen=True, order=True)
class Entry:
    """A file in a folder: its relative path and its size in bytes."""

    path: str
    size: int


def local_path(uri: str) -> Path:
    """The local path that a plain path or a `file:` URI names.

    Raises:
        UsageError: the URI has another scheme.
    """
    scheme, found, rest = uri.partition(":")
    if not found or len(scheme) < 2 or not scheme.isalnum() or not rest.startswith("/") or os.path.lexists(uri):
        return Path(uri)
    if scheme.lower() != "file":
        raise UsageError(f"{uri}: storage scheme '{scheme}' is not supported; use a local path or a file: URI.")
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(f"{uri}: a file: URI must not name a host; write file:///path.")
    path = uri[len("file:") :]
    path = "/" + path.lstrip("/") if not parts.netloc else path[len("//localhost") :]
    return Path(unquote(path))


def split_uri(uri: str) -> tuple[Folder, str]:
    """The folder that holds a file, and the file's name in it."""
    path = local_path(uri)
    return Folder(str(path.parent)), path.name


def sha256_of(stream: BinaryIO) -> tuple[str, int]:
    """(sha256 in hex, number of bytes) of what is left in a stream, read in chunks."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size


def _explain(error: OSError, what: str, path: Path) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(f"{path}: cannot {what}: the disk is full. Free space and run the same command again.")
    if error.errno in (errno.EACCES, errno.EPERM):
        return StorageError(f"{path}: cannot {what}: permission denied. Check owner and mode, then run again.")
    if error.errno == errno.ELOOP:
        return StorageError(f"{path}: cannot {what}: a loop of symbolic links. Remove the link, then run again.")
    return StorageError(f"{path}: cannot {what}: {error.strerror or error}.")


def _open_staged(path: Path) -> BinaryIO:
    """A new file for writing; another writer may remove the staging folder between making it and using it."""
    for _ in range(_ATTEMPTS):
        with suppress(FileNotFoundError, FileExistsError):  # the folder went, or came and went; the name is unique
            path.parent.mkdir(parents=True, exist_ok=True)
            return open(path, "xb")
    raise FileNotFoundError(errno.ENOENT, "the staging folder vanishes again and again", str(path))


@dataclass
class Staged:
    """Bytes on their way to a final name."""

    stream: BinaryIO
    _path: Path
    _root: Path

    def publish(self, path: str, only_if_absent: bool = False) -> None:
        """Flush to disk and put the file under its final name, relative to the folder, in one step.

        Raises:
            OutputExistsError: `only_if_absent` and the name is taken.
        """
        target = self._root / path
        self.stream.flush()
        os.fsync(self.stream.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        if not only_if_absent:
            os.replace(self._path, target)
            return
        try:
            os.link(self._path, target)
        except FileExistsError as error:
            raise OutputExistsError(
                f"{target}: already there: another run has published it. Look at it, or give --overwrite."
            ) from error


class Folder:
    """A folder of files on some storage, addressed by relative paths. Cheap to make, safe to pickle."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._root = local_path(uri)

    def __repr__(self) -> str:
        return f"Folder({self.uri!r})"

    def child(self, path: str) -> Folder:
        """The folder at a relative path."""
        return Folder(str(self._root / path))

    def locate(self, path: str) -> str:
        """The URI of a file in this folder, for messages and for commands."""
        return str(self._root / path)

    def absolute(self) -> str:
        """The folder's URI, independent of the working directory."""
        return str(self._root.absolute())

    def exists(self, path: str = "") -> bool:
        """Whether a file or folder of that name is there (a broken link is)."""
        return os.path.lexists(self._root / path)

    def is_file(self, path: str) -> bool:
        """Whether a readable regular file of that name is there."""
        return (self._root / path).is_file()

    def is_folder(self, path: str = "") -> bool:
        """Whether a folder of that name is there."""
        return (self._root / path).is_dir()

    def open(self, path: str) -> BinaryIO:
        """A seekable binary stream for reading.

        Raises:
            StorageError: the file is missing or unreadable.
        """
        try:
            return open(self._root / path, "rb")
        except OSError as error:
            raise _explain(error, "read", self._root / path) from error

    def read(self, path: str) -> bytes:
        """All bytes of a file.

        Raises:
            StorageError: the file is missing or unreadable.
        """
        try:
            with self.open(path) as stream:
                return stream.read()
        except OSError as error:
            raise _explain(error, "read", self._root / path) from error

    def sha256(self, path: str) -> tuple[str, int]:
        """(sha256 in hex, bytes) of a file, read in chunks.

        Raises:
            StorageError: the file is missing or unreadable.
        """
        try:
            with self.open(path) as stream:
                return sha256_of(stream)
        except OSError as error:
            raise _explain(error, "read", self._root / path) from error

    def list(self, hidden: bool = False) -> Iterator[Entry]:
        """Every file below the folder, sorted by path; names that begin with `.` and `_staging/` only if `hidden`.

        Links are followed; a broken link or a loop is listed with size -1, so that it can be reported, and a folder
        reached a second time through a link is not entered again.

        Raises:
            StorageError: the folder is missing or cannot be listed.
        """
        if not self._root.is_dir():
            raise StorageError(f"{self._root}: not a folder. Check the path.")
        yield from sorted(self._walk(self._root, "", frozenset(), hidden))

    def _walk(self, folder: Path, prefix: str, above: frozenset[tuple[int, int]], hidden: bool) -> Iterator[Entry]:
        try:
            stat = folder.stat()
            items = list(os.scandir(folder))
        except OSError as error:
            raise _explain(error, "list", folder) from error
        above = above | {(stat.st_dev, stat.st_ino)}
        for item in items:
            name = prefix + item.name
            if not hidden and (item.name[0] == "." or item.name == STAGING):
                continue
            try:
                status = item.stat()
                is_folder = item.is_dir()
            except OSError:
                yield Entry(name, -1)
                continue
            if not is_folder:
                yield Entry(name, status.st_size)
            elif (status.st_dev, status.st_ino) in above:
                yield Entry(name, -1)  # a loop: reported as a file that cannot be read
            else:
                yield from self._walk(folder / item.name, name + "/", above, hidden)

    @contextmanager
    def staged(self) -> Iterator[Staged]:
        """A new file under `_staging/`: write to its `stream`, then `publish` it; gone if it is not published.

        Raises:
            StorageError: disk full, no permission.
        """
        path = self._root / STAGING / uuid.uuid4().hex
        try:
            with _open_staged(path) as stream:
                yield Staged(stream, path, self._root)
        except OSError as error:
            raise _explain(error, "write", path) from error
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another writer's bytes may be staged there
                path.parent.rmdir()

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
        target = self._root / path if path else self._root
        try:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        except OSError as error:
            raise _explain(error, "remove", target) from error
