"""JPEG: the headers up to the first scan, the completeness of the scans, and the pixels by simplejpeg.

simplejpeg (libjpeg-turbo with its strict error handler) raises on whatever libjpeg merely warns of: a missing
end marker, a scan that ends early, an unknown Huffman code. This module adds what it does not look at: EXIF,
the quantisation tables, CMYK, and a progressive file whose later scans are missing altogether.

libjpeg-turbo's accurate integer transform and its "fancy" upsampling, which are the ones used here, give the
same bits with and without SIMD and on every CPU (its README, "Mathematical Compatibility"; checked by a
test).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

import numpy as np
import simplejpeg

from pipeline._layout import MAX_PARTS, Layout, Pixels, Tables, corrupt, truncated, unsupported_pixels
from pipeline._tiff_tags import exif_orientation
from pipeline.errors import ImageError

__all__ = ["MAGIC", "cmyk_to_rgb", "decode_rgb", "read"]

MAGIC = b"\xff\xd8\xff"

_SEQUENTIAL = (0xC0, 0xC1, 0xC9)
_PROGRESSIVE = (0xC2, 0xCA)
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF)
_MARKER_IN_SCAN = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")
_MAX_SCANS = 300  # more make a small file cost minutes; real ones have at most about a dozen


@dataclass
class _Header:
    frame: int = 0
    width: int = 0
    height: int = 0
    components: tuple[int, ...] = ()
    tables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    exif: bytes | None = None


def read(data: bytes) -> Layout:
    """The layout of a JPEG or MPO file (of which only the first picture counts)."""
    header, scan = _read_header(data)
    if header.frame in _PROGRESSIVE or data[scan + 4] != len(header.components):
        _check_scans(data, scan, header)
    tables: Tables = tuple(header.tables[number] for number in sorted(header.tables))
    return Layout(
        format="JPEG",
        width=header.width,
        height=header.height,
        load=lambda: _load(data, header),
        orientation=1 if header.exif is None else exif_orientation(header.exif),
        has_exif=header.exif is not None,
        quantization=tables,
    )


def decode_rgb(data: bytes) -> Pixels:
    """uint8 RGB (height, width, 3) of a grey or three-component JPEG; `ImageError` if anything is wrong."""
    try:
        pixels: Pixels = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError as error:
        raise _decoder_error(error) from None
    return pixels


def cmyk_to_rgb(inks: Pixels) -> Pixels:
    """uint8 CMYK (height, width, 4), 255 = full ink, to RGB: (255 - ink)(255 - black) / 255, rounded."""
    light = 255 - inks.astype(np.uint16)
    product = light[..., :3] * light[..., 3:] + 127
    return (product // 255).astype(np.uint8)


def _load(data: bytes, header: _Header) -> Pixels:
    if len(header.components) != 4:
        return decode_rgb(data)
    try:
        inks: Pixels = simplejpeg.decode_jpeg(data, "CMYK", strict=True)
    except ValueError as error:
        raise _decoder_error(error) from None
    return cmyk_to_rgb(255 - inks)  # JPEGs hold light instead of ink, as Adobe began it; Pillow and browsers agree


def _decoder_error(error: ValueError) -> ImageError:
    text = str(error)
    if "premature end" in text.lower():
        return truncated(f"JPEG picture data incomplete ({text})")
    return corrupt(f"JPEG picture data not decodable ({text})")


def _read_header(data: bytes) -> tuple[_Header, int]:
    """The header, and where the first scan's marker stands."""
    header = _Header()
    position = 2
    for _ in range(MAX_PARTS):
        marker, position = _next_marker(data, position)
        if marker == 0xDA:
            _check_frame(header)
            _segment(data, position)
            return header, position - 2
        if marker == 0xD9:
            raise truncated("JPEG without picture data")
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers that stand alone have no length
            continue
        body = _segment(data, position)
        position += 2 + len(body)
        _read_segment(header, marker, body)
    raise corrupt(f"JPEG with more than {MAX_PARTS} segments")


