"""Test pictures, made in memory: photo-like pixels from a seed, and files of every format and mode.

For the tests of every room.  Nothing here reads or writes a disk, and nothing here is used by the product.

    from tests.pictures import encoded, photo
    pixels = photo(seed=3, width=96, height=64)             # uint8 (64, 96, 3)
    data = encoded(3, "JPEG", quality=90)                   # bytes of a 64 x 48 JPEG
    data = encoded(3, "PNG", width=40, height=40, mode="RGBA")
"""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

WIDTH, HEIGHT = 64, 48


def photo(seed: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Photo-like picture, uint8 (height, width, 3): soft light, texture on all scales, edges, sensor noise."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for octave in range(1, 6):
        cells = (max(2, (2**octave * height) // max(width, height)), 2**octave)
        for channel in range(3):
            coarse = Image.fromarray(rng.standard_normal(cells).astype(np.float32))
            total[..., channel] += np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)) / octave
    total = 0.6 * total + 0.4 * total.mean(axis=2, keepdims=True)  # the channels of photographs go together
    base = np.clip(128 + 48 * total, 0, 255).astype(np.uint8)
    picture = Image.fromarray(base)
    draw = ImageDraw.Draw(picture)
    for _ in range(4):
        left, top = int(rng.integers(0, width)), int(rng.integers(0, height))
        right = left + int(rng.integers(2, max(3, width // 3)))
        bottom = top + int(rng.integers(2, max(3, height // 3)))
        colour = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.rectangle if rng.random() < 0.5 else draw.ellipse)((left, top, right, bottom), fill=colour)
    noise = rng.normal(0, 3, (height, width, 3))
    return np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8)


def picture(seed: int, width: int = WIDTH, height: int = HEIGHT, mode: str = "RGB") -> Image.Image:
    """The same as a Pillow image of any mode; RGBA, LA and PA-like modes get a gradient as their alpha."""
    image = Image.fromarray(photo(seed, width, height))
    if mode in ("RGBA", "LA"):
        gradient = np.linspace(0, 255, width).astype(np.uint8)[None, :].repeat(height, axis=0)
        image = image.convert("RGB" if mode == "RGBA" else "L")
        image.putalpha(Image.fromarray(gradient))
        return image
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    return image.convert(mode)


def encoded(
    seed: int,
    fmt: str,
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    mode: str = "RGB",
    frames: int = 1,
    **options: Any,
) -> bytes:
    """A file of `photo(seed, width, height)`.

    fmt: "JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF" or (where pillow-heif is installed) "HEIF".
    mode: the Pillow mode to store ("L", "LA", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "F", …).
    frames: more than 1 makes an animation, a multi-page TIFF or an MPO's cousin; frame k is `photo(seed + k)`.
    options: given to Pillow's `save` (quality, progressive, lossless, exif, compression, …).
    """
    if fmt == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    images = [picture(seed + number, width, height, mode) for number in range(frames)]
    if frames > 1:
        options = {"save_all": True, "append_images": images[1:], **options}
    buffer = io.BytesIO()
    images[0].save(buffer, format=fmt, **options)
    return buffer.getvalue()


def exif(orientation: int) -> bytes:
    """An EXIF block with this orientation (1 to 8), for `encoded(..., exif=exif(6))`."""
    block = Image.Exif()
    block[0x0112] = orientation
    return block.tobytes()


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """One PNG chunk with its length and CRC."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png16(pixels: NDArray[np.uint16]) -> bytes:
    """A 16-bit PNG, which Pillow cannot write: (H, W) grey, (H, W, 3) RGB or (H, W, 4) RGBA samples."""
    height, width = pixels.shape[:2]
    colour = 0 if pixels.ndim == 2 else {2: 4, 3: 2, 4: 6}[pixels.shape[2]]
    rows = pixels.astype(">u2").reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(raw))
        + png_chunk(b"IEND", b"")
    )


def html_named_jpg() -> bytes:
    """What a download saves as photo.jpg when the server answered with an error page."""
    return b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>Not Found</body></html>\n"


def png_bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A small PNG whose header promises width x height pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packed = zlib.compress(bytes(3 * 10_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", packed) + png_chunk(b"IEND", b"")
