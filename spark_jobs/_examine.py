"""The first look at every file: its hash, its pixels' hash, its perceptual signature, or why it cannot be used.

Only these few bytes leave a task, never a picture. Nothing here may decide which files become rows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO, Final

import numpy as np

from pipeline.canonical import Canonical
from pipeline.cli import progress
from pipeline.decode import decode
from pipeline.errors import ImageError, StorageError, UnavailableError
from pipeline.layouts import Listing, Reference
from pipeline.perceptual import signature
from pipeline.references import BAD_NAME
from pipeline.storage import Folder
from spark_jobs._facts import Fact, Facts, Look, pack

__all__ = ["examine", "examine_lines", "fingerprint", "fingerprints", "look", "work_line"]

_CHUNK: Final = 1 << 20
_BATCH: Final = 10_000
_WHY: Final = {
    errno.EACCES: "permission denied: check owner and mode",
    errno.EPERM: "permission denied: check owner and mode",
    errno.ELOOP: "a loop of symbolic links: remove the link",
    errno.ENOENT: "no such file, or a broken link: fetch the file again, or leave it out",
}


class UnreadableError(Exception):
    """A file that cannot be read; the text names no folder, so that results do not depend on where they were made."""


def work_line(index: int, reference: Reference) -> str:
    """The line of the work list that stands for a file: JSON, so that any name survives."""
    return json.dumps([index, reference.path, reference.problem])


def look(lines: Iterable[str], root: Folder, canonical: Canonical) -> Iterator[Look]:
    """A task: what `examine_lines` finds, as one small thing."""
    found = pack(examine_lines(lines, root, canonical))
    if found.state:
        yield found


def examine_lines(lines: Iterable[str], root: Folder, canonical: Canonical) -> Iterator[Fact]:
    """Look at the files of a work list, one after the other."""
    for line in lines:
        index, path, problem = json.loads(line)
        yield examine(root, path, index, canonical, tuple(problem) if problem else None)


def examine(root: Folder, path: str, index: int, canonical: Canonical, problem: tuple[str, str] | None = None) -> Fact:
    """Look at one file.

    Args:
        root, path: where it is.
        index: its position in the listing.
        canonical: its limits decide what is refused.
        problem: (reason, detail) if it cannot become a row whatever is in it.
    """
    if problem and problem[0] == BAD_NAME:
        return Fact(index, None, reason=problem[0], detail=problem[1])  # nobody can ask for it by this name again
    try:
        sha256, data, size = _read(root, path, canonical.limits.max_bytes)
    except UnreadableError as error:
        return Fact(index, None, reason="unreadable", detail=str(error))
    if problem:
        return Fact(index, sha256, reason=problem[0], detail=problem[1])
    try:
        if data is None:
            limit = canonical.limits.max_bytes
            raise ImageError("too_many_bytes", f"{size} bytes, over the limit of {limit}: save it smaller")
        pixels, _ = decode(data, canonical.limits)
    except ImageError as error:
        return Fact(index, sha256, reason=error.reason, detail=str(error))
    digest = hashlib.sha256(f"{pixels.shape}".encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return Fact(index, sha256, digest.digest()[:16], signature(pixels))


def fingerprint(root: Folder, reference: Reference) -> str | None:
    """The sha256 of a file as the hash of the raw input has it, or None: exactly what `examine` finds."""
    if reference.problem and reference.problem[0] == BAD_NAME:
        return None
    try:
        return _read(root, reference.path, 0)[0]
    except UnreadableError:
        return None


def fingerprints(listing: Listing) -> Facts:
    """The hashes of a whole input, and nothing else about it, by as many threads as there are cores."""
    facts = Facts(len(listing.references))
    found = progress(_hashes(listing), "hashing the input", total=len(facts), unit="file")
    for index, sha256 in enumerate(found):
        facts.add_hash(index, sha256)
    return facts


def _hashes(listing: Listing) -> Iterator[str | None]:
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(listing.references), _BATCH):  # a future a file, but not for all files at once
            yield from pool.map(partial(fingerprint, listing.root), listing.references.part(first, first + _BATCH))


def _read(root: Folder, path: str, limit: int) -> tuple[str, bytes | None, int]:
    """(sha256, all bytes or None if more than `limit`, size), with no more than `limit` bytes held.

    Raises:
        UnreadableError: no permission, vanished, a loop, not a regular file.
        UnavailableError: the storage does not answer; that is no fault of the file.
    """
    try:
        if not root.remote and not root.is_file(path) and os.path.exists(root.locate(path)):
            raise UnreadableError("not a regular file: leave it out")
        with root.open(path) as stream:
            return _drain(stream, limit)
    except UnavailableError:
        raise
    except StorageError as error:
        cause = error.__cause__
        raise UnreadableError(_why(cause if isinstance(cause, OSError) else OSError())) from error
    except OSError as error:
        raise UnreadableError(_why(error)) from error


def _drain(stream: BinaryIO, limit: int) -> tuple[str, bytes | None, int]:
    digest, size, kept = hashlib.sha256(), 0, bytearray()
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
        size += len(chunk)
        if size <= limit:
            kept += chunk
        else:
            kept.clear()
    return digest.hexdigest(), bytes(kept) if size <= limit else None, size


def _why(error: OSError) -> str:
    code = error.errno or 0
    return _WHY.get(code, f"{errno.errorcode.get(code, 'error')}: cannot be read: check the disk")
