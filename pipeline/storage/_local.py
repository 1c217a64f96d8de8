"""Files of this machine, and of whatever is mounted on it.

What a killed attempt leaves lies under `_staging/`; a file is published by a rename, or by a hard link where the name
must still be free.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from pipeline.errors import OutputExistsError, StorageError
from pipeline.storage._backend import STAGING, Entry, Staged

__all__ = ["LocalBackend"]

_ATTEMPTS: Final = 1000
_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)


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


def _give_free_name(path: Path, target: Path) -> None:
    """A name that nobody has, in one step: by a hard link. Where a file system has none (FAT, many mounts of object
    stores) the name is taken first, empty, and the file put in its place; whoever is killed between the two leaves an
    empty file, which every reader refuses.

    Raises:
        FileExistsError: somebody has it.
    """
    try:
        os.link(path, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open(target, "xb"):
            pass
        os.replace(path, target)


@dataclass(frozen=True)
class LocalBackend:
    """A local folder."""

    root: Path
    remote = False

    def locate(self, path: str) -> str:
        """The path of a file."""
        return str(self.root / path)

    def absolute(self) -> str:
        """The absolute path."""
        return str(self.root.absolute())

    def holds(self, other: Any) -> bool:
        """Whether the other folder is this one or lies in it, links resolved."""
        return isinstance(other, LocalBackend) and other.root.resolve().is_relative_to(self.root.resolve())

    def exists(self, path: str) -> bool:
        """Whether the name is taken (a broken link takes it too)."""
        return os.path.lexists(self.root / path)

    def is_file(self, path: str) -> bool:
        """Whether it is a regular file."""
        return (self.root / path).is_file()

    def is_folder(self, path: str) -> bool:
        """Whether it is a folder."""
        return (self.root / path).is_dir()

    def open(self, path: str) -> BinaryIO:
        """The file."""
        try:
            return open(self.root / path, "rb")
        except OSError as error:
            raise _explain(error, "read", self.root / path) from error

    def read(self, path: str) -> bytes:
        """The file's bytes."""
        try:
            with self.open(path) as stream:
                return stream.read()
        except OSError as error:
            raise _explain(error, "read", self.root / path) from error

    def walk(self, hidden: bool) -> Iterator[Entry]:
        """The files below; links are followed, loops and broken links listed with size -1."""
        if not self.root.is_dir():
            raise StorageError(f"{self.root}: not a folder. Check the path.")
        return self._walk(self.root, "", frozenset(), hidden)

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
        """A file under `_staging/`."""
        path = self.root / STAGING / uuid.uuid4().hex
        try:
            with _open_staged(path) as stream:
                yield Staged(stream, lambda name, only_if_absent: self._publish(stream, path, name, only_if_absent))
        except OSError as error:
            raise _explain(error, "write", path) from error
        finally:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another writer's bytes may be staged there
                path.parent.rmdir()

    def _publish(self, stream: BinaryIO, path: Path, name: str, only_if_absent: bool) -> None:
        target = self.root / name
        stream.flush()
        os.fsync(stream.fileno())
        target.parent.mkdir(parents=True, exist_ok=True)
        if not only_if_absent:
            os.replace(path, target)
            return
        try:
            _give_free_name(path, target)
        except FileExistsError as error:
            raise OutputExistsError(
                f"{target}: already there: another run has published it. Look at it, or give --overwrite."
            ) from error

    def remove(self, path: str) -> None:
        """Remove a file, a link or a folder."""
        target = self.root / path if path else self.root
        try:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        except OSError as error:
            raise _explain(error, "remove", target) from error
