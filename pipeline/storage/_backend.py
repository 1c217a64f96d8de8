"""What every kind of storage must be able to do, seen from one folder on it.

`Folder` is the face that the rest of Telltale knows; a `Backend` is what stands behind it. This file must not know any
kind of storage.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, Protocol

__all__ = ["CHUNK", "STAGING", "Backend", "Entry", "Staged", "is_hidden", "sha256_of"]

STAGING: Final = "_staging"
CHUNK: Final = 1 << 20


@dataclass(frozen=True, order=True)
class Entry:
    """A file in a folder: its relative path and its size in bytes."""

    path: str
    size: int


@dataclass
class Staged:
    """Bytes on their way to a final name."""

    stream: BinaryIO
    _publish: Callable[[str, bool], None]

    def publish(self, path: str, only_if_absent: bool = False) -> None:
        """Make the bytes last and put them under their final name, relative to the folder, in one step.

        Raises:
            OutputExistsError: `only_if_absent` and the name is taken.
        """
        self._publish(path, only_if_absent)


class Backend(Protocol):
    """A folder on some storage. Cheap to make, safe to pickle: connections live in the process, not in here."""

    @property
    def remote(self) -> bool:
        """Whether its files are on other machines: worth a cache, and out of reach of plain paths."""

    def locate(self, path: str) -> str:
        """The URI of a file, as `Folder` would take it."""

    def absolute(self) -> str:
        """The folder's URI, independent of the working directory and of this machine's defaults."""

    def holds(self, other: Any) -> bool:
        """Whether the other backend's folder is this one, or lies in it."""

    def exists(self, path: str) -> bool:
        """Whether a file or folder of that name is there."""

    def is_file(self, path: str) -> bool:
        """Whether a readable regular file of that name is there."""

    def is_folder(self, path: str) -> bool:
        """Whether a folder of that name is there."""

    def open(self, path: str) -> BinaryIO:
        """A seekable stream for reading."""

    def read(self, path: str) -> bytes:
        """All bytes of a file."""

    def walk(self, hidden: bool) -> Iterator[Entry]:
        """Every file below, in any order."""

    def staged(self) -> AbstractContextManager[Staged]:
        """A new file, invisible until it is published."""

    def remove(self, path: str) -> None:
        """Remove a file or a whole folder; what is not there is no error."""


def is_hidden(path: str) -> bool:
    """Whether a relative path is none of the data: some part begins with a dot, or is the staging folder."""
    return any(part[:1] == "." or part == STAGING for part in path.split("/"))


def sha256_of(stream: BinaryIO) -> tuple[str, int]:
    """(sha256 in hex, number of bytes) of what is left in a stream, read in chunks."""
    digest, size = hashlib.sha256(), 0
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
        size += len(chunk)
    return digest.hexdigest(), size
