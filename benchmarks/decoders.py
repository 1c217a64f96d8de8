"""Which decoder for which format: Pillow, simplejpeg and OpenCV, on speed and on strictness.

    python -m benchmarks.decoders            prints the tables and writes benchmarks/results/decoders.md

Pictures are made from the photographs inside scikit-image. Speed is the lowest of several rounds' mean processor
time a picture, the decoders taking turns, one thread each. Strictness is what a decoder does with damaged files:
raises (OpenCV: returns None), or hands out pixels.
"""

from __future__ import annotations

import importlib.metadata
import io
import os
import platform
import struct
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import skimage.data
from PIL import Image, features

from pipeline.decode import decode, decode_canonical

Decoder = Callable[[bytes], np.ndarray]

RESULT = Path(__file__).parent / "results" / "decoders.md"
PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
SIZES = (256, 1024)
ROUNDS = 9
SECONDS_A_ROUND = 0.12
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "JPEG q90 4:2:0": ("JPEG", {"quality": 90, "subsampling": "4:2:0"}),
    "JPEG q90 4:2:0 progressive": ("JPEG", {"quality": 90, "subsampling": "4:2:0", "progressive": True}),
    "PNG": ("PNG", {}),
    "WebP q90": ("WEBP", {"quality": 90}),
    "WebP lossless": ("WEBP", {"lossless": True}),
}
REASONS = """\
- **JPEG: simplejpeg** in its strict mode: the quickest, and the only one of the three that raises on all that libjpeg
  warns of. Where a flipped byte breaks the Huffman stream, Pillow hands out the wrong pixels silently, and OpenCV with
  a line on standard error that no program sees.
- **PNG, WebP, TIFF, BMP, GIF: Pillow.** OpenCV takes a tenth to a third less time on PNG and WebP, is no stricter
  with WebP, and is 150 MB that the core install does without. What Pillow lets pass (a PNG or GIF without its end
  marker, a PNG with too few rows, a TIFF with a strip too few: black pixels, silently) Telltale's own walk over the
  file's structure refuses.
- **AVIF: Pillow** (libavif), **HEIF: pillow-heif** (libheif): no other of the three reads HEIF.
- A flipped byte in JPEG, WebP, GIF or BMP pixel data that still decodes is noticed by nobody: they have no checksum.
- `telltale` is `pipeline.decode.decode`: limits, EXIF, structure, pixels. `canonical` is `decode_canonical`, for
  pictures that Telltale stored itself. simplejpeg's JPEG pixels do not depend on the CPU: libjpeg-turbo's accurate
  integer transform gives the same bits with and without SIMD (tests/pipeline/test_decode.py holds it to that).
"""


def with_pillow(data: bytes) -> np.ndarray:
    """Pillow as most people call it."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def with_simplejpeg(data: bytes) -> np.ndarray:
    """simplejpeg with its strict error handler."""
    return simplejpeg.decode_jpeg(data, "RGB", strict=True)


def with_opencv(data: bytes) -> np.ndarray:
    """OpenCV; it returns None where others raise."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    if pixels is None:
        raise ValueError("imdecode returned None")
    return pixels


def with_telltale(data: bytes) -> np.ndarray:
    """What Telltale does with a file from outside."""
    return decode(data)[0]


DECODERS: dict[str, Decoder] = {
    "Pillow": with_pillow,
    "simplejpeg": with_simplejpeg,
    "OpenCV": with_opencv,
    "telltale": with_telltale,
    "canonical": decode_canonical,
}


def can_read(name: str, kind: str) -> bool:
    """simplejpeg reads JPEG alone, and `decode_canonical` what the harmoniser may write."""
    if name == "simplejpeg":
        return kind.startswith("JPEG")
    return name != "canonical" or kind in KINDS


def photographs(side: int) -> list[Image.Image]:
    """The photographs, cut to their middle square and resized."""
    squares = []
    for name in PHOTOGRAPHS:
        image = Image.fromarray(getattr(skimage.data, name)()).convert("RGB")
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        square = image.crop((left, top, left + short, top + short))
        squares.append(square.resize((side, side), Image.Resampling.LANCZOS))
    return squares


def packed(image: Image.Image, fmt: str, **options: Any) -> bytes:
    """The picture as a file."""
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def milliseconds(decoders: dict[str, Decoder], files: list[bytes]) -> dict[str, float]:
    """Processor time a picture by decoder: the best round of several, the decoders taking turns."""
    best = dict.fromkeys(decoders, float("inf"))
    for _ in range(ROUNDS):
        for name, decoder in decoders.items():
            count, start = 0, time.thread_time()
            while time.thread_time() - start < SECONDS_A_ROUND:
                for data in files:
                    decoder(data)
                count += len(files)
            best[name] = min(best[name], (time.thread_time() - start) / count * 1000)
    return best