def _next_marker(data: bytes, position: int) -> tuple[int, int]:
    """The marker at `position`, and the position after it."""
    size = len(data)
    if position < size and data[position] != 0xFF:
        raise corrupt(f"JPEG: no marker at byte {position}")
    while position < size and data[position] == 0xFF:  # any number of fill bytes may stand before a marker
        position += 1
    if position >= size:
        raise truncated("JPEG ends among its headers")
    return data[position], position + 1


def _segment(data: bytes, position: int) -> bytes:
    if position + 2 > len(data):
        raise truncated("JPEG ends among its headers")
    length = (data[position] << 8) | data[position + 1]
    if length < 2:
        raise corrupt(f"JPEG segment of impossible length at byte {position}")
    if position + length > len(data):
        raise truncated("JPEG ends among its headers")
    return data[position + 2 : position + length]


def _read_segment(header: _Header, marker: int, body: bytes) -> None:
    if marker == 0xDB:
        _read_tables(header, body)
    elif marker in _SEQUENTIAL or marker in _PROGRESSIVE:
        if header.frame:
            raise corrupt("JPEG with two frame headers")
        if len(body) < 6 or len(body) != 6 + 3 * body[5]:
            raise corrupt("JPEG frame header of the wrong length")
        precision, header.height, header.width, _ = struct.unpack(">BHHB", body[:6])
        header.frame, header.components = marker, tuple(body[6::3])
        if precision != 8:
            raise unsupported_pixels(f"JPEG with {precision} bits a sample")
    elif marker in _OTHER_FRAMES:
        raise unsupported_pixels("lossless or hierarchical JPEG")
    elif marker == 0xE1 and header.exif is None and body.startswith(b"Exif\0\0"):
        header.exif = body[6:]


def _read_tables(header: _Header, body: bytes) -> None:
    position = 0
    while position < len(body):
        wide, number = body[position] >> 4, body[position] & 15
        size = 128 if wide else 64
        values = body[position + 1 : position + 1 + size]
        if len(values) != size or wide > 1 or number > 3:
            raise corrupt("JPEG quantisation table of the wrong form")
        header.tables[number] = struct.unpack(">64H", values) if wide else tuple(values)
        position += 1 + size


def _check_frame(header: _Header) -> None:
    if not header.frame:
        raise corrupt("JPEG without a frame header")
    if header.width == 0 or header.height == 0:
        raise unsupported_pixels("JPEG that does not state its size")
    if len(header.components) not in (1, 3, 4) or len(set(header.components)) != len(header.components):
        raise unsupported_pixels(f"JPEG with components {list(header.components)}")


def _check_scans(data: bytes, position: int, header: _Header) -> None:
    """Refuse a file in which some coefficients of some component never come, or not down to their last bit.

    libjpeg shows such a file as a blurred or grey picture and warns of nothing, as long as an end marker
    follows.
    """
    missing = {component: [True] * 64 for component in header.components}
    for _ in range(_MAX_SCANS):
        marker, position = _next_marker(data, position)
        if marker == 0xD9:
            break
        body = _segment(data, position)
        position += 2 + len(body)
        if marker == 0xDA:
            _count_scan(body, header, missing)
            found = _MARKER_IN_SCAN.search(data, position)
            if found is None:
                raise truncated("JPEG without its end marker")
            position = found.start()
    else:
        raise corrupt(f"JPEG with more than {_MAX_SCANS} scans and tables")
    if any(any(coefficients) for coefficients in missing.values()):
        raise truncated("JPEG without some of its scans")


def _count_scan(body: bytes, header: _Header, missing: dict[int, list[bool]]) -> None:
    count = body[0] if body else 0
    if not 1 <= count <= 4 or len(body) != 4 + 2 * count:
        raise corrupt("JPEG scan header of the wrong length")
    first, last, approximation = body[-3:]
    if header.frame in _SEQUENTIAL:
        first, last, approximation = 0, 63, 0
    if first > last or last > 63:
        raise corrupt("JPEG scan of impossible coefficients")
    for component in body[1 : 1 + 2 * count : 2]:
        if component not in missing:
            raise corrupt("JPEG scan of an unknown component")
        missing[component][first : last + 1] = [bool(approximation & 15)] * (last + 1 - first)
