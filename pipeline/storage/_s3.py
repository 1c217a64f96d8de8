"""S3, through boto3. Endpoint, region and credentials are found as all AWS tools find them; none is set here.

boto3 repeats what fails before an answer begins; an answer that breaks off, or is shorter than it should be, is asked
for again here. What a server says in its own words is never shown: only its error code is.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Final, NoReturn, TypeVar

from pipeline.errors import SetupError, StorageError
from pipeline.storage._objects import MARK, Piece
from pipeline.storage._remote import Transient, fail, patiently, storage_error

__all__ = ["S3Store"]

T = TypeVar("T")

CONNECT_SECONDS: float = 10
READ_SECONDS: float = 60
_PART: Final = 64 << 20  # bytes; a file of up to 10,000 of them can be stored
_UPLOADERS: Final = 4  # threads that send the parts of one file
_LONE: Final = 5 << 30  # bytes; the most that S3 takes in one piece

_MISSING: Final = ("404", "NoSuchKey", "NotFound")
_DENIED: Final = {
    "403": "permission denied",
    "AccessDenied": "permission denied",
    "AllAccessDisabled": "permission denied",
    "InvalidAccessKeyId": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is not the right one",
    "ExpiredToken": "the session has expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
_LOGIN: Final = (
    "Check AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role; and "
    "AWS_ENDPOINT_URL where the store is not Amazon's"
)

_lock = threading.Lock()
_clients: dict[tuple[Any, ...], Any] = {}


def _client() -> Any:
    key = (os.getpid(), CONNECT_SECONDS, READ_SECONDS, *(os.environ.get(name) for name in _ENVIRONMENT))
    with _lock:
        if key not in _clients:
            _clients[key] = _connect()
        return _clients[key]


_ENVIRONMENT: Final = ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ACCESS_KEY_ID")
"""What may change within a process (in tests, in notebooks) and asks for another client."""


def _connect() -> Any:
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError as error:
        raise SetupError("s3: URIs need boto3: install the extra with `pip install 'telltale[s3]'`.") from error
    options: dict[str, Any] = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS}
    if "AWS_MAX_ATTEMPTS" not in os.environ and "AWS_RETRY_MODE" not in os.environ:
        options["retries"] = {"mode": "standard", "total_max_attempts": 6}
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        options["s3"] = {"addressing_style": "path"}  # other servers than Amazon's seldom know bucket.host names
    try:
        return boto3.session.Session().client("s3", config=Config(max_pool_connections=32, **options))
    except (BotoCoreError, ValueError) as error:
        fail(f"S3 is not set up here ({type(error).__name__}). {_LOGIN}.", errno.EINVAL, unavailable=True)


class S3Store:
    """A bucket."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    def _call(self, what: str, where: str, action: Callable[[Any], T]) -> T:
        """What an action with the client gives; its errors in our words, after trying again what may pass.

        Raises:
            StorageError: it failed.
        """

        def attempt() -> T:
            from botocore.exceptions import BotoCoreError, ClientError

            try:
                return action(_client())
            except ClientError as error:
                _raise_code(f"{where}: cannot {what}", error)
            except BotoCoreError as error:
                _raise_transport(f"{where}: cannot {what}", error)

        return patiently(attempt)

    def size(self, key: str, where: str) -> int | None:
        """By HEAD."""

        def look(client: Any) -> int | None:
            from botocore.exceptions import ClientError

            try:
                return int(client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
            except ClientError as error:
                if _code(error) in _MISSING:
                    return None
                raise

        return self._call("look at it", where, look)

    def get(self, key: str, start: int, stop: int | None, version: Any, where: str) -> Piece:
        """By GET with a range; the ETag holds the version fast."""
        options: dict[str, Any] = {"IfMatch": version} if version else {}
        if stop is not None:
            options["Range"] = f"bytes={start}-{stop - 1}"

        def fetch(client: Any) -> Piece:
            from botocore.exceptions import ClientError

            try:
                answer = client.get_object(Bucket=self._bucket, Key=key, **options)
            except ClientError as error:
                if _code(error) in ("416", "InvalidRange") and start == 0:
                    return Piece(b"", 0, None)  # an empty object has no range at all
                raise
            with answer["Body"] as body:
                data = body.read()
            return _checked(Piece(data, _whole(answer), answer["ETag"]), start, stop, where)

        return self._call("read", where, fetch)

    def keys(self, prefix: str, limit: int | None, where: str) -> Iterator[tuple[str, int]]:
        """By ListObjectsV2, a page at a time."""
        options: dict[str, Any] = {"Bucket": self._bucket, "Prefix": prefix}
        if limit is not None:
            options["MaxKeys"] = limit
        while True:
            page = self._call("list", where, lambda client: client.list_objects_v2(**options))
            yield from ((item["Key"], int(item["Size"])) for item in page.get("Contents", []))
            if limit is not None or not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]

    def upload(self, key: str, source: BinaryIO, where: str) -> None:
        """In one piece, or in parts when it is large; the store shows nothing before it has all."""

        def send(client: Any) -> None:
            self._send(client, key, source, {})

        self._call("write", where, send)

    def create(self, key: str, source: BinaryIO, mark: str, where: str) -> bool:
        """With `If-None-Match: *`, which the store decides in one step."""

        def send(client: Any) -> bool:
            from botocore.exceptions import ClientError

            try:
                self._send(client, key, source, {"IfNoneMatch": "*", "Metadata": {MARK: mark}})
            except ClientError as error:
                if _code(error) not in ("412", "PreconditionFailed"):
                    raise
                head = client.head_object(Bucket=self._bucket, Key=key)
                return bool(head["Metadata"].get(MARK) == mark)  # an earlier answer was lost: it is ours
            return True

        return self._call("write", where, send)

    def _send(self, client: Any, key: str, source: BinaryIO, options: dict[str, Any]) -> None:
        from boto3.s3.transfer import TransferConfig

        source.seek(0)
        if os.fstat(source.fileno()).st_size <= _PART:
            client.put_object(Bucket=self._bucket, Key=key, Body=source, **options)
            return
        config = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART, max_concurrency=_UPLOADERS)
        client.upload_fileobj(_Unclosed(source), self._bucket, key, ExtraArgs=options, Config=config)

    def delete(self, keys: Sequence[str], where: str) -> None:
        """By DeleteObjects."""
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = self._call("remove", where, lambda client: client.delete_objects(Bucket=self._bucket, Delete=wanted))
        for problem in answer.get("Errors", []):
            if problem.get("Code") not in _MISSING:
                fail(f"{where}: cannot remove: {problem.get('Code')}. {_LOGIN}.", errno.EACCES)


