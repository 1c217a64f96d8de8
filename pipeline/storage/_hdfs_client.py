"""The HDFS client of this process: made once for each NameNode, and its errors turned into ours.

hdfs-native raises its errors as text with the Java class's name in it; the table here says what each means to a person.
"""

from __future__ import annotations

import errno
import io
import os
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from pipeline.errors import SetupError, StorageError, TelltaleError
from pipeline.storage._remote import Transient, fail, storage_error, within

__all__ = ["STUCK", "client", "default_authority", "told"]

STUCK: Final = 120.0
"""Seconds without an answer; the client itself waits 60 for a DataNode's before it tries another."""

_ATTEMPTS: Final = "dfs.client.failover.max.attempts"
_PATIENCE: Final = "5"  # attempts at a lone NameNode: about 25 seconds; the client's own 15 take three minutes

_lock = threading.Lock()
_clients: dict[tuple[int, str], Any] = {}


def client(authority: str) -> Any:
    """The client for a NameNode or nameservice; one a process, since a forked child cannot use its parent's.

    Raises:
        SetupError: hdfs-native is not installed.
    """
    key = (os.getpid(), authority)
    with _lock:
        if key not in _clients:
            _clients[key] = _connect(authority)
        return _clients[key]


def _connect(authority: str) -> Any:
    try:
        from hdfs_native import Client
    except ImportError as error:
        raise SetupError(
            "hdfs: URIs need hdfs-native: install the extra with `pip install 'telltale[hdfs]'`."
        ) from error
    # A nameservice has no port, and its failover is configured by whoever runs it.
    options = {_ATTEMPTS: _PATIENCE} if ":" in authority and _ATTEMPTS not in _settings() else None
    with told(f"hdfs://{authority}/: cannot connect"):
        return _Bounded(Client(f"hdfs://{authority}" if authority else None, config=options))


class _Bounded:
    """The client, each of whose calls ends: from a NameNode that is stopped dead hdfs-native 0.14.7 waits for an answer
    for ever. (A listing asks on while it is read, and what reads and writes blocks has limits of its own.)"""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._inner, name)
        return lambda *given, **named: within(STUCK, partial(call, *given, **named))

    def create(self, path: str) -> Any:
        """A writer. To Python it is closed, though it writes and closes all the same: otherwise its finaliser would
        close it (again), in whatever thread lets go of it, and wait for a NameNode that is stopped dead for ever."""

        def act() -> Any:
            writer = self._inner.create(path)
            io.RawIOBase.close(writer)
            return writer

        return within(STUCK, act)


def default_authority() -> str:
    """The NameNode that `hdfs:///` means, or an empty string where the configuration does not say it plainly."""
    default = urlsplit(_settings().get("fs.defaultFS", ""))
    return default.netloc if default.scheme == "hdfs" and "$" not in default.netloc else ""


def _settings() -> dict[str, str]:
    folder = os.environ.get("HADOOP_CONF_DIR") or os.path.join(os.environ.get("HADOOP_HOME", ""), "etc", "hadoop")
    return _read_settings(folder)


@cache
def _read_settings(folder: str) -> dict[str, str]:
    """The plain settings of a configuration folder; the client reads the rest, and tells of what is wrong there."""
    found: dict[str, str] = {}
    for name in ("core-site.xml", "hdfs-site.xml"):
        try:
            root = ElementTree.parse(Path(folder, name)).getroot()
        except (OSError, ElementTree.ParseError):
            continue
        for item in root.iter("property"):
            found[(item.findtext("name") or "").strip()] = (item.findtext("value") or "").strip()
    return found


class _Meaning(NamedTuple):
    """What an error means: its sign in the client's text, its errno, the words, and whose fault it is."""

    sign: str
    code: int
    words: str
    unavailable: bool = False
    transient: bool = False


