"""Reading data URIs: which kind of storage one names, and where there.

Only `file:` URIs are percent-decoded. Every other name is taken to the letter, as HDFS, S3 and their own tools do. A
URI never carries credentials: one that seems to is refused, and nothing of it is repeated. This file must not reach for
any storage.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from pipeline.errors import UsageError

__all__ = ["Place", "is_remote", "join", "local_path", "parse"]

SCHEMES: Final = {"hdfs": "hdfs", "s3": "s3", "s3a": "s3", "gs": "gs"}
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]")
_HOST: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?|")


@dataclass(frozen=True)
class Place:
    """A place on remote storage.

    Attributes:
        scheme: hdfs, s3 or gs.
        authority: the NameNode or nameservice (empty: the default one), or the bucket.
        path: what follows, without a slash at either end.
    """

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}/{self.path}" if self.path else f"{self.scheme}://{self.authority}/"


def _scheme(uri: str) -> str | None:
    """The scheme, in lower case, or None for a plain path."""
    scheme, found, rest = uri.partition(":")
    if not found or len(scheme) < 2 or not scheme.isalnum() or not rest.startswith("/") or os.path.lexists(uri):
        return None
    return scheme.lower()


def is_remote(uri: str) -> bool:
    """Whether a URI names something that is not on a local file system.

    Raises:
        UsageError: as `parse`.
    """
    return isinstance(parse(uri), Place)


def parse(uri: str) -> Path | Place:
    """What a plain path, a `file:` URI or a URI of remote storage names.

    Raises:
        UsageError: another scheme, no bucket, a host where none may be, or what looks like credentials.
    """
    scheme = _scheme(uri)
    if scheme is None:
        return Path(uri)
    if scheme == "file":
        return _file(uri)
    if scheme not in SCHEMES:
        raise UsageError(
            f"storage scheme '{scheme}' is not supported; use a local path or a file:, hdfs:, s3: or gs: URI."
        )
    authority, path = _authority(uri.partition(":")[2])
    kind = SCHEMES[scheme]
    if not (_HOST if kind == "hdfs" else _BUCKET).fullmatch(authority):
        raise UsageError(_refusal(scheme, kind))
    return Place(kind, authority, path.strip("/"))


def _authority(rest: str) -> tuple[str, str]:
    if not rest.startswith("//"):
        return "", rest
    authority, _, path = rest[2:].partition("/")
    return authority, path


def _refusal(scheme: str, kind: str) -> str:
    """Nothing of the URI is repeated here: what does not fit may hold a secret."""
    if kind == "hdfs":
        return (
            f"a {scheme}: URI (not repeated here) names no valid NameNode: write hdfs://host:port/path, "
            "hdfs://nameservice/path or hdfs:///path. User names and passwords have no place in it; Kerberos tickets "
            "and HADOOP_USER_NAME say who you are."
        )
    return (
        f"a {scheme}: URI (not repeated here) names no valid bucket: write {scheme}://bucket/path. Keys and passwords "
        "have no place in it; they come from the environment or from the platform's own files."
    )


def _file(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.netloc not in ("", "localhost"):
        raise UsageError("a file: URI must not name a host; write file:///path.")
    path = uri[len("file:") :]
    path = "/" + path.lstrip("/") if not parts.netloc else path[len("//localhost") :]
    return Path(unquote(path))


def local_path(uri: str) -> Path:
    """The local path that a plain path or a `file:` URI names.

    Raises:
        UsageError: the URI names another storage.
    """
    place = parse(uri)
    if isinstance(place, Place):
        raise UsageError(f"{uri}: must be on this machine, not on {place.scheme}: give a local path.")
    return place


def join(place: Place, path: str) -> Place:
    """The place at a relative path."""
    return Place(place.scheme, place.authority, f"{place.path}/{path}".strip("/") if path else place.path)
