"""PNG: every chunk walked and its checksum compared; Pillow then gets the picture's own chunks and no others.

Pillow leaves rows black that a well-formed but too short stream does not reach, so a picture with a black end is
unpacked once more, to count. Leaving out the text, profile and EXIF chunks means that a compressed bomb in one of
them is never unpacked.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image, PngImagePlugin

from pipeline._layout import MAX_PARTS, Layout, corrupt, truncated, unsupported_pixels
from pipeline._pillow import load
from pipeline._tiff_tags import exif_orientation
from pipeline.errors import ImageError

__all__ = ["MAGIC", "read"]

MAGIC = b"\x89PNG\r\n\x1a\n"

_PICTURE_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}  # by colour type
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_BLOCK = 2**20


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    bits: int  # a pixel
    interlaced: bool

    def unpacked_bytes(self) -> int:
        """Bytes of all rows, each with the byte that names its filter."""
        total = 0
        for left, top, right, down in _ADAM7 if self.interlaced else ((0, 0, 1, 1),):
            columns, rows = -((left - self.width) // right), -((top - self.height) // down)
            if columns > 0 and rows > 0:
                total += rows * (1 + (columns * self.bits + 7) // 8)
        return total


def read(data: bytes) -> Layout:
    """The layout of a PNG file that is whole up to its IEND chunk, every checksum right."""
    kept: list[bytes] = []
    kinds: list[bytes] = []
    exif: bytes | None = None
    for kind, start, end in _chunks(data):
        body = data[start + 8 : end - 4] if kind in (b"eXIf", b"acTL") else b""
        if kind == b"acTL" and int.from_bytes(body[:4], "big") > 1:
            raise ImageError("animated", "animated PNG: extract one frame and use that")
        if kind == b"eXIf":
            exif = body
        if kind in _PICTURE_CHUNKS:
            kept.append(data[start:end])
            kinds.append(kind)
        elif not kind[0] & 0x20:
            raise ImageError(
                "unsupported_format", f"PNG with the unknown critical chunk {kind!r}: export it again as PNG"
            )
    header = _check(kept, kinds)
    packed = [chunk[8:-4] for chunk, kind in zip(kept, kinds, strict=True) if kind == b"IDAT"]
    picture, size = MAGIC + b"".join(kept), (header.width, header.height)
    return Layout(
        format="PNG",
        width=header.width,
        height=header.height,
        load=lambda: load(PngImagePlugin.PngImageFile, picture, size, lambda image: _check_rows(image, header, packed)),
        orientation=1 if exif is None else exif_orientation(exif),
        has_exif=exif is not None,
    )


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start, end) of each chunk up to IEND; what follows IEND is not looked at."""
    position, view = len(MAGIC), memoryview(data)
    for _ in range(MAX_PARTS):
        if position + 12 > len(data):
            raise truncated("PNG without its IEND chunk")
        kind = data[position + 4 : position + 8]
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if not (kind.isalpha() and kind.isascii()):
            raise corrupt(f"PNG: no chunk at byte {position}")
        if end > len(data):
            raise truncated(f"PNG chunk {kind.decode()} incomplete")
        if zlib.crc32(view[position + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            raise corrupt(f"PNG chunk {kind.decode()} with a wrong checksum")
        yield kind, position, end
        if kind == b"IEND":
            return
        position = end
    raise corrupt(f"PNG with more than {MAX_PARTS} chunks")


def _check(kept: list[bytes], kinds: list[bytes]) -> _Header:
    """The header; `ImageError` unless the chunks are those of one picture."""
    if kinds[0] != b"IHDR" or kinds.count(b"IHDR") != 1 or len(kept[0]) != 25:
        raise corrupt("PNG without a proper header")
    data_chunks = kinds.count(b"IDAT")
    if data_chunks == 0:
        raise corrupt("PNG without picture data")
    first = kinds.index(b"IDAT")
    if kinds[first:] != [b"IDAT"] * data_chunks + [b"IEND"] or kinds.count(b"PLTE") > 1 or kinds.count(b"tRNS") > 1:
        raise corrupt("PNG with its chunks in a wrong order")
    width, height, depth, colour, compression, filters, interlace = struct.unpack(">IIBBBBB", kept[0][8:21])
    if not width or not height or depth not in _DEPTHS.get(colour, ()) or compression or filters or interlace > 1:
        raise corrupt("PNG header with impossible values")
    if colour == 3 and b"PLTE" not in kinds:
        raise corrupt("PNG without its palette")
    if b"tRNS" in kinds and colour in (0, 2) and depth != 8:
        raise unsupported_pixels(f"PNG with one transparent colour of {depth} bits")  # Pillow compares at 8 bits
    return _Header(width, height, depth * _SAMPLES[colour], bool(interlace))


def _check_rows(image: Image.Image, header: _Header, packed: list[bytes]) -> None:
    """All rows must have come out of the stream. Rows that did not are zero, and the last comes last."""
    if not header.interlaced and np.asarray(image)[-1].any():
        return
    missing = header.unpacked_bytes()
    stream = zlib.decompressobj()
    for block in packed:
        while block and missing > 0:
            missing -= len(stream.decompress(block, _BLOCK))
            block = stream.unconsumed_tail
    if missing > 0 and missing > len(stream.flush()):
        raise truncated("PNG picture data without all rows")
