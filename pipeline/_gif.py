"""GIF: all blocks walked to the trailer, then Pillow for the first frame."""

from __future__ import annotations

from PIL import GifImagePlugin

from pipeline._layout import MAX_PARTS, Layout, corrupt, truncated, unsupported_pixels
from pipeline._pillow import load

__all__ = ["MAGICS", "read"]

MAGICS = (b"GIF87a", b"GIF89a")

_EXTENSION, _PICTURE, _TRAILER = 0x21, 0x2C, 0x3B


def read(data: bytes) -> Layout:
    """The layout of a GIF file; of an animation, the first frame is the picture."""
    if len(data) < 13:
        raise truncated("GIF ends in its header")
    width, height = _u16(data, 6), _u16(data, 8)
    position = 13 + _table_bytes(data[10])
    frames = 0
    first_end = 0
    for _ in range(MAX_PARTS):
        kind = _byte(data, position)
        if kind == _TRAILER:
            break
        if kind == _EXTENSION:
            position = _skip_blocks(data, position + 2)
        elif kind == _PICTURE:
            if frames == 0:
                _check_frame(data, position, width, height)
            position = _skip_picture(data, position)
            frames += 1
            first_end = first_end or position
        else:
            raise corrupt(f"GIF: no block at byte {position}")
    else:
        raise corrupt(f"GIF with more than {MAX_PARTS} blocks")
    if not frames or not width or not height:
        raise corrupt("GIF without a picture")
    picture = data[:first_end] + b";"
    return Layout("GIF", width, height, lambda: load(GifImagePlugin.GifImageFile, picture, (width, height)))


def _check_frame(data: bytes, position: int, width: int, height: int) -> None:
    """Pixels of the canvas that no frame has drawn yet have no colour, so the first frame must fill it."""
    if position + 10 > len(data):
        raise truncated("GIF frame incomplete")
    left, top, across, down = (_u16(data, position + step) for step in (1, 3, 5, 7))
    if (left, top, across, down) != (0, 0, width, height):
        raise unsupported_pixels("GIF whose first frame does not fill the canvas")


def _skip_picture(data: bytes, position: int) -> int:
    return _skip_blocks(data, position + 10 + _table_bytes(_byte(data, position + 9)) + 1)


def _skip_blocks(data: bytes, position: int) -> int:
    """The position after a run of sub-blocks and the empty one that ends it."""
    size = len(data)
    while position < size:
        length = data[position]
        position += 1 + length
        if length == 0:
            return position
    raise truncated("GIF without its trailer")


def _byte(data: bytes, position: int) -> int:
    if position >= len(data):
        raise truncated("GIF without its trailer")
    return data[position]


def _u16(data: bytes, position: int) -> int:
    return data[position] | data[position + 1] << 8


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0
