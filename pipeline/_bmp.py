"""BMP: the header and the extent of the rows, then Pillow.

Run-length coded files are refused: Pillow fills what such a file leaves out with the first colour and says
nothing.
"""

from __future__ import annotations

import struct

from PIL import BmpImagePlugin

from pipeline._layout import Layout, corrupt, truncated
from pipeline._pillow import load
from pipeline.errors import ImageError

__all__ = ["is_bmp", "read"]

_HEADERS = (12, 40, 52, 56, 64, 108, 124)
_RAW, _BITFIELDS = 0, 3


def is_bmp(data: bytes) -> bool:
    """Whether the file starts as a BMP does; "BM" alone also starts texts."""
    return data[:2] == b"BM" and len(data) >= 18 and int.from_bytes(data[14:18], "little") in _HEADERS


def read(data: bytes) -> Layout:
    """The layout of an uncompressed BMP file whose rows are all there."""
    size, offset, header = struct.unpack_from("<I4xII", data, 2)
    if max(size, offset, 14 + header, 26) > len(data):
        raise truncated("BMP shorter than its header says")
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, colours, entry = _RAW, 0, 3
    else:
        width, height, _, bits, compression, colours = struct.unpack_from("<iiHHI12xI", data, 18)
        height, entry = abs(height), 4
    if compression not in (_RAW, _BITFIELDS):
        raise ImageError("unsupported_format", "compressed BMP: export it as PNG or as uncompressed BMP")
    if width <= 0 or height == 0 or bits not in (1, 4, 8, 16, 24, 32) or (bits <= 8 and colours > 256):
        raise corrupt("BMP header with impossible values")
    table = entry * (colours or 1 << bits) if bits <= 8 else 0
    if offset < 14 + header + table:
        raise corrupt("BMP whose rows overlap its header")
    if offset + (width * bits + 31) // 32 * 4 * height > len(data):
        raise truncated("BMP without all its rows")
    return Layout("BMP", width, height, lambda: load(BmpImagePlugin.BmpImageFile, data, (width, height)))