def speed_table() -> str:
    """Markdown: milliseconds a picture."""
    lines = [f"| picture | bytes | {' | '.join(DECODERS)} |", "|---|---:|" + "---:|" * len(DECODERS)]
    for side in SIZES:
        for kind, (fmt, options) in KINDS.items():
            files = [packed(image, fmt, **options) for image in photographs(side)]
            times = milliseconds({n: d for n, d in DECODERS.items() if can_read(n, kind)}, files)
            cells = [f"{times[name]:.3f}" if name in times else "–" for name in DECODERS]
            size = sum(map(len, files)) // len(files)
            lines.append(f"| {side} px {kind} | {size:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def flipped(data: bytes, part: float) -> bytes:
    """The file with one byte changed."""
    place = int(len(data) * part)
    return data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]


def png_without_last_rows(image: Image.Image) -> bytes:
    """A PNG whose chunks and checksums are right, and whose stream ends after half the rows."""
    rows = np.asarray(image)[: image.height // 2]
    raw = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(raw)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def tiff_without_last_strip(image: Image.Image) -> bytes:
    """An uncompressed TIFF of two strips whose directory names only the first."""
    body = np.asarray(image.convert("L")).tobytes()
    half = image.height // 2
    tags = [(256, image.width), (257, image.height), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, half)]
    tags.append((279, half * image.width))
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(tags)) + directory + bytes(4)


def damaged(image: Image.Image) -> Iterator[tuple[str, str, bytes, bytes]]:
    """(format, what was done, the damaged file, the whole file)."""
    names = {"JPEG q90 4:2:0": 2, "JPEG q90 4:2:0 progressive": 2, "PNG": 12, "WebP q90": 0, "WebP lossless": 0}
    for kind, trailer in names.items():
        fmt, options = KINDS[kind]
        whole = packed(image, fmt, **options)
        for percent in (25, 50, 75, 99):
            yield kind, f"cut at {percent} %", whole[: len(whole) * percent // 100], whole
        if trailer:
            yield kind, "end marker missing", whole[:-trailer], whole
        for part in (0.3, 0.5, 0.7, 0.9):
            yield kind, f"byte flipped at {part:.0%}", flipped(whole, part), whole
    whole = packed(image, "PNG")
    yield "PNG", "half the rows missing, checksums right", png_without_last_rows(image), whole
    for fmt, trailer in (("GIF", 1), ("BMP", 1000), ("TIFF", 1000)):
        whole = packed(image, fmt)
        yield fmt, f"last {trailer} bytes missing", whole[:-trailer], whole
    yield "TIFF", "a strip too few", tiff_without_last_strip(image), packed(image.convert("L"), "TIFF")
    cmyk = packed(image.convert("CMYK"), "JPEG", quality=90)
    yield "JPEG CMYK", "nothing", cmyk, cmyk
    yield "JPEG CMYK", "cut at 75 %", cmyk[: len(cmyk) * 3 // 4], cmyk


@contextmanager
def standard_error_counted(noise: list[int]) -> Iterator[None]:
    """Catch what C libraries write to standard error, and note how many bytes that was."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as catcher:
        os.dup2(catcher.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            noise.append(catcher.tell())


def outcome(decoder: Decoder, data: bytes, expected: np.ndarray) -> str:
    """What a decoder does with a damaged file."""
    noise: list[int] = []
    try:
        with standard_error_counted(noise):
            pixels = decoder(data)
    except Exception:  # decoders raise anything; that they do is the point
        return "raises"
    if pixels.shape != expected.shape:
        return f"**pixels of shape {pixels.shape}**"
    wrong = (np.abs(pixels.astype(int) - expected).max(axis=2) > 2).mean()
    if wrong == 0:
        return "right pixels" + (", warns on stderr" if noise[0] else "")
    return f"**{wrong:.1%} wrong**" + (", warns on stderr" if noise[0] else "")


def strictness_table() -> str:
    """Markdown: what happens to damaged files."""
    names = [name for name in DECODERS if name != "canonical"]
    lines = [f"| file | damage | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for kind, damage, data, whole in damaged(photographs(256)[0]):
        expected = with_telltale(whole)
        cells = [outcome(DECODERS[name], data, expected) if can_read(name, kind) else "–" for name in names]
        lines.append(f"| {kind} | {damage} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """Processor, Python and the versions of whatever takes part."""
    processor = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [
            line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        processor = models[0] if models else processor
    packages = ("pillow", "simplejpeg", "opencv-python-headless", "pillow-heif", "numpy", "scikit-image")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    libraries = [f"{name} {features.version(name)}" for name in ("libjpeg_turbo", "zlib_ng", "webp", "avif", "libtiff")]
    return (
        f"Processor: {processor}, {os.cpu_count()} cores; Python {platform.python_version()}; {', '.join(versions)}; "
        f"inside Pillow: {', '.join(libraries)}."
    )


def main() -> None:
    """Measure, print, and write the result."""
    cv2.setNumThreads(1)
    text = "\n\n".join(
        (
            "# Decoders",
            "Made by `python -m benchmarks.decoders`. " + machine(),
            "## Speed: milliseconds of processor time a picture, one thread",
            speed_table(),
            "## Strictness: what becomes of a damaged file (256 px)",
            "Wrong pixels are those that differ by more than 2 from the undamaged file's.",
            strictness_table(),
            "## The choice",
            REASONS,
        )
    )
    print(text)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
