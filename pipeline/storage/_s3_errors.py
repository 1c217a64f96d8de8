"""What S3's errors mean to a person, and which of them may pass.

What a server or the client says in its own words is never shown, since it may repeat what was sent: only error codes
and the names of exceptions are.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from pipeline.storage._remote import Transient, fail, storage_error

__all__ = ["LOGIN", "MISSING", "code_of", "raise_answer", "raise_problem", "raise_silence"]

MISSING: Final = ("404", "NoSuchKey", "NotFound")
_DENIED: Final = {
    "403": "permission denied",
    "AccessDenied": "permission denied",
    "AllAccessDisabled": "permission denied",
    "InvalidAccessKeyId": "the access key is not known there",
    "XAdminUserNotFound": "the access key is not known there",
    "SignatureDoesNotMatch": "the secret key is not the right one",
    "ExpiredToken": "the session has expired",
    "InvalidToken": "the session token is not valid",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
}
_PASSING: Final = ("SlowDown", "RequestTimeout", "BadDigest", "InternalError", "ServiceUnavailable")
LOGIN: Final = (
    "Check AWS_PROFILE, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, ~/.aws, or the machine's role; and "
    "AWS_ENDPOINT_URL where the store is not Amazon's"
)


def code_of(error: Any) -> str:
    """The error code of a ClientError."""
    return str(error.response.get("Error", {}).get("Code", ""))


def raise_answer(what: str, error: Any) -> NoReturn:
    """The error that a server's answer means."""
    _raise(what, code_of(error), int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)))


def raise_problem(what: str, problem: Mapping[str, Any]) -> NoReturn:
    """The error that one key's part of a server's answer to many means: it has a code, but no status."""
    _raise(what, str(problem.get("Code", "")), 0)


def _raise(what: str, code: str, status: int) -> NoReturn:
    answered = f"the store answered {code or 'an error'}" + (f" (HTTP {status})" if status else "")
    if code == "NoSuchBucket":
        fail(f"{what}: no such bucket. Check the URI, or make the bucket.", errno.ENOENT)
    if code in MISSING:
        fail(f"{what}: {os.strerror(errno.ENOENT)}.", errno.ENOENT)
    if code in _DENIED:
        login = code not in ("403", "AccessDenied", "AllAccessDisabled")
        fail(f"{what}: {_DENIED[code]} ({code}). {LOGIN}.", errno.EACCES, login)
    if code in ("412", "PreconditionFailed"):
        fail(f"{what}: it was replaced while it was read. Run again when nobody writes there.", errno.ESTALE)
    ours = storage_error(
        f"{what}: {answered}, again and again. Run the same command again when it is well.",
        errno.EIO,
        unavailable=True,
    )
    if status >= 500 or status in (408, 409, 429) or code in _PASSING:
        raise Transient(ours) from None
    fail(f"{what}: {answered}.", errno.EIO)


def raise_silence(what: str, error: Exception) -> NoReturn:
    """The error that the want of an answer, or of credentials, means."""
    name = type(error).__name__
    if "Credential" in name or "Profile" in name or "Token" in name or "Region" in name or "SSO" in name:
        fail(f"{what}: no usable credentials ({name}). {LOGIN}.", errno.EACCES, True)
    ours = storage_error(
        f"{what}: the store does not answer, or breaks off ({name}). Check the network and AWS_ENDPOINT_URL, then run "
        "the same command again.",
        errno.EHOSTDOWN,
        unavailable=True,
    )
    if name in ("EndpointConnectionError", "ParamValidationError", "InvalidEndpointConfigurationError"):
        raise ours  # boto3 has tried for long enough
    raise Transient(ours) from None
