"""Three ways to store a variant without a second lossy generation: which is quick, small, exact, and needs what.

    python -m benchmarks.variants            prints the tables and writes benchmarks/results/variants.md

The JPEG domain is measured if libturbojpeg is installed (`TURBOJPEG=/path/to/libturbojpeg.so` names one elsewhere).
Times are processor time of one thread, the lowest of the rounds, the ways taking turns.
"""

from __future__ import annotations

import argparse
import ctypes
import ctypes.util
import io
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image, features

from benchmarks._common import interleaved, table, tile, write_result
from pipeline.canonical import Canonical, square
from pipeline.decode import decode_canonical
from pipeline.geometry import Geometry
from pipeline.harmonise import Harmonise, draw_quality, harmonise
from pipeline.variants import encode_lossless, transform

Pixels = np.ndarray
NAMES = ("hflip", "rot90", "rot270")  # what the default ×4 makes beside the identity
PACKAGES = ("numpy", "pillow", "simplejpeg", "opencv-python-headless")


@dataclass(frozen=True)
class Picture:
    """What each way starts from: the original file, or the stored identity row; and the pixels of that row."""

    original: bytes
    stored: bytes
    quality: int
    pixels: Pixels


@dataclass(frozen=True)
class Way:
    """A way to make the variants of a picture, and what it needs beyond the core's dependencies."""

    name: str
    make: Callable[[Picture], list[bytes]]
    needs: str


def pillow(form: str, **options: Any) -> Callable[[Pixels], bytes]:
    """An encoder by Pillow."""

    def encode(pixels: Pixels) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, form, **options)
        return buffer.getvalue()

    return encode


def opencv(*options: int) -> Callable[[Pixels], bytes]:
    """A PNG encoder by OpenCV."""
    return lambda pixels: cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), options)[1].tobytes()


def lossless(encode: Callable[[Pixels], bytes]) -> Callable[[Picture], list[bytes]]:
    """Decode the stored row, transform, encode without loss."""

    def make(picture: Picture) -> list[bytes]:
        pixels = decode_canonical(picture.stored)
        return [encode(transform(name)(pixels)) for name in NAMES]

    return make


def before_harmonising(setting: Canonical) -> Callable[[Picture], list[bytes]]:
    """Decode the original again, transform the square, harmonise each."""

    def make(picture: Picture) -> list[bytes]:
        pixels, _ = square(picture.original, setting)
        return [harmonise(transform(name)(pixels), picture.quality, setting.harmonise) for name in NAMES]

    return make


class _Region(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int) for name in ("x", "y", "w", "h")]


