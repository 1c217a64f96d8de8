"""Content hashes: what rows say, independent of how a library version writes them into files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from pipeline.manifest import canonical_json
from pipeline.records import SCHEMA

__all__ = ["combine", "raw_sha256", "raw_sha256_in_order", "row_digest"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
_COLUMNS = [name for name in SCHEMA.names if name != "image"]


def row_digest(row: Mapping[str, Any], pixels: Array) -> bytes:
    """sha256 (32 bytes) of a record: every column but `image`, and the canonical pixels instead of their encoding.

    Args:
        row: a record.
        pixels: what its `image` decodes to, uint8 (size, size, 3).
    """
    columns = canonical_json([row[name] for name in _COLUMNS])
    return hashlib.sha256(
        columns + b"\n" + str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()
    ).digest()


def combine(digests: Iterable[bytes]) -> str:
    """One sha256, in hex, of digests in the order given: of a part's rows, then of the parts by split and number."""
    total = hashlib.sha256()
    for digest in digests:
        total.update(digest)
    return total.hexdigest()


def raw_sha256(files: Iterable[tuple[str, str | None]]) -> str:
    """The hash of a raw input: sha256 over its sorted (relative path, sha256 or None if unreadable) pairs."""
    return raw_sha256_in_order(sorted(files, key=lambda item: (item[0], item[1] or "")))


def raw_sha256_in_order(files: Iterable[tuple[str, str | None]]) -> str:
    """`raw_sha256` of files that come sorted, by path and hash (none before any): none of them is held."""
    total = hashlib.sha256()
    for path, digest in files:
        total.update(canonical_json([path, digest]) + b"\n")
    return total.hexdigest()