class _Unclosed:
    """A file that its reader cannot close, so that it can be sent again."""

    def __init__(self, stream: BinaryIO) -> None:
        self.read, self.seek, self.tell = stream.read, stream.seek, stream.tell

    def seekable(self) -> bool:
        return True


def _whole(answer: dict[str, Any]) -> int:
    """The size of the whole object, whether all of it was asked for or a part."""
    return int(answer.get("ContentRange", "").rpartition("/")[2] or answer["ContentLength"])


def _checked(piece: Piece, start: int, stop: int | None, where: str) -> Piece:
    expected = min(piece.size, piece.size if stop is None else stop) - start
    if len(piece.data) != expected:
        raise Transient(
            storage_error(
                f"{where}: cannot read: the answer broke off after {len(piece.data)} of {expected} bytes. Run the same "
                "command again.",
                errno.EIO,
                unavailable=True,
            )
        )
    return piece


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _raise_code(what: str, error: Any) -> NoReturn:
    """The error that a server's answer means."""
    code = _code(error)
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    if code == "NoSuchBucket":
        fail(f"{what}: no such bucket. Check the URI, or make the bucket.", errno.ENOENT)
    if code in _MISSING:
        fail(f"{what}: {os.strerror(errno.ENOENT)}.", errno.ENOENT)
    if code in _DENIED:
        login = code not in ("403", "AccessDenied", "AllAccessDisabled")
        fail(f"{what}: {_DENIED[code]} ({code}). {_LOGIN}.", errno.EACCES, login)
    if code in ("412", "PreconditionFailed"):
        fail(f"{what}: it was replaced while it was read. Run again when nobody writes there.", errno.ESTALE)
    ours = storage_error(
        f"{what}: the store answered {code or 'an error'} (HTTP {status}), again and again. Run the same command again "
        "when it is well.",
        errno.EIO,
        unavailable=True,
    )
    if status >= 500 or status in (408, 409, 429) or code in ("SlowDown", "RequestTimeout", "BadDigest"):
        raise Transient(ours) from None
    fail(f"{what}: the store answered {code or 'an error'} (HTTP {status}).", errno.EIO)


def _raise_transport(what: str, error: Exception) -> NoReturn:
    """The error that the want of an answer, or of credentials, means."""
    name = type(error).__name__
    if "Credential" in name or "Profile" in name or "Token" in name or "Region" in name or "SSO" in name:
        fail(f"{what}: no usable credentials ({name}). {_LOGIN}.", errno.EACCES, True)
    ours: StorageError = storage_error(
        f"{what}: the store does not answer, or breaks off ({name}). Check the network and AWS_ENDPOINT_URL, then run "
        "the same command again.",
        errno.EHOSTDOWN,
        unavailable=True,
    )
    if name in ("EndpointConnectionError", "ParamValidationError", "InvalidEndpointConfigurationError"):
        raise ours  # boto3 has tried for long enough
    raise Transient(ours) from None
