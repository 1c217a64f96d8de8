"""WebP: the RIFF structure, then Pillow (libwebp, which refuses incomplete or damaged frames)."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import WebPImagePlugin

from pipeline._layout import MAX_PARTS, Layout, corrupt, truncated
from pipeline._pillow import load
from pipeline._tiff_tags import exif_orientation
from pipeline.errors import ImageError

__all__ = ["is_webp", "read"]


def is_webp(data: bytes) -> bool:
    """Whether the first 12 bytes are those of a WebP file."""
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"


def read(data: bytes) -> Layout:
    """The layout of a still WebP file that is as long as its RIFF header says."""
    end = 8 + int.from_bytes(data[4:8], "little")
    if end > len(data):
        raise truncated("WebP shorter than its header says")
    sizes: list[tuple[int, int]] = []
    exif: bytes | None = None
    kinds: list[bytes] = []
    for kind, start, length in _chunks(data, end):
        body = data[start : start + min(length, 16)]
        kinds.append(kind)
        if kind in (b"ANIM", b"ANMF") or (kind == b"VP8X" and body and body[0] & 2):
            raise ImageError("animated", "animated WebP: extract one frame and use that")
        if kind in (b"VP8X", b"VP8 ", b"VP8L"):
            sizes.append(_size(kind, body))
        elif kind == b"EXIF":
            exif = data[start : start + length]
    if kinds.count(b"VP8 ") + kinds.count(b"VP8L") != 1:
        raise corrupt("WebP without exactly one picture")
    if len(set(sizes)) != 1 or kinds[0] not in (b"VP8X", b"VP8 ", b"VP8L"):
        raise corrupt("WebP whose parts contradict one another")
    size, picture = sizes[0], data[:end]
    return Layout(
        format="WEBP",
        width=size[0],
        height=size[1],
        load=lambda: load(WebPImagePlugin.WebPImageFile, picture, size),
        orientation=1 if exif is None else exif_orientation(exif),
        has_exif=exif is not None,
    )


def _chunks(data: bytes, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start of the body, length of the body) of each chunk."""
    position = 12
    for _ in range(MAX_PARTS):
        if position >= end:
            return
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        if position + 8 + length > end:
            raise truncated("WebP chunk incomplete")
        yield data[position : position + 4], position + 8, length
        position += 8 + length + (length & 1)
    raise corrupt(f"WebP with more than {MAX_PARTS} chunks")


def _size(kind: bytes, body: bytes) -> tuple[int, int]:
    def number(start: int, stop: int) -> int:
        return int.from_bytes(body[start:stop], "little")

    if kind == b"VP8X" and len(body) >= 10:
        return number(4, 7) + 1, number(7, 10) + 1
    if kind == b"VP8L" and len(body) >= 5 and body[0] == 0x2F:
        bits = number(1, 5)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 " and len(body) >= 10 and body[3:6] == b"\x9d\x01\x2a":
        return number(6, 8) & 0x3FFF, number(8, 10) & 0x3FFF
    raise corrupt("WebP picture without a proper header")
