"""TIFF directories: the tag structure that TIFF files and EXIF blocks share, and nothing about pixels."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pipeline._layout import corrupt, truncated
from pipeline.errors import ImageError

__all__ = ["Directory", "Tag", "byte_order", "exif_orientation", "read_directory"]

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I"}
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Tag:
    """One directory entry: `entry` is its 12 bytes as they stand in the file, `start` its value's place."""

    kind: int
    count: int
    start: int
    entry: bytes

    @property
    def size(self) -> int:
        """Bytes of the value; 0 for a type this module does not know, whose size nobody can tell."""
        return _TYPE_BYTES.get(self.kind, 0) * self.count


@dataclass(frozen=True)
class Directory:
    """The tags of one directory by number, and where the next directory stands (0: there is none)."""

    data: bytes
    order: str
    tags: dict[int, Tag]
    following: int

    def integers(self, number: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """The unsigned integers under a tag, or the default where the tag is absent."""
        tag = self.tags.get(number)
        if tag is None:
            return default
        if tag.kind not in _INTEGERS:
            raise corrupt(f"TIFF tag {number} is not an unsigned integer")
        if tag.start + tag.size > len(self.data):
            raise truncated(f"TIFF tag {number} points behind the end")
        return struct.unpack_from(f"{self.order}{tag.count}{_INTEGERS[tag.kind]}", self.data, tag.start)

    def integer(self, number: int, default: int) -> int:
        """The single unsigned integer under a tag, or the default where the tag is absent."""
        values = self.integers(number, (default,))
        if len(values) != 1:
            raise corrupt(f"TIFF tag {number} has {len(values)} values instead of one")
        return values[0]


def byte_order(data: bytes) -> str:
    """`struct`'s sign for the byte order of a TIFF structure, "<" or ">"."""
    return {b"II*\0": "<", b"MM\0*": ">"}[data[:4]]


def read_directory(data: bytes, order: str, position: int) -> Directory:
    """The directory at `position`; `ImageError` when it does not lie inside `data`."""
    if position < 8 or position + 2 > len(data):
        raise truncated("TIFF directory behind the end")
    (count,) = struct.unpack_from(f"{order}H", data, position)
    end = position + 2 + 12 * count
    if end + 4 > len(data):
        raise truncated("TIFF directory behind the end")
    tags: dict[int, Tag] = {}
    for start in range(position + 2, end, 12):
        number, kind, values, offset = struct.unpack_from(f"{order}HHII", data, start)
        if number in tags:
            raise corrupt(f"TIFF tag {number} stands twice")
        inline = _TYPE_BYTES.get(kind, 0) * values <= 4
        tags[number] = Tag(kind, values, start + 8 if inline else offset, data[start : start + 12])
    (following,) = struct.unpack_from(f"{order}I", data, end)
    return Directory(data, order, tags, following)


def exif_orientation(block: bytes) -> int:
    """The orientation, 1 to 8, in an EXIF block; 1 (upright) where the block is unreadable or does not say.

    A damaged EXIF block does not make a picture worthless, and cameras write many kinds of damage, so it is
    ignored.
    """
    if block.startswith(b"Exif\0\0"):
        block = block[6:]
    try:
        order = byte_order(block)
        (position,) = struct.unpack_from(f"{order}I", block, 4)
        (count,) = struct.unpack_from(f"{order}H", block, position)
        for start in range(position + 2, position + 2 + 12 * count, 12):
            number, kind, values, value = struct.unpack_from(f"{order}HHIH", block, start)
            if number == _ORIENTATION and kind == 3 and values == 1:
                return value if 1 <= value <= 8 else 1
    except (KeyError, struct.error, ImageError):
        pass
    return 1
