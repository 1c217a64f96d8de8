"""HDFS, through hdfs-native: no JVM, checksums verified, the other replica tried when one fails.

Files are uploaded to `_staging/<uuid>` and published by a rename, which the NameNode does in one step: without
overwrite it fails if the name is taken, so of two writers one wins, and no reader ever sees the beginning of a file. (A
file created without overwrite under its final name would be visible while it grows.) What the client does not always
survive by itself, a DataNode that dies while a file is written, is survived by uploading again; also where the client
does not say so and waits for ever, which hdfs-native 0.14.7 sometimes does.

Names are taken to the letter; HDFS has no names with `:` in them. Nameservices, failover and Kerberos are configured
where all of Hadoop looks for them: in HADOOP_CONF_DIR, and in the ticket cache.
"""

from __future__ import annotations

import errno
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, Final

from pipeline.errors import OutputExistsError, StorageError
from pipeline.storage import _hdfs_client
from pipeline.storage._backend import CHUNK, STAGING, Entry, Staged, is_hidden
from pipeline.storage._hdfs_client import client, default_authority, told
from pipeline.storage._remote import RangeFile, Transient, fail, patiently, spooled, within
from pipeline.storage._uri import Place, join

__all__ = ["HdfsBackend"]

_UPLOADS: Final = 7  # 23 s of pauses at least: by then a NameNode may have given up a DataNode that has died
_READS: Final = 6  # 11 s of pauses at least: a NameNode that has just started is still being told where blocks are
_SLOWEST: Final = 1 << 20  # bytes a second; who reads more slowly than that is taken for stuck


