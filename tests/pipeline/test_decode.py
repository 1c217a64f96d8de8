"""Good files of every format and mode come out as the right uint8 RGB pixels, upright, and nothing else changes."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from pipeline.decode import DecodeLimits, decode, decode_canonical
from tests.pictures import HEIGHT, WIDTH, encoded, exif, photo, picture, png16, png_chunk

Turn = Image.Transpose
# What a camera did to an upright picture before it wrote this EXIF orientation (the inverse of what a reader must do).
STORED_AS = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_90,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_270,
}
LOSSLESS: dict[str, dict[str, Any]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "BMP": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
    "TIFF tiles": {"tiffinfo": {322: 32, 323: 16}},
    "TIFF strips": {"tiffinfo": {278: 7}},
    "TIFF metadata": {"tiffinfo": {270: "a picture", 305: "a camera", 33432: "someone"}, "dpi": (300, 300)},
}


def over_white(rgba: Image.Image) -> np.ndarray:
    colour, alpha = np.asarray(rgba, float)[..., :3], np.asarray(rgba, float)[..., 3:] / 255
    return np.floor(colour * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)


def sha256(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


def stored(pixels: np.ndarray, fmt: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, fmt, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_files_decode_to_the_exact_pixels(kind: str) -> None:
    fmt = kind.split()[0]
    data = encoded(1, fmt, **LOSSLESS[kind])
    pixels, original = decode(data)
    assert np.array_equal(pixels, photo(1))
    assert (original.format, original.width, original.height, original.bytes) == (fmt, WIDTH, HEIGHT, len(data))
    assert original.quantization is None
    assert not original.has_exif


@pytest.mark.parametrize("fmt", ["JPEG", "WEBP", "AVIF", "HEIF"])
def test_lossy_files_decode_to_nearly_the_same_pixels(fmt: str) -> None:
    pixels, original = decode(encoded(1, fmt, quality=95))
    assert (pixels.shape, pixels.dtype, original.format) == ((HEIGHT, WIDTH, 3), np.dtype(np.uint8), fmt)
    assert np.abs(pixels.astype(int) - photo(1)).mean() < 6


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "AVIF", "HEIF"])
def test_pixels_are_contiguous_and_writeable(fmt: str) -> None:
    pixels, _ = decode(encoded(1, fmt))
    assert (pixels.flags.c_contiguous, pixels.flags.writeable, pixels.dtype) == (True, True, np.dtype(np.uint8))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
def test_jpeg_pixels_are_those_of_libjpeg_turbo(progressive: bool, subsampling: str) -> None:
    data = encoded(2, "JPEG", progressive=progressive, subsampling=subsampling)
    assert np.array_equal(decode(data)[0], np.asarray(Image.open(io.BytesIO(data))))


def test_jpeg_quantisation_tables_are_reported_in_zigzag_order() -> None:
    tables = decode(encoded(1, "JPEG", quality=50))[1].quantization
    assert tables is not None
    assert [len(table) for table in tables] == [64, 64]
    assert tables[0][:6] == (16, 11, 12, 14, 12, 10)  # ITU-T T.81 table K.1, along the zigzag
    assert tables[1][:6] == (17, 18, 18, 24, 21, 24)  # table K.2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(fmt: str, orientation: int) -> None:
    image = picture(3)
    turned = image.transpose(STORED_AS[orientation]) if orientation > 1 else image
    options: dict[str, Any] = {"exif": exif(orientation)} if fmt != "TIFF" else {"tiffinfo": {274: orientation}}
    pixels, original = decode(stored(np.asarray(turned), fmt, **options, **LOSSLESS[fmt]))
    assert np.array_equal(pixels, photo(3))
    assert (original.width, original.height) == turned.size
    assert original.has_exif == (fmt != "TIFF")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fmt", ["JPEG", "AVIF"])
def test_exif_orientation_of_lossy_formats_is_undone(fmt: str, orientation: int) -> None:
    data = encoded(3, fmt, exif=exif(orientation))
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(decode(data)[0], np.asarray(expected))


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_heif_rotation_is_undone(orientation: int) -> None:
    turned = picture(3, 64, 64)
    if orientation > 1:
        turned = turned.transpose(STORED_AS[orientation])
    encoded(3, "HEIF")  # registers the writer
    pixels, _ = decode(stored(np.asarray(turned), "HEIF", quality=95, exif=exif(orientation)))
    assert np.abs(pixels.astype(int) - photo(3, 64, 64)).mean() < 6


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(
    "block",
    [b"II*\0", b"II*\0\xff\xff\xff\xff", b"nonsense", b"MM\0*\0\0\0\x08\xff\xff" + bytes(30), exif(6)[:24], exif(99)],
)
def test_unreadable_exif_is_ignored(fmt: str, block: bytes) -> None:
    prefix = b"Exif\0\0" if fmt == "JPEG" and not block.startswith(b"Exif") else b""
    options: dict[str, Any] = {"lossless": True} if fmt == "WEBP" else {}
    pixels, original = decode(encoded(4, fmt, exif=prefix + block, **options))
    assert np.array_equal(pixels, decode(encoded(4, fmt, **options))[0])
    assert original.has_exif


@pytest.mark.parametrize("fmt", ["AVIF", "HEIF"])
def test_unreadable_exif_in_avif_and_heif_is_ignored(fmt: str) -> None:
    block = Image.Exif()
    block[0x010F] = "a camera"
    data = encoded(4, fmt, exif=block.tobytes())
    tiff = data.index(block.tobytes()[6:])
    damaged = data[:tiff] + b"\xff" * 8 + data[tiff + 8 :]
    pixels, original = decode(damaged)
    assert np.array_equal(pixels, decode(encoded(4, fmt))[0])
    assert original.has_exif


@pytest.mark.parametrize("fmt", ["PNG", "TIFF", "GIF", "BMP", "JPEG"])
def test_grey_becomes_three_equal_channels(fmt: str) -> None:
    data = encoded(5, fmt, mode="L")
    pixels, _ = decode(data)
    assert (pixels == pixels[..., :1]).all()
    assert np.array_equal(pixels[..., 0], np.asarray(Image.open(io.BytesIO(data)).convert("L")))


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF"])
def test_one_bit_becomes_black_and_white(fmt: str) -> None:
    pixels, _ = decode(encoded(5, fmt, mode="1"))
    expected = np.asarray(picture(5, mode="1")).astype(np.uint8) * 255
    assert np.array_equal(pixels, np.repeat(expected[..., None], 3, axis=2))


@pytest.mark.parametrize("fmt", ["PNG", "BMP", "TIFF", "GIF"])
def test_palette_becomes_its_colours(fmt: str) -> None:
    assert np.array_equal(decode(encoded(5, fmt, mode="P"))[0], np.asarray(picture(5, mode="P").convert("RGB")))


@pytest.mark.parametrize(("fmt", "mode"), [("PNG", "RGBA"), ("PNG", "LA"), ("TIFF", "RGBA"), ("TIFF", "LA")])
def test_alpha_is_laid_over_white(fmt: str, mode: str) -> None:
    assert np.array_equal(decode(encoded(6, fmt, mode=mode))[0], over_white(picture(6, mode=mode).convert("RGBA")))


def test_alpha_of_lossless_webp_is_laid_over_white() -> None:
    data = encoded(6, "WEBP", mode="RGBA", lossless=True, exact=True)
    assert np.array_equal(decode(data)[0], over_white(picture(6, mode="RGBA")))


@pytest.mark.parametrize("fmt", ["PNG", "GIF"])
def test_transparent_palette_entry_becomes_white(fmt: str) -> None:
    image = picture(6, mode="P")
    entry = int(np.asarray(image)[0, 0])
    pixels, _ = decode(encoded(6, fmt, mode="P", transparency=entry, **({"optimize": False} if fmt == "GIF" else {})))
    clear = np.asarray(image) == entry
    assert (pixels[clear] == 255).all()
    assert np.array_equal(pixels[~clear], np.asarray(image.convert("RGB"))[~clear])


def test_transparent_colour_becomes_white() -> None:
    source = photo(6)
    key = tuple(int(value) for value in source[2, 3])
    expected = np.where((source == key).all(axis=2, keepdims=True), 255, source)
    assert np.array_equal(decode(encoded(6, "PNG", transparency=key))[0], expected)


ADAM7 = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))


def interlaced_png(pixels: np.ndarray) -> bytes:
    """An Adam7 PNG of uint8 (H, W) or (H, W, 3), which Pillow cannot write."""
    height, width = pixels.shape[:2]
    rows = [row for top, left, down, right in ADAM7 for row in pixels[top::down, left::right] if row.size]
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if pixels.ndim == 2 else 2, 0, 0, 1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    chunks = ((b"IHDR", header), (b"IDAT", packed), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


@pytest.mark.parametrize("size", [(32, 32), (33, 35), (37, 40), (100, 39)])
@pytest.mark.parametrize("black", [False, True])
def test_interlaced_png_decodes(size: tuple[int, int], black: bool) -> None:
    source = photo(6, *size) * (not black)
    assert np.array_equal(decode(interlaced_png(source))[0], source)
    grey = np.ascontiguousarray(source[..., 0])
    assert np.array_equal(decode(interlaced_png(grey))[0], np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_black_png_is_not_taken_for_an_incomplete_one(mode: str) -> None:
    image = Image.new(mode, (35, 33))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    pixels, _ = decode(buffer.getvalue())
    assert (pixels == (255 if mode.endswith("A") else 0)).all()


@pytest.mark.parametrize("mode", ["I;16", "I;16B"])
@pytest.mark.parametrize("fmt", ["PNG", "TIFF"])
def test_upper_byte_of_16_bit_grey_counts(fmt: str, mode: str) -> None:
    grey = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    image = Image.frombytes(mode, (WIDTH, HEIGHT), grey.astype(">u2" if mode == "I;16B" else "<u2").tobytes())
    buffer = io.BytesIO()
    image.save(buffer, fmt)
    assert np.array_equal(decode(buffer.getvalue())[0], np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2))


def test_upper_byte_of_16_bit_colour_counts() -> None:
    wide = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 4), dtype=np.uint16)
    high = (wide >> 8).astype(np.uint8)
    assert np.array_equal(decode(png16(wide[..., :3]))[0], high[..., :3])
    assert np.array_equal(decode(png16(wide))[0], over_white(Image.fromarray(high)))
    assert np.array_equal(decode(png16(wide[..., 0]))[0], np.repeat(high[..., :1], 3, axis=2))


def test_cmyk_tiff_becomes_rgb() -> None:
    assert np.array_equal(decode(encoded(7, "TIFF", mode="CMYK"))[0], photo(7))  # Pillow's CMYK of RGB has no black


@pytest.mark.parametrize("transform", ["CMYK", "YCCK"])
def test_adobe_jpeg_of_four_inks_becomes_rgb(transform: str) -> None:
    data = encoded(7, "JPEG", mode="CMYK", quality=95, subsampling=0)
    marker = data.index(b"Adobe")
    data = data[: marker + 11] + bytes([0 if transform == "CMYK" else 2]) + data[marker + 12 :]
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    pixels = decode(data)[0].astype(int)
    assert np.abs(pixels - expected).max() <= 1  # Pillow rounds its product otherwise
    if transform == "CMYK":
        assert np.abs(pixels - photo(7)).mean() < 4


def test_four_inks_without_adobe_marker_mean_the_same() -> None:
    data = encoded(7, "JPEG", mode="CMYK", quality=95)
    start = data.index(b"Adobe") - 4
    plain = data[:start] + data[start + 16 :]
    assert b"Adobe" not in plain
    assert np.array_equal(decode(plain)[0], decode(data)[0])


@pytest.mark.parametrize("lossless", [True, False])
def test_first_picture_of_gif_animation_and_of_mpo_counts(lossless: bool) -> None:
    fmt = "GIF" if lossless else "MPO"
    pixels, original = decode(encoded(8, fmt, frames=3))
    assert np.array_equal(pixels, decode(encoded(8, "GIF" if lossless else "JPEG"))[0])
    assert original.format == ("GIF" if lossless else "JPEG")


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_bytes_after_the_end_are_allowed(fmt: str) -> None:
    data = encoded(9, fmt)
    pixels, original = decode(data + b"\0\0appended by a telephone\xff\xd8\xff\xe0")
    assert np.array_equal(pixels, decode(data)[0])
    assert original.bytes == len(data) + 29


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_colour_profile_is_ignored(fmt: str) -> None:
    options: dict[str, Any] = {"lossless": True} if fmt == "WEBP" else {}
    with_profile = encoded(9, fmt, icc_profile=b"no profile at all", **options)
    assert np.array_equal(decode(with_profile)[0], decode(encoded(9, fmt, **options))[0])


@pytest.mark.parametrize(
    "data",
    [encoded(1, "JPEG"), encoded(1, "JPEG", mode="L"), encoded(1, "PNG"), encoded(1, "WEBP", lossless=True)],
    ids=["jpeg", "grey jpeg", "png", "webp"],
)
def test_canonical_pixels_equal_decoded_ones(data: bytes) -> None:
    assert np.array_equal(decode_canonical(data), decode(data)[0])
    assert decode_canonical(data).flags.c_contiguous


def test_limits_admit_exactly_what_they_say() -> None:
    data = encoded(1, "PNG", width=40, height=33)
    limits = DecodeLimits(max_bytes=len(data), max_pixels=40 * 33, min_side=33)
    assert decode(data, limits)[0].shape == (33, 40, 3)


def test_many_threads_get_the_same_pixels_and_leave_no_trace() -> None:
    files = [encoded(seed, fmt) for seed in range(4) for fmt in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF", "HEIF")]
    alone = [sha256(decode(data)[0]) for data in files]
    filters, openers = list(warnings.filters), set(Image.OPEN)
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda data: sha256(decode(data)[0]), files * 5))
    assert together == alone * 5
    assert (list(warnings.filters), set(Image.OPEN)) == (filters, openers)


def test_decoding_registers_nothing_with_pillow() -> None:
    code = (
        "import sys; from PIL import Image; from pipeline.decode import decode;"
        "decode(sys.stdin.buffer.read()); print(sorted(Image.OPEN).count('HEIF'))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=encoded(1, "HEIF"), capture_output=True, check=True)
    assert done.stdout.strip() == b"0"


@pytest.mark.parametrize("setting", ["JSIMD_FORCENONE", "JSIMD_FORCESSE2"])
def test_jpeg_pixels_do_not_depend_on_the_cpu(setting: str) -> None:
    """libjpeg-turbo obeys these variables; both other code paths must give the pixels of this process."""
    data = encoded(10, "JPEG", width=333, height=257, quality=90, subsampling="4:2:0")
    code = (
        "import hashlib, sys; from pipeline.decode import decode;"
        "print(hashlib.sha256(decode(sys.stdin.buffer.read())[0]).hexdigest())"
    )
    environment = {**os.environ, setting: "1"}
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True, env=environment)
    assert done.stdout.decode().strip() == sha256(simplejpeg.decode_jpeg(data))
