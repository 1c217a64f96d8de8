"""What all remote storage shares: a file read by ranges, bytes staged in a local temporary file, and patience.

Nothing is uploaded before it is whole, so an upload that fails can be tried again from its beginning. This file must
not know any protocol.
"""

from __future__ import annotations

import errno
import io
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, BinaryIO, Final, NoReturn, TypeVar, cast

from pipeline.errors import StorageError, UnavailableError
from pipeline.storage._backend import Staged

__all__ = ["FIRST", "RangeFile", "Transient", "fail", "patiently", "spooled", "storage_error", "within"]

T = TypeVar("T")

FIRST: Final = 256 << 10
"""Bytes asked for when a file is opened: most pictures whole, a Parquet file's footer seldom."""

_MOST: Final = 8 << 20  # bytes read ahead, at most, of who reads on and on
_TRIES: Final = 5
_PAUSE: Final = 0.5  # seconds before the second try; twice as long before each further one


class Transient(Exception):  # noqa: N818 - not an error yet
    """Something that may well work when tried again; `error` is what to raise when it does not."""

    def __init__(self, error: StorageError) -> None:
        super().__init__(str(error))
        self.error = error


def storage_error(message: str, code: int, unavailable: bool = False) -> StorageError:
    """An error whose cause is an OSError with a code of `errno`, as that of a local file has.

    The client's own exception is not its cause: what it says may hold more than a message should.
    """
    error = UnavailableError(message) if unavailable else StorageError(message)
    error.__cause__ = OSError(code, os.strerror(code))
    return error


def fail(message: str, code: int, unavailable: bool = False) -> NoReturn:
    """Raise `storage_error`; for use where another exception is being handled, which is not its cause."""
    raise storage_error(message, code, unavailable)


def patiently(action: Callable[[], T], tries: int = _TRIES) -> T:
    """What an action gives, tried again after growing pauses while it raises `Transient`.

    Raises:
        StorageError: what the last `Transient` carried.
    """
    for turn in range(tries):
        try:
            return action()
        except Transient as problem:
            if turn == tries - 1:
                raise problem.error from problem.error.__cause__
            time.sleep(_PAUSE * 2**turn * random.uniform(0.75, 1.25))
    raise AssertionError("unreachable")


def within(seconds: float, action: Callable[[], T]) -> T:
    """What an action gives, if it ends in time; one that does not is left behind in a thread of its own.

    It is for libraries that may wait for ever and cannot be interrupted: while they do, Ctrl-C still works.

    Raises:
        TimeoutError: it has not ended.
    """
    outcome: Future[T] = Future()

    def act() -> None:
        try:
            outcome.set_result(action())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=act, daemon=True).start()
    return outcome.result(timeout=seconds)


class RangeFile(io.BufferedIOBase):
    """A seekable file of known size over a function that fetches ranges; reads ahead while it is read in order.

    Holds at most 8 MiB beside what was asked for.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], size: int, where: str, head: bytes = b"") -> None:
        """A file.

        Args:
            fetch: (start, stop) to exactly these bytes, never more or fewer; raises StorageError.
            size: of the file, in bytes.
            where: its URI, for messages.
            head: its first bytes, if they are known already.
        """
        self._fetch, self._size, self._where = fetch, size, where
        self._place, self._start, self._held = 0, 0, head
        self._ahead = FIRST

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte comes from."""
        return self._place

    def size(self) -> int:
        """The file's size, as Arrow asks for it."""
        return self._size

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go there; past the end there is nothing to read."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(errno.EINVAL, "negative seek position")
        self._place = base + offset
        return self._place

    def read(self, size: int | None = -1, /) -> bytes:
        """So many bytes, fewer only at the end."""
        if self.closed:
            raise ValueError(f"{self._where}: read after close")
        left = max(self._size - self._place, 0)
        wanted = left if size is None or size < 0 else min(size, left)
        if not wanted:
            return b""
        data = self._take(wanted)
        self._place += len(data)
        return data

    read1 = read

    def readinto(self, buffer: Any, /) -> int:
        """As `read`, into a buffer."""
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def _take(self, wanted: int) -> bytes:
        inside = self._place - self._start
        known = self._held[inside : inside + wanted] if 0 <= inside < len(self._held) else b""
        if len(known) == wanted:
            return known
        start, stop = self._place + len(known), self._place + wanted
        in_order = bool(self._held) and start == self._start + len(self._held)
        self._ahead = min(self._ahead * 2, _MOST) if in_order else 0
        end = min(self._size, max(stop, start + self._ahead))
        fetched = self._fetch(start, end)
        if len(fetched) != end - start:
            fail(
                f"{self._where}: cannot read: {len(fetched)} bytes came where {end - start} were asked for. Run the "
                "same command again.",
                errno.EIO,
            )
        used = stop - start
        self._start, self._held = stop, fetched[used:]
        if not self._held:  # so that the next read is known to go on from here
            self._start, self._held = stop - 1, fetched[-1:]
        self._ahead = max(self._ahead, FIRST)
        return known + fetched[:used]


@contextmanager
def spooled(publish: Callable[[BinaryIO, str, bool], None]) -> Iterator[Staged]:
    """Staging in a local temporary file, which has no name and so vanishes with the process.

    Args:
        publish: (whole file, at its beginning; final path; only if absent).

    Raises:
        StorageError: the local disk is full.
    """
    try:
        with tempfile.TemporaryFile(prefix="telltale-") as file:
            stream = cast(BinaryIO, file)

            def send(path: str, only_if_absent: bool) -> None:
                stream.flush()
                stream.seek(0)
                publish(stream, path, only_if_absent)

            yield Staged(stream, send)
    except OSError as error:
        raise StorageError(
            f"{tempfile.gettempdir()}: cannot stage what is to be uploaded: {error.strerror or error}. Free space "
            "there, or set TMPDIR to a folder on a larger disk."
        ) from error
