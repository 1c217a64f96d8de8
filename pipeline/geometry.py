"""Geometry: from a decoded picture of any size to the canonical square.

This module must not decode or encode.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from pipeline.config import multiple_of

__all__ = ["Geometry", "to_geometry"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "box": Image.Resampling.BOX,
}


@dataclass(frozen=True)
class Geometry:
    """How a picture becomes a square.

    Attributes:
        mode: `resize`: the shorter side becomes `size`, then the centre is cropped; `native`: the centre is cropped at
            the picture's own resolution, which keeps a generator's traces, but shows the less of what was pictured, the
            larger the file (a picture smaller than `size` is first enlarged as by `resize`).
        size: side of the square in pixels, a multiple of 16 (a JPEG MCU at 4:2:0).
        filter: resampling filter.
    """

    mode: Literal["resize", "native"] = "resize"
    size: int = multiple_of(16, 256)
    filter: Literal["lanczos", "bicubic", "bilinear", "box"] = "lanczos"


def to_geometry(pixels: Array, geometry: Geometry) -> Array:
    """Resize and crop.

    Args:
        pixels: uint8 RGB, (H, W, 3).
        geometry: what to do.

    Returns:
        uint8 RGB, (size, size, 3), C-contiguous.
    """
    height, width = pixels.shape[:2]
    size, shorter = geometry.size, min(height, width)
    if shorter != size and (geometry.mode == "resize" or shorter < size):
        target = (max(size, round(width * size / shorter)), max(size, round(height * size / shorter)))
        pixels = np.asarray(Image.fromarray(pixels).resize(target, _FILTERS[geometry.filter]))
        height, width = pixels.shape[:2]
    top, left = (height - size) // 2, (width - size) // 2
    return np.ascontiguousarray(pixels[top : top + size, left : left + size])
