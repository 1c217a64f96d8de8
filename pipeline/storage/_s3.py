"""S3, through boto3. Endpoint, region and credentials are found as all AWS tools find them; none is set here.

boto3 repeats what fails before an answer begins; an answer that breaks off, or is shorter than it should be, is asked
for again here. What a server says in its own words is never shown: only its error code is.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from typing import Any, BinaryIO, Final, TypeVar

from pipeline.errors import SetupError
from pipeline.storage._objects import MARK, Piece
from pipeline.storage._remote import Transient, fail, patiently, storage_error
from pipeline.storage._s3_errors import LOGIN, MISSING, code_of, raise_answer, raise_problem, raise_silence

__all__ = ["S3Store"]

T = TypeVar("T")

CONNECT_SECONDS: float = 10
READ_SECONDS: float = 60
PART_BYTES: int = 16 << 20
_MOST_PARTS: Final = 10_000  # of one upload, that S3 takes
_UPLOADERS: Final = 4  # threads that send the parts of one file, each with one in memory

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
        options["retries"] = {"mode": "standard", "total_max_attempts": 3}
    if os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL"):
        options["s3"] = {"addressing_style": "path"}  # other servers than Amazon's seldom know bucket.host names
    try:
        return boto3.session.Session().client("s3", config=Config(max_pool_connections=32, **options))
    except (BotoCoreError, ValueError) as error:
        fail(f"S3 is not set up here ({type(error).__name__}). {LOGIN}.", errno.EINVAL, unavailable=True)


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
                raise_answer(f"{where}: cannot {what}", error)
            except BotoCoreError as error:
                raise_silence(f"{where}: cannot {what}", error)

        return patiently(attempt)

    def size(self, key: str, where: str) -> int | None:
        """By HEAD."""

        def look(client: Any) -> int | None:
            from botocore.exceptions import ClientError

            try:
                return int(client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
            except ClientError as error:
                if code_of(error) in MISSING:
                    return None
                raise

        return self._call("look at it", where, look)

    def get(self, key: str, start: int, stop: int | None, version: Any, where: str) -> Piece:
        """By GET with a range; the ETag holds the version fast."""
        options: dict[str, Any] = {"IfMatch": version} if version else {}
        # Also where all is wanted: the answer to a range says how long the whole is.
        options["Range"] = f"bytes={start}-{'' if stop is None else stop - 1}"

        def fetch(client: Any) -> Piece:
            from botocore.exceptions import ClientError

            try:
                answer = client.get_object(Bucket=self._bucket, Key=key, **options)
            except ClientError as error:
                if code_of(error) in ("416", "InvalidRange") and start == 0:
                    return Piece(b"", 0, None)  # an empty object has no range at all
                raise
            with closing(answer["Body"]) as body:  # itself, as a context, it would hand out a stream that checks less
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
        self._send(key, source, uuid.uuid4().hex, {}, where)

    def create(self, key: str, source: BinaryIO, mark: str, where: str) -> bool:
        """With `If-None-Match: *`, which the store decides in one step."""
        return self._send(key, source, mark, {"IfNoneMatch": "*"}, where)

    def _send(self, key: str, source: BinaryIO, mark: str, condition: dict[str, str], where: str) -> bool:
        size = os.fstat(source.fileno()).st_size
        if size > PART_BYTES:
            return self._send_parts(key, source, size, mark, condition, where)

        def put(client: Any) -> None:
            source.seek(0)
            client.put_object(Bucket=self._bucket, Key=key, Body=source, Metadata={MARK: mark}, **condition)

        return self._call("write", where, lambda client: self._settled(client, key, mark, lambda: put(client)))

    def _send_parts(
        self, key: str, source: BinaryIO, size: int, mark: str, condition: dict[str, str], where: str
    ) -> bool:
        target: dict[str, Any] = {"Bucket": self._bucket, "Key": key}
        begin = self._call(
            "write", where, lambda client: client.create_multipart_upload(**target, Metadata={MARK: mark})
        )
        target["UploadId"] = begin["UploadId"]
        step = max(PART_BYTES, -(-size // _MOST_PARTS))

        def part(number: int) -> dict[str, Any]:
            data = os.pread(source.fileno(), step, (number - 1) * step)
            answer = self._call(
                "write", where, lambda client: client.upload_part(**target, PartNumber=number, Body=data)
            )
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(_UPLOADERS) as pool:
                parts = {"Parts": list(pool.map(part, range(1, -(-size // step) + 1)))}

            def complete(client: Any) -> None:
                client.complete_multipart_upload(**target, MultipartUpload=parts, **condition)

            won = self._call("write", where, lambda client: self._settled(client, key, mark, lambda: complete(client)))
        except BaseException:
            self._abort(target)
            raise
        if not won:
            self._abort(target)
        return won

    def _settled(self, client: Any, key: str, mark: str, store: Callable[[], None]) -> bool:
        """Whether it is our upload that has the name now; an earlier attempt of ours may have, its answer lost."""
        from botocore.exceptions import ClientError

        try:
            store()
        except ClientError as error:
            if code_of(error) not in ("412", "PreconditionFailed", "NoSuchUpload"):
                raise
            ours = self._mark(client, key) == mark
            if not ours and code_of(error) == "NoSuchUpload":
                raise
            return ours
        return True

    def _mark(self, client: Any, key: str) -> str | None:
        found: str | None = client.head_object(Bucket=self._bucket, Key=key)["Metadata"].get(MARK)
        return found

    def _abort(self, target: dict[str, Any]) -> None:
        """Give the parts back; where that fails too, the bucket's own rule does it some day."""
        with suppress(Exception):
            _client().abort_multipart_upload(**target)

    def delete(self, keys: Sequence[str], where: str) -> None:
        """By DeleteObjects."""
        wanted = {"Objects": [{"Key": key} for key in keys], "Quiet": True}

        def remove(client: Any) -> None:
            answer = client.delete_objects(Bucket=self._bucket, Delete=wanted)
            for problem in answer.get("Errors", []):
                if problem.get("Code") not in MISSING:
                    raise_problem(f"{where}: cannot remove", problem)

        self._call("remove", where, remove)


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
