"""TIFF: the first directory checked tag by tag, a new one with the picture's tags alone, then Pillow.

Pillow warns of odd metadata, turns the picture by its own reading of EXIF, and leaves grey what a directory
with too few strips does not cover. So this module checks that every strip or tile is inside the file and that
there are as many as the size asks for, and appends a directory that holds nothing but the tags which decide
pixels.

Only lossless compressions that report missing data are taken: none, LZW, Deflate. PackBits, JPEG inside TIFF,
the fax codings and the rest only warn, inside libtiff, where nobody hears it. (What libtiff has to say of damaged
LZW and Deflate data it also writes to standard error; Pillow offers no way to silence it.)
"""

from __future__ import annotations

import struct

from PIL import Image, TiffImagePlugin

from pipeline._layout import Layout, corrupt, truncated, unsupported_pixels
from pipeline._pillow import load
from pipeline._tiff_tags import Directory, byte_order, read_directory
from pipeline.errors import ImageError

__all__ = ["MAGICS", "MAGICS_BIG", "read"]

MAGICS = (b"II*\0", b"MM\0*")
MAGICS_BIG = (b"II+\0", b"MM\0+")

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR = 273, 274, 277, 278, 279, 284
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _FORMAT = 322, 323, 324, 325, 339
_PICTURE_TAGS = (
    *(_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _STRIPS, _SAMPLES, _ROWS, _STRIP_BYTES, _PLANAR),
    *(266, 317, 320),  # fill order, predictor, colour map
    *(_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, 338, _FORMAT),  # 338: what the extra samples are
)
_SINGLE = (_COMPRESSION, _PHOTOMETRIC, 266, _SAMPLES, _ROWS, _PLANAR, 317, _TILE_WIDTH, _TILE_HEIGHT)
_EXIF, _POINTERS = 34665, (330, 34665, 34853)  # sub-pictures, EXIF, GPS
_RAW, _STRICT_COMPRESSIONS = 1, (1, 5, 8, 32946)
_PHOTOMETRICS = (0, 1, 2, 3, 5)  # grey (both ways round), RGB, palette, CMYK


def read(data: bytes) -> Layout:
    """The layout of a TIFF file of one page, everything its directories point at being inside the file."""
    if len(data) < 8:
        raise truncated("TIFF ends in its header")
    order = byte_order(data)
    directory = read_directory(data, order, struct.unpack_from(f"{order}I", data, 4)[0])
    if directory.following:
        raise ImageError("animated", "TIFF of several pages: extract one page and use that")
    _check_extents(directory, depth=0)
    width, height = directory.integer(_WIDTH, 0), directory.integer(_HEIGHT, 0)
    if not width or not height:
        raise corrupt("TIFF without its size")
    _check_kind(directory)
    _check_coverage(directory, width, height)
    (orientation,) = directory.integers(_ORIENTATION, (1,))[:1] or (1,)
    return Layout(
        format="TIFF",
        width=width,
        height=height,
        load=lambda: load(TiffImagePlugin.TiffImageFile, _plain(directory), _within_pillow(width, height)),
        orientation=orientation if 1 <= orientation <= 8 else 1,
        has_exif=_EXIF in directory.tags,
    )


def _check_extents(directory: Directory, depth: int) -> None:
    """Every value, strip and tile of this directory and of those below it must lie inside the file."""
    size = len(directory.data)
    if any(tag.start + tag.size > size for tag in directory.tags.values()):
        raise truncated("TIFF tag with its value behind the end")
    for starts, lengths in ((_STRIPS, _STRIP_BYTES), (_TILES, _TILE_BYTES)):
        pairs = zip(directory.integers(starts), directory.integers(lengths), strict=False)
        if any(start + length > size for start, length in pairs):
            raise truncated("TIFF without all its picture data")
    if depth < 3:
        for pointer in _POINTERS:
            for position in directory.integers(pointer)[:64]:
                _check_extents(read_directory(directory.data, directory.order, position), depth + 1)


def _check_kind(directory: Directory) -> None:
    for number in _SINGLE:
        directory.integer(number, 0)
    compression = directory.integer(_COMPRESSION, _RAW)
    if compression not in _STRICT_COMPRESSIONS:
        raise ImageError(
            "unsupported_format",
            f"TIFF of compression {compression}: save it uncompressed, with LZW or Deflate, or as PNG",
        )
    if directory.integer(_PHOTOMETRIC, -1) not in _PHOTOMETRICS:
        raise unsupported_pixels("TIFF that is neither grey, RGB, palette nor CMYK")
    if set(directory.integers(_FORMAT, (1,))) != {1}:
        raise unsupported_pixels("TIFF of signed or floating-point samples")
    bits, samples = directory.integers(_BITS, (1,)), directory.integer(_SAMPLES, 1)
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16):
        raise unsupported_pixels(f"TIFF with {bits[:8]} bits a sample")
    if not 1 <= samples <= 6 or len(bits) not in (1, samples) or directory.integer(_PLANAR, 1) not in (1, 2):
        raise unsupported_pixels(f"TIFF with {samples} samples a pixel in an unusual arrangement")


def _check_coverage(directory: Directory, width: int, height: int) -> None:
    """There must be as many strips or tiles as the size asks for; uncompressed ones of their full length."""
    samples, planes = directory.integer(_SAMPLES, 1), 1
    if directory.integer(_PLANAR, 1) == 2:
        samples, planes = 1, samples
    bits = samples * directory.integers(_BITS, (1,))[0]
    if _TILES in directory.tags:
        across, down = directory.integer(_TILE_WIDTH, 0), directory.integer(_TILE_HEIGHT, 0)
        starts, lengths = directory.integers(_TILES), directory.integers(_TILE_BYTES)
        if not across or not down or across * down > 4 * width * height + 2**20:
            raise corrupt("TIFF with tiles of an impossible size")
    else:
        across, down = width, min(directory.integer(_ROWS, height) or height, height)
        starts, lengths = directory.integers(_STRIPS), directory.integers(_STRIP_BYTES)
    in_plane = -(-width // across) * -(-height // down)
    if not len(starts) == len(lengths) == in_plane * planes:
        raise corrupt(f"TIFF with {len(starts)} strips or tiles instead of {in_plane * planes}")
    needed = [(across * bits + 7) // 8 * down] * in_plane
    if _TILES not in directory.tags:  # the last strip ends with the picture, the last tile does not
        needed[-1] = (across * bits + 7) // 8 * (height - down * (in_plane - 1))
    if directory.integer(_COMPRESSION, _RAW) != _RAW:
        needed = [1] * in_plane
    if any(length < need for length, need in zip(lengths, needed * planes, strict=True)):
        raise corrupt("TIFF with a strip or tile that is too short")


def _plain(directory: Directory) -> bytes:
    """The file with a new directory at its end: the tags that decide pixels, and no others."""
    order, data = directory.order, directory.data
    entries = [directory.tags[number].entry for number in sorted(_PICTURE_TAGS) if number in directory.tags]
    start = len(data) + len(data) % 2
    header = data[:4] + struct.pack(f"{order}I", start)
    new = struct.pack(f"{order}H", len(entries)) + b"".join(entries) + bytes(4)
    return b"".join((header, data[8:], bytes(len(data) % 2), new))


def _within_pillow(width: int, height: int) -> tuple[int, int]:
    """The size; `ImageError` where Pillow's TIFF reader (no other does) would warn by a limit of its own."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise ImageError(
            "too_many_pixels", f"TIFF of {width} x {height} pixels, over Pillow's {limit}: make it smaller"
        )
    return width, height