class _Transform(ctypes.Structure):
    _fields_ = [
        ("region", _Region),
        ("operation", ctypes.c_int),
        ("options", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("filter", ctypes.c_void_p),
    ]


def jpeg_domain() -> Callable[[Picture], list[bytes]] | None:
    """libjpeg-turbo's lossless transforms (turbojpeg.h, tjTransform), or None without the library."""
    path = os.environ.get("TURBOJPEG") or ctypes.util.find_library("turbojpeg")
    if not path:
        return None
    library = ctypes.CDLL(path)
    library.tjInitTransform.restype = ctypes.c_void_p
    handle = ctypes.c_void_p(library.tjInitTransform())
    operations = {"hflip": 1, "rot90": 7, "rot270": 5}  # its rotations are clockwise

    def one(data: bytes, operation: int) -> bytes:
        out, size = ctypes.c_void_p(), ctypes.c_ulong()
        wanted = _Transform(operation=operation, options=1)  # 1: refuse what cannot be done perfectly
        source = (data, ctypes.c_ulong(len(data)), 1, ctypes.byref(out), ctypes.byref(size), ctypes.byref(wanted), 0)
        if library.tjTransform(handle, *source):
            raise RuntimeError("tjTransform failed")
        result = ctypes.string_at(out, size.value)
        library.tjFree(out)
        return result

    return lambda picture: [one(picture.stored, operations[name]) for name in NAMES]


def ways(setting: Canonical) -> list[Way]:
    """Everything that is compared."""
    rle, huffman = 3, 2  # zlib's strategies
    fast = (cv2.IMWRITE_PNG_COMPRESSION, 1, cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE)
    up = (*fast, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP)
    found = [Way("lossless WebP, Pillow, method 0 (chosen)", lossless(encode_lossless), "–")]
    for method in (1, 4):
        encode = pillow("WEBP", lossless=True, quality=0, method=method)
        found.append(Way(f"lossless WebP, Pillow, method {method}", lossless(encode), "–"))
    for level in (0, 1, 3, 6):
        encode = pillow("PNG", compress_level=level)
        found.append(Way(f"PNG, Pillow, level {level}", lossless(encode), "–"))
    for word, strategy in (("RLE", rle), ("Huffman only", huffman)):
        encode = pillow("PNG", compress_level=1, compress_type=strategy)
        found.append(Way(f"PNG, Pillow, level 1, {word}", lossless(encode), "–"))
    found.append(Way("PNG, OpenCV, default", lossless(opencv()), "OpenCV"))
    found.append(Way("PNG, OpenCV, level 1, RLE, filter up", lossless(opencv(*up)), "OpenCV"))
    turbo = jpeg_domain()
    if turbo:
        found.append(Way("JPEG domain, libjpeg-turbo", turbo, "libturbojpeg"))
    found.append(Way("before harmonising", before_harmonising(setting), "the originals"))
    return found


def pictures(count: int, setting: Canonical, original: int) -> list[Picture]:
    """Tiles of photographs as JPEG originals of `original` pixels, and their stored rows."""
    found = []
    for seed in range(count):
        data = pillow("JPEG", quality=95)(tile(seed, original, original))
        pixels, _ = square(data, setting)
        quality = draw_quality(f"{seed:064x}", setting.harmonise)
        stored = harmonise(pixels, quality, setting.harmonise)
        found.append(Picture(data, stored, quality, decode_canonical(stored)))
    return found


def measure(items: list[Picture], setting: Canonical, rounds: int) -> list[list[object]]:
    """A row a way: milliseconds a variant to make, to decode, bytes, equal samples, largest difference, needs."""
    chosen = ways(setting)
    made = {way.name: [way.make(item) for item in items] for way in chosen}
    count = len(items) * len(NAMES)

    def all_of(way: Way) -> Callable[[], object]:
        return lambda: [way.make(item) for item in items]

    def decode_all(rows: list[list[bytes]]) -> Callable[[], object]:
        return lambda: [decode_canonical(data) for row in rows for data in row]

    encode = interleaved({way.name: all_of(way) for way in chosen}, rounds, time.process_time)
    decode = interleaved({name: decode_all(rows) for name, rows in made.items()}, rounds, time.process_time)
    result: list[list[object]] = []
    for way in chosen:
        rows = made[way.name]
        equal, largest = exactness(items, rows)
        size = sum(len(data) for row in rows for data in row) / count
        times = [f"{min(taken[way.name]) / count * 1000:.2f}" for taken in (encode, decode)]
        result.append([way.name, *times, f"{size:,.0f}", f"{equal:.2%}", largest, way.needs])
    return result


def exactness(items: list[Picture], made: list[list[bytes]]) -> tuple[float, int]:
    """Share of samples that equal the transformed identity's, and the largest difference in grey levels."""
    equal, total, largest = 0, 0, 0
    for item, row in zip(items, made, strict=True):
        for name, data in zip(NAMES, row, strict=True):
            apart = np.abs(decode_canonical(data).astype(np.int16) - transform(name)(item.pixels))
            equal, total, largest = equal + int((apart == 0).sum()), total + apart.size, max(largest, int(apart.max()))
    return equal / total, largest


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.variants")
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--original", type=int, default=1024, help="side of the originals in pixels")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    setting = Canonical(geometry=Geometry(size=256), harmonise=Harmonise())
    items = pictures(given.pictures, setting, given.original)
    rows = measure(items, setting, given.rounds)
    head = ["way", "ms to make", "ms to decode", "bytes", "equal samples", "largest difference", "needs"]
    stored = sum(len(item.stored) for item in items) / len(items)
    lines = [
        f"{given.pictures} tiles of photographs, 256 px, stored as JPEG of quality 80 to 98 at 4:2:0 ({stored:,.0f} "
        f"bytes on average); originals are JPEG files of {given.original} px. Times are "
        "processor time, the lowest of the rounds. All figures are for one variant, the mean of "
        f"{', '.join(NAMES)}: making includes decoding what the way starts from. Equal samples: how much of what the "
        "variant decodes to is what turning the identity's pixels gives; the largest difference is in grey levels.",
        "",
        *table(head, rows),
        "",
        *([] if jpeg_domain() else ["The JPEG domain was not measured: libturbojpeg is not installed.", ""]),
        f"Pillow brings libwebp {features.version('webp')}, zlib-ng {features.version('zlib_ng')} and "
        f"libjpeg-turbo {features.version('libjpeg_turbo')}. What was chosen, and why: `pipeline/variants.py`.",
    ]
    write_result("variants", "Storing variants", lines, PACKAGES, write=not given.no_write)


if __name__ == "__main__":
    main()