_DOWN: Final = (
    "the NameNode does not answer. Check that it runs, the host and port of the URI, and HADOOP_CONF_DIR; then run the "
    "same command again"
)
_KERBEROS: Final = "who you are is not accepted. Get a Kerberos ticket (kinit), or check HADOOP_CONF_DIR"
_NO_NAMENODE: Final = _Meaning("", errno.EHOSTDOWN, _DOWN, unavailable=True)
_NO_DATANODE: Final = _Meaning(
    "",
    errno.EIO,
    "no replica of a block could be read: every one is damaged, or its DataNode does not answer. `hdfs dfsadmin "
    "-report` and `hdfs fsck PATH -files -blocks -locations` say which; mend that, then run the same command again",
    unavailable=True,  # the client says the same of damage and of an outage, so no file is blamed
    transient=True,
)
_NO_ROOM: Final = _Meaning(
    "of the 1 minReplication nodes",
    errno.ENOSPC,
    "no DataNode can take a block: HDFS is full (a DataNode leaves 1 GB of its disk free), or its DataNodes are down "
    "(`hdfs dfsadmin -report`). Mend that, then run the same command again",
    transient=True,
)
_MEANINGS: Final = (
    _Meaning(
        "SafeModeException",
        errno.EROFS,
        "HDFS is in safe mode, where nothing can be written. Wait until it has left it (`hdfs dfsadmin -safemode "
        "get`), then run the same command again",
        unavailable=True,
    ),
    _Meaning(
        "QuotaExceeded",
        errno.EDQUOT,
        "over the quota of its folder or of one above. Free space, or have it raised (`hdfs dfs -count -q`, `hdfs "
        "dfsadmin -setQuota`, `-setSpaceQuota`), then run the same command again",
    ),
    _NO_ROOM,
    _Meaning("minReplication", errno.ENOSPC, "too few DataNodes can take a block (`hdfs dfsadmin -report`)"),
    _Meaning("SIMPLE authentication is not enabled", errno.EACCES, _KERBEROS, unavailable=True),
    _Meaning("Client cannot authenticate", errno.EACCES, _KERBEROS, unavailable=True),
    _Meaning("GSSAPI", errno.EACCES, _KERBEROS, unavailable=True),
    _Meaning("SASL", errno.EACCES, _KERBEROS, unavailable=True),
    _Meaning(
        "AccessControlException",
        errno.EACCES,
        "permission denied. Check owner and mode (`hdfs dfs -ls`), and who you are (HADOOP_USER_NAME or your Kerberos "
        "ticket)",
    ),
    _Meaning(
        "StandbyException",
        errno.EHOSTDOWN,
        "this NameNode is on standby. Name the nameservice instead of a host (hdfs://nameservice/path, with "
        "HADOOP_CONF_DIR set)",
        unavailable=True,
    ),
    _Meaning("InvalidPathException", errno.EINVAL, "HDFS has no files of such a name (no ':', no '.'). Rename it"),
    _Meaning("ParentNotDirectoryException", errno.ENOTDIR, "a file is in the way where a folder is needed. Remove it"),
    _Meaning("is a directory", errno.EISDIR, "is a folder, not a file"),
    _Meaning("Path is not a file", errno.EISDIR, "is a folder, not a file"),
    _Meaning(
        "No fs.defaultFS",
        errno.EINVAL,
        "the URI names no NameNode, and fs.defaultFS of HADOOP_CONF_DIR does not either. Write hdfs://host:port/path",
        unavailable=True,
    ),
    _Meaning(
        "No NameNode hosts",
        errno.EINVAL,
        "no such nameservice in HADOOP_CONF_DIR. Set it, or write hdfs://host:port/path",
        unavailable=True,
    ),
)

_DATANODES: Final = ("DataTransferError", "ChecksumError", "BlocksNotFound", "OperationFailed")
"""In what the client says when DataNodes failed it: those that have a block, or those that were to take one."""


@contextmanager
def told(what: str, writing: bool = False, blocks: bool = False) -> Iterator[None]:
    """Turn what the client raises into a StorageError that begins with `what`.

    Args:
        what: file and deed.
        writing: not reading.
        blocks: it is DataNodes that are asked, of which others may answer the next time.

    Raises:
        Transient: another try may succeed.
        StorageError: it will not.
    """
    try:
        yield
    except (TelltaleError, Transient):
        raise
    except FileNotFoundError as error:
        raise _missing(what, str(error)) from OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    except Exception as error:
        _raise(what, error, writing, blocks)
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what Rust raises is no Exception
            raise
        _raise(what, error, writing, blocks)


def _missing(what: str, text: str) -> StorageError:
    if "Path is not a file" in text:
        return StorageError(f"{what}: is a folder, not a file.")
    return StorageError(f"{what}: {os.strerror(errno.ENOENT)}.")


def _raise(what: str, error: BaseException, writing: bool, blocks: bool) -> None:
    text = str(error)
    meaning = next((item for item in _MEANINGS if item.sign in text), None)
    if meaning is None and (any(sign in text for sign in _DATANODES) or (blocks and isinstance(error, OSError))):
        meaning = _NO_ROOM if writing else _NO_DATANODE
    elif meaning is None and isinstance(error, OSError):
        meaning = _NO_NAMENODE
    if meaning is None:
        fail(f"{what}: {_first_line(text)}.", errno.EIO)
    ours = storage_error(f"{what}: {meaning.words}.", meaning.code, meaning.unavailable)
    raise (Transient(ours) if meaning.transient else ours)


def _first_line(text: str) -> str:
    """The client's own words without Java's stack."""
    return re.split(r"\\n|\n", text)[0][:300].rstrip('." ')
