"""A file's bytes to canonical pixels: the only decoder of Telltale, strict and the same everywhere.

What it takes: JPEG (also the first picture of MPO), PNG, WebP, TIFF of one page, BMP, the first frame of a
GIF, AVIF, and HEIF where pillow-heif is installed. The format is told by the content, never by a name. Which
decoder reads which format, and why, is measured by `python -m benchmarks.decoders`
(benchmarks/results/decoders.md).

What comes out: uint8 RGB, upright by the EXIF orientation. Transparency is laid over white; of 16-bit samples
the upper byte counts; CMYK becomes (255 - ink)(255 - black) / 255; ICC profiles and gamma are ignored,
because a generator's pictures carry none and a detector should not see who wrote one. A damaged EXIF block is
ignored: the picture is taken as upright.

Strict means: an end too early, a checksum that is wrong, and whatever a decoder would merely warn of are
errors, and no pixel is ever made up. Each format's structure is walked before its decoder sees it, so:

- every proper prefix of a JPEG, PNG, WebP, GIF, BMP or TIFF file is an error, even one that lacks only its
  trailer (JPEG's end marker, PNG's IEND, GIF's 0x3B) while all pixels are there. One rule, and nobody can
  tell from outside which kind of cut a download suffered;
- bytes after the end are allowed, since telephones and editors append things (not in HEIF and AVIF: whatever
  follows there looks like an incomplete box).

What no decoder can notice stays unnoticed: a flipped byte in the pixel data of a JPEG, WebP, GIF, AVIF or
HEIF, or of a BMP or TIFF without compression, often decodes to other pixels. (PNG has checksums.)

Nothing here reads a file or knows a path: callers add the path to the message. All of it may run in many
threads at once; no global state is changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline import _bmp, _gif, _heif, _jpeg, _png, _tiff, _webp
from pipeline._layout import Layout, Pixels, Tables, corrupt
from pipeline.errors import ImageError

__all__ = ["DecodeLimits", "Original", "decode", "decode_canonical"]


@dataclass(frozen=True)
class DecodeLimits:
    """What is refused before any pixel is decoded: more bytes, more pixels, or a shorter side than these."""

    max_bytes: int = 64 * 2**20
    max_pixels: int = 100_000_000
    min_side: int = 32


@dataclass(frozen=True)
class Original:
    """What the original file was.

    Attributes:
        format: "JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "HEIF" or "AVIF".
        width, height: of the stored raster in pixels, before the EXIF orientation (HEIF: after its own
            rotation).
        bytes: length of the file.
        quantization: the JPEG quantisation tables in the order of their numbers, 64 values each in the zigzag
            order in which the file holds them; None for other formats.
        has_exif: whether there is an EXIF block, readable or not.
    """

    format: str
    width: int
    height: int
    bytes: int
    quantization: Tables | None
    has_exif: bool


_NO_LIMITS = DecodeLimits()

# Formats people will try, told apart from what is no picture at all: (where, what stands there, the format's
# name).
_KNOWN_BUT_UNSUPPORTED = (
    (0, b"\xff\x0a", "JPEG XL"),
    (4, b"JXL \r\n\x87\n", "JPEG XL"),
    (4, b"jP  \r\n\x87\n", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "JPEG 2000"),
    (0, b"8BPS", "Photoshop"),
    (0, b"II+\0", "BigTIFF"),
    (0, b"MM\0+", "BigTIFF"),
    (0, b"%PDF", "PDF"),
    (0, b"\0\0\1\0", "icon"),
    (0, b"qoif", "QOI"),
    (0, b"v/1\x01", "OpenEXR"),
    (0, b"FORM", "IFF"),
    (0, b"<svg", "SVG"),
    (4, b"ftyp", "ISO media (video?)"),
)


def decode(data: bytes, limits: DecodeLimits = _NO_LIMITS) -> tuple[Pixels, Original]:
    """Decode a file to pixels.

    Args:
        data: the whole file.
        limits: what to refuse before decoding.

    Returns:
        uint8 RGB array (height, width, 3), C-contiguous, writeable and upright; and what the file was.

    Raises:
        ImageError: the file cannot be used; `reason` says why, the message what to do.
    """
    if not data:
        raise ImageError("empty", "the file is empty: fetch or copy it again")
    if len(data) > limits.max_bytes:
        raise ImageError(
            "too_many_bytes",
            f"{len(data)} bytes, over the limit of {limits.max_bytes}: make it smaller, or raise max_bytes",
        )
    layout = _reader(data)(data)
    _check_size(layout, limits)
    pixels = _load(layout)
    if layout.orientation != 1:
        pixels = _upright(pixels, layout.orientation)
    original = Original(
        format=layout.format,
        width=layout.width,
        height=layout.height,
        bytes=len(data),
        quantization=layout.quantization,
        has_exif=layout.has_exif,
    )
    return np.require(pixels, requirements=["C", "W"]), original


def decode_canonical(data: bytes) -> Pixels:
    """uint8 RGB (height, width, 3), C-contiguous, of a picture Telltale stored (JPEG, lossless PNG or WebP).

    The hot path of statistics and training: no limits, no EXIF, no CMYK. As strict as `decode`, to which it
    is equal on every file that the harmoniser wrote.

    Raises:
        ImageError: the bytes are damaged, or are not what the harmoniser writes.
    """
    if data.startswith(_jpeg.MAGIC):
        return _jpeg.decode_rgb(data)
    if data.startswith(_png.MAGIC):
        layout = _png.read(data)
    elif _webp.is_webp(data):
        layout = _webp.read(data)
    else:
        raise ImageError("unsupported_format", "a stored picture is neither JPEG, PNG nor WebP: make the dataset again")
    return np.require(_load(layout), requirements=["C", "W"])


def _reader(data: bytes) -> Callable[[bytes], Layout]:
    """The reader for what the content looks like."""
    if data.startswith(_jpeg.MAGIC):
        return _jpeg.read
    if data.startswith(_png.MAGIC):
        return _png.read
    if _webp.is_webp(data):
        return _webp.read
    if data.startswith(_gif.MAGICS):
        return _gif.read
    if data.startswith(_tiff.MAGICS):
        return _tiff.read
    if _bmp.is_bmp(data):
        return _bmp.read
    if _heif.is_heif(data):
        return _heif.read
    raise _unknown(data)


def _unknown(data: bytes) -> ImageError:
    for position, magic, name in _KNOWN_BUT_UNSUPPORTED:
        if data.startswith(magic, position):
            return ImageError("unsupported_format", f"{name} is not supported: convert the picture to PNG or JPEG")
    start = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return ImageError("not_an_image", "this is an HTML page, perhaps a failed download: fetch the picture again")
    return ImageError("not_an_image", "the content is no picture of a known format: check where the file came from")


def _check_size(layout: Layout, limits: DecodeLimits) -> None:
    width, height = layout.width, layout.height
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"{width} x {height} pixels, over the limit {limits.max_pixels}: shrink it, or raise max_pixels",
        )
    if min(width, height) < limits.min_side:
        raise ImageError(
            "too_small",
            f"{width} x {height} pixels, with a side under {limits.min_side}: use a larger picture",
        )


def _load(layout: Layout) -> Pixels:
    pixels = layout.load()
    if pixels.shape != (layout.height, layout.width, 3):
        raise corrupt(f"decoded to {pixels.shape} instead of {(layout.height, layout.width, 3)}")
    return pixels


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation, 2 to 8 (CIPA DC-008, tag 274)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.stack([pixels[..., channel] for channel in range(3)], axis=-1)  # 4 times as fast as one copy
