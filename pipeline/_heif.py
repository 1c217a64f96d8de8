"""HEIF and AVIF: the top-level boxes, then pillow-heif (libheif) or Pillow (libavif).

Their rotation is part of the container (`irot`, `imir`), and the EXIF orientation is only a copy of it, to be
ignored by readers (ISO/IEC 23008-12, 6.5.10). So the EXIF item is renamed before the decoders see it: a
damaged one cannot disturb, and the size in `Layout` is for HEIF that of the turned picture, the only one
libheif tells.
"""

from __future__ import annotations

import io
import re

from PIL import AvifImagePlugin, ExifTags, features

from pipeline._layout import MAX_PARTS, Layout, Pixels, corrupt, truncated
from pipeline._pillow import strictly, to_rgb
from pipeline.errors import ImageError

__all__ = ["is_heif", "read"]

_AVIF = {b"avif", b"avis"}
_HEIF = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
_EXIF_ITEM = re.compile(rb"(infe[\x02\x03].{3}(?:.{4}|.{6}))Exif", re.DOTALL)  # version 2 has 2-byte ids, 3 has 4


def is_heif(data: bytes) -> bool:
    """Whether the file starts as an HEIF or AVIF does."""
    return data[4:8] == b"ftyp" and bool(_brands(data) & (_AVIF | _HEIF))


def read(data: bytes) -> Layout:
    """The layout of a HEIF or AVIF file with one picture and all its boxes complete."""
    start, end = _meta_box(data)
    meta, found = _EXIF_ITEM.subn(rb"\1exi_", data[start:end])
    quiet = b"".join((data[:start], meta, data[end:]))
    opener = _open_avif if _brands(data) & _AVIF else _open_heif
    return strictly(lambda: opener(quiet, found > 0))


def _open_avif(data: bytes, has_exif: bool) -> Layout:
    if not features.check("avif"):
        raise ImageError("unsupported_format", "this Pillow was built without AVIF: install Pillow from its wheels")
    image = AvifImagePlugin.AvifImageFile(io.BytesIO(data))
    if image.n_frames > 1:
        raise ImageError("animated", "animated AVIF: extract one frame and use that")
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)  # written by Pillow from irot and imir

    def load() -> Pixels:
        image.load()
        return to_rgb(image)

    return Layout("AVIF", image.width, image.height, lambda: strictly(load), orientation, has_exif)


def _open_heif(data: bytes, has_exif: bool) -> Layout:
    try:
        import pillow_heif
    except ImportError:
        raise ImageError("unsupported_format", "HEIF pictures need a package: pip install pillow-heif") from None
    container = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=True, bgr_mode=False)
    if len(container) != 1:
        raise ImageError("animated", f"HEIF with {len(container)} pictures: extract one and use that")
    image = container[0]
    width, height = image.size

    def load() -> Pixels:
        return to_rgb(image.to_pillow())

    return Layout("HEIF", width, height, lambda: strictly(load), has_exif=has_exif)


def _brands(data: bytes) -> set[bytes]:
    end = min(int.from_bytes(data[:4], "big"), len(data), 1024)
    return {data[8:12], *(data[start : start + 4] for start in range(16, end, 4))}


def _meta_box(data: bytes) -> tuple[int, int]:
    """Where the `meta` box stands; `ImageError` unless every top-level box is complete."""
    position, found = 0, (0, 0)
    for _ in range(MAX_PARTS):
        if position == len(data):
            if found == (0, 0):
                raise truncated("HEIF or AVIF without its meta box")
            return found
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if length == 1:
            length = int.from_bytes(data[position + 8 : position + 16], "big")
        elif length == 0:  # up to the end of the file
            length = len(data) - position
        if length < 8 or position + length > len(data):
            raise truncated("HEIF or AVIF with an incomplete box")
        if kind == b"meta":
            found = (position, position + length)
        position += length
    raise corrupt(f"HEIF or AVIF with more than {MAX_PARTS} boxes")
