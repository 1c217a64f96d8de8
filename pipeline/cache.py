"""A bounded local cache of remote data files, checked against the manifest that names them.

A file is fetched whole, hashed on the way, and kept under its sha256, so the same bytes are kept once wherever they
came from. When there is no room, the file that was not used for longest goes. Any number of processes may share a
cache: one fetches, the others wait for it, and who has a file open keeps it even if it goes.

It lies in `$TELLTALE_CACHE`, or else in the user's cache folder, readable by nobody else. This module must not be asked
for files that no manifest names.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from pipeline.errors import ConfigError, IntegrityError, StorageError
from pipeline.storage import Folder

__all__ = ["DEFAULT_GB", "CachedFolder", "cache_folder", "cached"]

DEFAULT_GB: Final = 20.0
"""GB (10⁹ bytes) that a cache may hold where no setting says otherwise."""

_CHUNK: Final = 1 << 20
_WAIT: Final = 0.05  # seconds between looks at what others are fetching
_PART: Final = ".part"


def cached(folder: Folder, files: Iterable[Mapping[str, Any]], gb: float = DEFAULT_GB) -> Folder:
    """The folder itself if it is local, else one that reads the named files by way of the cache.

    Args:
        folder: where the files are.
        files: a manifest's entries: `path`, `bytes`, `sha256`.
        gb: the most that the cache may hold, in GB (10⁹ bytes).
    """
    return CachedFolder(folder.uri, files, int(gb * 1e9)) if folder.remote else folder


def cache_folder() -> Path:
    """Where cached files lie."""
    named = os.environ.get("TELLTALE_CACHE")
    if named:
        return Path(named)
    home = os.environ.get("XDG_CACHE_HOME") or (os.environ.get("HOME") and os.path.join(os.environ["HOME"], ".cache"))
    return Path(home or os.path.join(tempfile.gettempdir(), f"telltale-{os.getuid()}"), "telltale", "data")


@dataclass(frozen=True)
class _Wanted:
    """A file as its manifest names it, and how to tell a person where it is."""

    sha256: str
    size: int
    where: str


class CachedFolder(Folder):
    """A remote folder some of whose files are read from a local copy."""

    def __init__(self, uri: str, files: Iterable[Mapping[str, Any]], limit: int) -> None:
        """A folder.

        Args:
            uri: of the remote folder.
            files: the entries of its manifest.
            limit: the most that the cache may hold, in bytes.
        """
        super().__init__(uri)
        self._files = {
            entry["path"]: _Wanted(entry["sha256"], entry["bytes"], self.locate(entry["path"])) for entry in files
        }
        self._limit = limit

    def open(self, path: str) -> BinaryIO:
        """The local copy of a file that the manifest names, fetched if it is not there.

        Raises:
            IntegrityError: its bytes are not those that the manifest names.
            StorageError: it cannot be fetched, or the local disk is full.
            ConfigError: it alone is larger than the cache may be.
        """
        wanted = self._files.get(path)
        if wanted is None:
            return super().open(path)
        root = cache_folder()
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            while True:
                found = _look_up(root / wanted.sha256, wanted.size)
                if found is not None:
                    return found
                with _claimed(root / (wanted.sha256 + _PART)) as part:
                    if part is not None and not (root / wanted.sha256).exists():
                        self._fetch(root, part, path, wanted)
        except OSError as error:
            raise _explain(error, root, wanted) from error

    def read(self, path: str) -> bytes:
        """All bytes of a file; see `open`."""
        if path not in self._files:
            return super().read(path)
        with self.open(path) as stream:
            return stream.read()

    def _fetch(self, root: Path, part: BinaryIO, path: str, wanted: _Wanted) -> None:
        _make_room(root, part, wanted, self._limit)
        digest, size = hashlib.sha256(), 0
        with super().open(path) as stream:
            while (chunk := stream.read(_CHUNK)) and size <= wanted.size:
                digest.update(chunk)
                size += len(chunk)
                part.write(chunk)
        if (digest.hexdigest(), size) != (wanted.sha256, wanted.size):
            raise IntegrityError(
                f"{wanted.where}: changed: sha256 {digest.hexdigest()[:16]}…, {size} bytes; the manifest says "
                f"{wanted.sha256[:16]}…, {wanted.size} bytes. Make this stage again."
            )
        part.flush()
        with _alone(root):  # who is counting must find it under one name or the other
            os.replace(root / (wanted.sha256 + _PART), root / wanted.sha256)


def _look_up(path: Path, size: int) -> BinaryIO | None:
    """The cached file, marked as used now; None if it is not there whole."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 - the caller closes it
    except FileNotFoundError:
        return None
    if os.fstat(stream.fileno()).st_size == size:
        with suppress(FileNotFoundError):  # it may go just now; whoever has it open keeps it
            os.utime(path)
        return stream
    stream.close()
    path.unlink(missing_ok=True)
    return None


