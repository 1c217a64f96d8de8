"""Variants: the names of augmented copies, what each does to canonical pixels, and the codec that stores the result.

    identity            the picture itself; its row keeps the dataset's JPEG bytes to the letter
    hflip, vflip        left and right, top and bottom exchanged
    rot90, rot180, rot270   turned by a quarter, a half, three quarters of a circle, COUNTER-CLOCKWISE, as `np.rot90`
    transpose           rows and columns exchanged
    rotate<degrees>     turned by any other angle, counter-clockwise, corners filled by reflection: rotate15, rotate-7.5

All but `rotate…` only move pixels about. `rotate…` resamples (bicubic), which softens the finest traces of a generator
as well as of a camera; it does so to both classes alike.

How a variant is stored. No row may carry a lossy generation more than another, and every one has passed the harmoniser
exactly once. Three ways do that; benchmarks/results/variants.md has the figures (`python -m benchmarks.variants`):

- *JPEG domain* (libjpeg-turbo's transforms): a quarter of the bytes, and the quickest, but it needs libturbojpeg on the
  machine (PyTurboJPEG's wheel brings none); it cannot turn by an angle; and what it decodes to is not the turned
  picture, because chroma upsampling and the inverse DCT round differently in the two directions: up to 3 grey levels in
  7 % of the samples.
- *Transforming before harmonising* needs the original files again at augmentation, which then lie on the way of every
  run, and its cost grows with their size, not with the dataset's.
- *A lossless codec* of the transformed canonical pixels is exact, needs only what the core has, and knows all variants.

So: lossless WebP by Pillow at its quickest setting, 4.4 ms and 74 kB for a variant of 256 px. Every PNG setting of
Pillow and OpenCV that compresses makes larger files (94 to 107 kB) and decodes more slowly; only OpenCV's encode a
little faster, and OpenCV is no dependency of the core. The bytes are the same with and without the processor's vector
instructions (a test holds it to that).

This module must know neither files nor engines.
"""

from __future__ import annotations

import difflib
import io
import math
import re
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from PIL import Image

from pipeline.errors import ConfigError

__all__ = ["EXACT", "IDENTITY", "check_variants", "encode_lossless", "transform"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Transform = Callable[[Array], Array]

IDENTITY: Final = "identity"

_MOVES: Final[dict[str, Transform]] = {
    IDENTITY: lambda pixels: pixels,
    "hflip": lambda pixels: pixels[:, ::-1],
    "vflip": lambda pixels: pixels[::-1],
    "rot90": lambda pixels: np.rot90(pixels),
    "rot180": lambda pixels: np.rot90(pixels, 2),
    "rot270": lambda pixels: np.rot90(pixels, 3),
    "transpose": lambda pixels: pixels.transpose(1, 0, 2),
}
EXACT: Final = tuple(_MOVES)
"""The variants that only move pixels about."""

_ROTATE = re.compile(r"rotate(-?\d+(?:\.\d+)?)")
_QUARTERS: Final[dict[float, str]] = {0: IDENTITY, 90: "rot90", 180: "rot180", 270: "rot270"}


def transform(name: str) -> Transform:
    """The function behind a variant's name: uint8 RGB (size, size, 3) to the same shape and type, C-contiguous.

    Raises:
        ConfigError: no such variant; the message names the nearest one.
    """
    move = _MOVES.get(name)
    if move is not None:
        return lambda pixels: np.ascontiguousarray(move(pixels))
    degrees = _degrees(name)
    return lambda pixels: _rotate(pixels, degrees)


def check_variants(names: Sequence[str]) -> None:
    """Refuse a list of variants that is empty, or has an unknown one or one twice.

    Raises:
        ConfigError: naming it, and the nearest right one.
    """
    if not names:
        raise ConfigError(f"variants: the list is empty; name at least one of {_known()}.")
    for name in names:
        transform(name)
    twice = [name for index, name in enumerate(names) if name in names[:index]]
    if twice:
        raise ConfigError(f"variants: '{twice[0]}' is there twice; a picture would get two equal rows.")


def _degrees(name: str) -> float:
    found = _ROTATE.fullmatch(name)
    if not found:
        near = difflib.get_close_matches(name, EXACT, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known: {_known()}."
        raise ConfigError(f"variants: unknown variant '{name}': {hint}")
    degrees = float(found[1])
    quarter = _QUARTERS.get(degrees % 360)
    if quarter:
        raise ConfigError(f"variants: write '{name}' as '{quarter}', which moves pixels without resampling.")
    if not -180 < degrees < 180:
        raise ConfigError(f"variants: '{name}': degrees must lie between -180 and 180.")
    if name != f"rotate{degrees:.10g}":
        raise ConfigError(f"variants: write '{name}' as 'rotate{degrees:.10g}': one variant, one name.")
    return degrees


def _known() -> str:
    return f"{', '.join(EXACT)}, rotate<degrees> (rotate15, rotate-7.5)"


def _rotate(pixels: Array, degrees: float) -> Array:
    """Turn about the centre, counter-clockwise, bicubic; what comes in from outside is the picture's reflection.

    The reflection is without the edge row itself (`np.pad`'s `reflect`), and reaches to the half diagonal plus the
    two pixels that bicubic interpolation looks beyond.
    """
    height, width = pixels.shape[:2]
    margin = math.ceil((math.hypot(height, width) - min(height, width)) / 2) + 2
    wide = np.pad(pixels, ((margin, margin), (margin, margin), (0, 0)), mode="reflect")
    turned = np.asarray(Image.fromarray(wide).rotate(degrees, Image.Resampling.BICUBIC))
    return np.ascontiguousarray(turned[margin : margin + height, margin : margin + width])


def encode_lossless(pixels: Array) -> bytes:
    """A lossless WebP file whose decoded pixels are these; the same pixels give the same bytes on every processor.

    Args:
        pixels: uint8 RGB, (height, width, 3), sides of at most 16383.
    """
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()
