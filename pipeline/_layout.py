"""What a look at a file's structure tells before any pixel is decoded; shared by the readers of each format.

A reader (`_jpeg.read`, `_png.read`, …) takes the bytes of a file, walks its structure to the end, and returns
a `Layout` or raises `ImageError`. It must not decode pixels, and must not trust a length that it has not
compared with the number of bytes there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ImageError

__all__ = ["MAX_PARTS", "Layout", "Pixels", "Tables", "corrupt", "truncated", "unsupported_pixels"]

Pixels = NDArray[np.uint8]
Tables = tuple[tuple[int, ...], ...]

# No encoder cuts 64 MB into this many segments, chunks or sub-blocks; a walk over more would only cost time.
MAX_PARTS = 1_000_000


@dataclass(frozen=True)
class Layout:
    """A file whose structure is complete; `load` decodes it to uint8 RGB (height, width, 3), not upright."""

    format: str
    width: int
    height: int
    load: Callable[[], Pixels]
    orientation: int = 1
    has_exif: bool = False
    quantization: Tables | None = None


def truncated(what: str) -> ImageError:
    """The error for a file that ends too early."""
    return ImageError("truncated", f"{what}: the file is cut off; fetch or copy it again")


def corrupt(what: str) -> ImageError:
    """The error for a file that contradicts its own format."""
    return ImageError("corrupt", f"{what}: the file is damaged; fetch or export it again")


def unsupported_pixels(what: str) -> ImageError:
    """The error for pixels that have no exact meaning as 8-bit RGB."""
    return ImageError("unsupported_pixels", f"{what}: convert the picture to 8-bit RGB (PNG or JPEG) first")