@contextmanager
def _claimed(path: Path) -> Iterator[BinaryIO | None]:
    """The part file, locked; None if somebody else has just finished or given up with it: look again.

    What is not renamed when it is let go is removed.
    """
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        if not _is(part, path):
            yield None
            return
        try:
            part.truncate(0)
            yield part
        finally:
            if _is(part, path):
                path.unlink(missing_ok=True)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While nobody else counts, makes room, or puts a finished file under its name."""
    with open(root / "lock", "ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is(stream: BinaryIO, path: Path) -> bool:
    """Whether a path still names the open file."""
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _make_room(root: Path, part: BinaryIO, wanted: _Wanted, limit: int) -> None:
    """Reserve the file's bytes on the disk, once the others leave so much room."""
    if wanted.size > limit:
        raise ConfigError(
            f"{wanted.where}: has {wanted.size / 1e9:.2f} GB, but the local cache may hold {limit / 1e9:g} GB only. "
            "Raise cache_gb."
        )
    while True:
        with _alone(root):
            if _evict(root, limit - wanted.size):
                _reserve(root, part, wanted.size)
                return
        time.sleep(_WAIT)  # others are fetching what takes the room


def _reserve(root: Path, part: BinaryIO, size: int) -> None:
    """Take the bytes from the disk; from a full one, after giving back what the cache has."""
    while size:
        try:
            os.posix_fallocate(part.fileno(), 0, size)
        except OSError as error:
            if error.errno != errno.ENOSPC or not _evict_one(root):
                raise
        else:
            return


def _evict(root: Path, room: int) -> bool:
    """Remove files until no more than `room` bytes are taken; False if what others are fetching takes more."""
    while sum(size for _, size in _held(root)) > room:
        if not _evict_one(root):
            return False
    return True


def _held(root: Path) -> Iterator[tuple[os.DirEntry[str], int]]:
    """What is in the cache, with the bytes it takes; parts that nobody is filling any more are removed."""
    with os.scandir(root) as items:
        for item in items:
            if item.name == "lock":
                continue
            with suppress(FileNotFoundError):
                if item.name.endswith(_PART) and _abandoned(item.path):
                    os.unlink(item.path)
                    continue
                yield item, item.stat().st_size


def _abandoned(path: str) -> bool:
    with open(path, "rb") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def _evict_one(root: Path) -> bool:
    """Remove the file that was not used for longest; False if there is none."""
    files = [item for item, _ in _held(root) if not item.name.endswith(_PART)]
    ages: list[tuple[int, str]] = []
    for item in files:
        with suppress(FileNotFoundError):
            ages.append((os.stat(item.path).st_mtime_ns, item.path))
    if not ages:
        return False
    with suppress(FileNotFoundError):
        os.unlink(min(ages)[1])
    return True


def _explain(error: OSError, root: Path, wanted: _Wanted) -> StorageError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageError(
            f"{root}: cannot keep a copy of {wanted.where}: the disk is full. Free space, lower cache_gb, or set "
            "TELLTALE_CACHE to a folder on a larger disk."
        )
    return StorageError(
        f"{root}: cannot keep a copy of {wanted.where}: {error.strerror or error}. Check the folder, or set "
        "TELLTALE_CACHE to another one."
    )
