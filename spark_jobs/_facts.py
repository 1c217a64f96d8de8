"""What was found out about the files, as it travels to the driver and lies there: columns of bytes, not objects.

Nothing here may look at a file or decide what becomes of one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.content import raw_sha256_in_order
from pipeline.perceptual import SIGNATURE_BYTES
from pipeline.references import References

__all__ = ["Fact", "Facts", "Look", "pack", "raw_hash"]

_READ: Final = 1  # it has a sha256
_USABLE: Final = 2  # and pixels
_MARKED: Final = 4  # and a signature
_SHA, _PIXELS = 32, 16  # bytes


class Fact(NamedTuple):
    """What was found out about one file.

    Attributes:
        number: the reference's position in the listing.
        sha256: of the file's bytes, or None if it could not be read.
        pixels: 16 bytes of the sha256 of its upright RGB pixels and their shape, or None.
        mark: its perceptual signature, or None.
        reason, detail: why it cannot be used, or None.
    """

    number: int
    sha256: str | None
    pixels: bytes | None = None
    mark: bytes | None = None
    reason: str | None = None
    detail: str | None = None


class Look(NamedTuple):
    """The facts of a task, whose files follow one another in the listing: a column each, beginning with `first`."""

    first: int
    state: bytes
    sha256: bytes
    pixels: bytes
    marks: bytes
    why: dict[int, tuple[str, str]]


def pack(facts: Iterable[Fact]) -> Look:
    """Facts, in the order of their numbers and without a gap, as columns."""
    first, state, why = -1, bytearray(), dict[int, tuple[str, str]]()
    sha256, pixels, marks = bytearray(), bytearray(), bytearray()
    for fact in facts:
        first = fact.number if first < 0 else first
        usable = fact.sha256 is not None and fact.pixels is not None and fact.reason is None
        state.append(
            (fact.sha256 is not None) * _READ + usable * _USABLE + (usable and fact.mark is not None) * _MARKED
        )
        sha256 += bytes.fromhex(fact.sha256) if fact.sha256 is not None else bytes(_SHA)
        pixels += fact.pixels or bytes(_PIXELS)
        marks += fact.mark or bytes(SIGNATURE_BYTES)
        if not usable:
            why[fact.number] = (fact.reason or "unreadable", fact.detail or "")
    return Look(first, bytes(state), bytes(sha256), bytes(pixels), bytes(marks), why)


class Facts:
    """The facts about all files, by their position in the listing: 84 bytes a file, and what is said of bad ones.

    Attributes:
        sha256: of the bytes, uint8 (N, 32); zeros where there is none.
        pixels: of the pixels, uint8 (N, 16).
        marks: signatures, uint8 (N, `SIGNATURE_BYTES`).
        why: (reason, detail) of every file that cannot be used.
    """

    def __init__(self, count: int) -> None:
        """Nothing found out yet about so many files."""
        self._state = np.zeros(count, np.uint8)
        self.sha256 = np.zeros((count, _SHA), np.uint8)
        self.pixels = np.zeros((count, _PIXELS), np.uint8)
        self.marks = np.zeros((count, SIGNATURE_BYTES), np.uint8)
        self.why: dict[int, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._state)

    def add(self, look: Look) -> None:
        """Put in what a task found out."""
        place = slice(look.first, look.first + len(look.state))
        for column, found in (
            (self._state, look.state),
            (self.sha256, look.sha256),
            (self.pixels, look.pixels),
            (self.marks, look.marks),
        ):
            column[place] = np.frombuffer(found, np.uint8).reshape(column[place].shape)
        self.why |= look.why

    def add_hash(self, index: int, sha256: str | None) -> None:
        """Put in the hash of one file, or that it could not be read."""
        if sha256 is not None:
            self._state[index] |= _READ
            self.sha256[index] = np.frombuffer(bytes.fromhex(sha256), np.uint8)

    def drop_marks(self) -> None:
        """Forget the signatures: once near-duplicates are linked, nobody needs them."""
        self.marks = np.zeros((0, SIGNATURE_BYTES), np.uint8)

    @property
    def usable(self) -> NDArray[np.bool_]:
        """Which files can be used, bool (N,)."""
        found: NDArray[np.bool_] = self._state & _USABLE > 0
        return found

    @property
    def marked(self) -> NDArray[np.bool_]:
        """Which files have a signature, bool (N,)."""
        found: NDArray[np.bool_] = self._state & _MARKED > 0
        return found

    def sha_of(self, index: int) -> str | None:
        """The sha256 of one, in hex, or None if it could not be read."""
        return self.sha256[index].tobytes().hex() if self._state[index] & _READ else None


def raw_hash(references: References, facts: Facts) -> str:
    """The hash of the raw input (`pipeline.content.raw_sha256`)."""
    named = references.shown_in_order(np.arange(len(references)), lambda index: facts.sha_of(index) or "")
    return raw_sha256_in_order((shown, facts.sha_of(index)) for shown, index in named)
