"""GCS, through google-cloud-storage. Credentials are Google's application default ones; none is set here.

The client repeats what fails; every read names the generation of the object, and its length is checked.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final, NoReturn, TypeVar

from pipeline.errors import SetupError
from pipeline.storage._objects import MARK, Piece
from pipeline.storage._remote import Transient, fail, patiently, storage_error

__all__ = ["GcsStore"]

T = TypeVar("T")

SECONDS: float = 60  # without an answer
_PART: Final = 64 << 20
_LOGIN: Final = (
    "Check GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, or the machine's account"
)

_lock = threading.Lock()
_clients: dict[tuple[Any, ...], Any] = {}


def _client() -> Any:
    key = (os.getpid(), os.environ.get("STORAGE_EMULATOR_HOST"), os.environ.get("GOOGLE_APPLICATION_CREDENTIALS"))
    with _lock:
        if key not in _clients:
            _clients[key] = _connect()
        return _clients[key]


def _connect() -> Any:
    try:
        from google.auth.exceptions import GoogleAuthError
        from google.cloud import storage
    except ImportError as error:
        raise SetupError(
            "gs: URIs need google-cloud-storage: install the extra with `pip install 'telltale[gcs]'`."
        ) from error
    try:
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            return storage.Client.create_anonymous_client()
        return storage.Client()
    except (GoogleAuthError, OSError, ValueError) as error:
        fail(f"GCS is not set up here ({type(error).__name__}). {_LOGIN}.", errno.EACCES, unavailable=True)


class GcsStore:
    """A bucket."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def _blob(self, client: Any, key: str, **options: Any) -> Any:
        return client.bucket(self._bucket).blob(key, **options)

    def _call(self, what: str, where: str, action: Callable[[Any], T]) -> T:
        """What an action with the client gives; its errors in our words.

        Raises:
            StorageError: it failed.
        """

        def attempt() -> T:
            client = _client()
            from google.api_core.exceptions import GoogleAPICallError, RetryError
            from google.auth.exceptions import GoogleAuthError
            from requests import RequestException

            try:
                return action(client)
            except GoogleAPICallError as error:
                _raise_status(f"{where}: cannot {what}", int(error.code or 0))
            except GoogleAuthError as error:
                fail(
                    f"{where}: cannot {what}: no usable credentials ({type(error).__name__}). {_LOGIN}.",
                    errno.EACCES,
                    unavailable=True,
                )
            except (RetryError, RequestException, ConnectionError, TimeoutError) as error:
                _raise_silence(f"{where}: cannot {what}", error)

        return patiently(attempt)

    def size(self, key: str, where: str) -> int | None:
        """By the object's metadata."""

        def look(client: Any) -> int | None:
            found = client.bucket(self._bucket).get_blob(key, timeout=SECONDS)
            return None if found is None else int(found.size)

        return self._call("look at it", where, look)

    def get(self, key: str, start: int, stop: int | None, version: Any, where: str) -> Piece:
        """The generation is settled first, then read."""

        def fetch(client: Any) -> Piece:
            size, generation = version or self._version(client, key, where)
            end = size if stop is None else min(stop, size)
            if end <= start:
                return Piece(b"", size, (size, generation))
            blob = self._blob(client, key, generation=generation)
            checksum = "auto" if (start, end) == (0, size) else None  # a part has none
            data = blob.download_as_bytes(
                start=start, end=end - 1, raw_download=True, checksum=checksum, timeout=SECONDS
            )
            if len(data) != end - start:
                raise ConnectionError("short answer")
            return Piece(data, size, (size, generation))

        return self._call("read", where, fetch)

    def _version(self, client: Any, key: str, where: str) -> tuple[int, int]:
        found = client.bucket(self._bucket).get_blob(key, timeout=SECONDS)
        if found is None:
            fail(f"{where}: cannot read: {os.strerror(errno.ENOENT)}.", errno.ENOENT)
        return int(found.size), int(found.generation)

    def keys(self, prefix: str, limit: int | None, where: str) -> Iterator[tuple[str, int]]:
        """A page at a time."""
        token: str | None = None
        while True:

            def page(client: Any, token: str | None = token) -> tuple[list[tuple[str, int]], str | None]:
                found = client.list_blobs(
                    self._bucket, prefix=prefix, max_results=limit, page_token=token, timeout=SECONDS
                )
                items = [(blob.name, int(blob.size)) for blob in next(found.pages, ())]
                return items, found.next_page_token

            items, token = self._call("list", where, page)
            yield from items
            if limit is not None or not token:
                return

    def upload(self, key: str, source: BinaryIO, where: str) -> None:
        """In one piece, or resumably when it is large."""
        self._call("write", where, lambda client: self._send(self._blob(client, key), source, {}))

    def create(self, key: str, source: BinaryIO, mark: str, where: str) -> bool:
        """With `ifGenerationMatch=0`, which the store decides in one step."""

        def send(client: Any) -> bool:
            from google.api_core.exceptions import PreconditionFailed

            blob = self._blob(client, key)
            blob.metadata = {MARK: mark}
            try:
                self._send(blob, source, {"if_generation_match": 0})
            except PreconditionFailed:
                found = client.bucket(self._bucket).get_blob(key, timeout=SECONDS)
                return found is not None and (found.metadata or {}).get(MARK) == mark  # an earlier answer was lost
            return True

        return self._call("write", where, send)

    def _send(self, blob: Any, source: BinaryIO, options: dict[str, Any]) -> None:
        source.seek(0)
        size = os.fstat(source.fileno()).st_size
        if size > _PART:
            blob.chunk_size = _PART
        # It may be sent again: what is stored twice is the same, and a name that is taken stays as it is.
        from google.cloud.storage.retry import DEFAULT_RETRY

        blob.upload_from_file(source, size=size, checksum="crc32c", timeout=SECONDS, retry=DEFAULT_RETRY, **options)

    def delete(self, keys: Sequence[str], where: str) -> None:
        """One after the other."""

        def remove(client: Any, key: str) -> None:
            from google.api_core.exceptions import NotFound

            try:
                self._blob(client, key).delete(timeout=SECONDS)
            except NotFound:
                return

        for key in keys:
            self._call("remove", where, lambda client, key=key: remove(client, key))  # type: ignore[misc]


def _raise_status(what: str, status: int) -> NoReturn:
    """The error that a server's answer means."""
    if status == 404:
        fail(f"{what}: no such bucket or object. Check the URI.", errno.ENOENT)
    if status in (401, 403):
        fail(f"{what}: permission denied (HTTP {status}). {_LOGIN}.", errno.EACCES, unavailable=status == 401)
    ours = storage_error(
        f"{what}: the store answered HTTP {status}. Run the same command again when it is well.",
        errno.EIO,
        unavailable=status >= 500 or status == 429,
    )
    if status >= 500 or status in (408, 429):
        raise Transient(ours) from None
    raise ours


def _raise_silence(what: str, error: Exception) -> NoReturn:
    raise Transient(
        storage_error(
            f"{what}: the store does not answer, or breaks off ({type(error).__name__}). Check the network, then run "
            "the same command again.",
            errno.EHOSTDOWN,
            unavailable=True,
        )
    ) from None