@dataclass(frozen=True)
class HdfsBackend:
    """A folder on HDFS."""

    place: Place
    remote = True

    def _path(self, path: str) -> str:
        return f"/{join(self.place, path).path}"

    def locate(self, path: str) -> str:
        """The URI of a file."""
        return str(join(self.place, path))

    def absolute(self) -> str:
        """The URI, with the NameNode that stands behind `hdfs:///` where this machine's configuration names it."""
        return str(Place("hdfs", self.place.authority or default_authority(), self.place.path))

    def holds(self, other: Any) -> bool:
        """Whether the other folder is this one or lies in it."""
        if not isinstance(other, HdfsBackend):
            return False
        ours, theirs = (backend.place.authority or default_authority() for backend in (self, other))
        return ours == theirs and f"{self._path('')}/".replace("//", "/") == _beginning(other._path(""), self._path(""))

    def _status(self, path: str) -> Any | None:
        with told(f"{self.locate(path)}: cannot look at it"):
            try:
                return client(self.place.authority).get_file_info(self._path(path))
            except (FileNotFoundError, NotADirectoryError):
                return None
            except RuntimeError as error:
                if "ParentNotDirectoryException" in str(error) or "InvalidPathException" in str(error):
                    return None
                raise

    def exists(self, path: str) -> bool:
        """Whether the name is taken."""
        return self._status(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether it is a file."""
        status = self._status(path)
        return status is not None and not status.isdir

    def is_folder(self, path: str) -> bool:
        """Whether it is a folder."""
        status = self._status(path)
        return status is not None and bool(status.isdir)

    def open(self, path: str) -> BinaryIO:
        """The file, as long as it is now."""
        where = self.locate(path)
        reader = _Reader(self.place.authority, self._path(path), where)
        return RangeFile(reader.fetch, reader.size, where)  # type: ignore[return-value]

    def read(self, path: str) -> bytes:
        """The file's bytes."""
        reader = _Reader(self.place.authority, self._path(path), self.locate(path))
        return reader.fetch(0, reader.size)

    def walk(self, hidden: bool) -> Iterator[Entry]:
        """The files below."""
        root, where = self._path(""), self.locate("")
        if not self.is_folder(""):
            fail(f"{where}: not a folder. Check the path.", errno.ENOTDIR)
        prefix = len(root.rstrip("/")) + 1
        with told(f"{where}: cannot list"):
            for status in client(self.place.authority).list_status(root, recursive=True):
                path = status.path[prefix:]
                if not status.isdir and (hidden or not is_hidden(path)):
                    yield Entry(path, status.length)

    @contextmanager
    def staged(self) -> Iterator[Staged]:
        """A local temporary file, uploaded when it is published."""
        with spooled(self._publish) as staged:
            yield staged

    def _publish(self, source: BinaryIO, path: str, only_if_absent: bool) -> None:
        where = self.locate(path)
        _check_name(where, path)
        patiently(lambda: self._upload(source, path, where, only_if_absent), _UPLOADS)

    def _upload(self, source: BinaryIO, path: str, where: str, only_if_absent: bool) -> None:
        """One attempt, under a name of its own, which is gone afterwards whatever happens."""
        hdfs, staged = client(self.place.authority), f"{STAGING}/{uuid.uuid4().hex}"
        try:
            with told(f"{where}: cannot write", writing=True):
                writer = hdfs.create(self._path(staged))  # with its parents, in the NameNode's own step
            with told(f"{where}: cannot write", writing=True, blocks=True):
                self._fill(writer, source)
            if "/" in path:
                with told(f"{where}: cannot make its folder"):
                    hdfs.mkdirs(self._path(path.rpartition("/")[0]), create_parent=True)
            with told(f"{where}: cannot publish"):
                self._rename(hdfs, staged, path, source, only_if_absent)
        except BaseException:
            with suppress(Exception):
                hdfs.delete(self._path(staged))
            raise
        finally:
            with suppress(Exception):  # another writer's bytes may be staged there
                hdfs.delete(self._path(STAGING))

    def _fill(self, writer: Any, source: BinaryIO) -> None:
        source.seek(0)
        while chunk := source.read(CHUNK):
            within(_hdfs_client.STUCK, partial(writer.write, chunk))
        within(_hdfs_client.STUCK, writer.close)

    def _rename(self, hdfs: Any, staged: str, path: str, source: BinaryIO, only_if_absent: bool) -> None:
        """Where the NameNode's answer is lost the client asks again, and is told that the staged file is gone."""
        try:
            hdfs.rename(self._path(staged), self._path(path), overwrite=not only_if_absent)
        except (FileExistsError, FileNotFoundError) as error:
            if not self.exists(staged) and self._has(path, source):
                return
            if isinstance(error, FileNotFoundError):
                raise
            raise OutputExistsError(
                f"{self.locate(path)}: already there: another run has published it. Look at it, or give --overwrite."
            ) from error

    def _has(self, path: str, source: BinaryIO) -> bool:
        """Whether the file there has these very bytes."""
        if not self.is_file(path):
            return False
        source.seek(0)
        with self.open(path) as there:
            while chunk := source.read(CHUNK):
                if there.read(len(chunk)) != chunk:
                    return False
            return not there.read(1)

    def remove(self, path: str) -> None:
        """Remove a file or a folder, not by way of the trash."""
        with told(f"{self.locate(path)}: cannot remove"):
            try:
                client(self.place.authority).delete(self._path(path), recursive=True)
            except (FileNotFoundError, NotADirectoryError):
                return


class _Reader:
    """A file's blocks, looked up again when no replica of one could be read."""

    def __init__(self, authority: str, path: str, where: str) -> None:
        self._authority, self._path, self._where = authority, path, where
        self._file = self._look_up()
        self.size = len(self._file)

    def _look_up(self) -> Any:
        with told(f"{self._where}: cannot read"):
            return client(self._authority).read(self._path)

    def fetch(self, start: int, stop: int) -> bytes:
        """Exactly these bytes."""
        return patiently(lambda: self._attempt(start, stop), _READS) if stop > start else b""

    def _attempt(self, start: int, stop: int) -> bytes:
        try:
            with told(f"{self._where}: cannot read", blocks=True):
                limit = _hdfs_client.STUCK + (stop - start) / _SLOWEST
                data = bytes(within(limit, partial(self._file.read_range, start, stop - start)))
        except Transient:
            self._file = self._look_up()
            if len(self._file) != self.size:
                fail(f"{self._where}: changed while it was read. Run again when nobody writes there.", errno.ESTALE)
            raise
        return data


def _beginning(whole: str, root: str) -> str:
    prefix = f"{root}/".replace("//", "/")
    return f"{whole}/".replace("//", "/")[: len(prefix)]


def _check_name(where: str, path: str) -> None:
    """Refuse what HDFS cannot store, before anything is uploaded."""
    if ":" in path or any(part in ("", ".", "..") for part in path.split("/")):
        raise StorageError(f"{where}: HDFS has no files of such a name (no ':', no empty part, no '.'). Rename it.")
