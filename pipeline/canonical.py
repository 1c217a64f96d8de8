"""Canonical pixels: decode → geometry → harmonise, the one path from an original file to what a model sees.

Statistics, augmentation, training, evaluation and serving call these functions and no others. This module must not
know where the bytes come from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.decode import DecodeLimits, Original, decode, decode_canonical
from pipeline.geometry import Geometry, to_geometry
from pipeline.harmonise import Harmonise, draw_quality, harmonise

__all__ = ["Canonical", "CanonicalPicture", "canonical_pixels", "canonicalise", "square"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Canonical:
    """Everything that decides the canonical pixels of an original file."""

    limits: DecodeLimits = field(default_factory=DecodeLimits)
    geometry: Geometry = field(default_factory=Geometry)
    harmonise: Harmonise = field(default_factory=Harmonise)


@dataclass(frozen=True)
class CanonicalPicture:
    """A canonical picture as it is stored: `image` decodes to the canonical pixels."""

    image: bytes
    quality: int
    image_id: str
    original: Original

    def columns(self) -> dict[str, Any]:
        """The record columns that follow from the file's bytes alone."""
        o = self.original
        return {
            "image": self.image,
            "image_id": self.image_id,
            "quality": self.quality,
            "format": o.format,
            "width": o.width,
            "height": o.height,
            "bytes": o.bytes,
            "quantization": o.quantization,
            "has_exif": o.has_exif,
        }


def square(data: bytes, setting: Canonical) -> tuple[Array, Original]:
    """Decode and bring to geometry, before harmonising.

    Returns:
        uint8 RGB (size, size, 3), and what the original was.

    Raises:
        ImageError: the file cannot be used.
    """
    pixels, original = decode(data, setting.limits)
    return to_geometry(pixels, setting.geometry), original


def canonicalise(data: bytes, setting: Canonical, training: bool = False) -> CanonicalPicture:
    """An original file's canonical picture.

    Args:
        data: the original file's bytes.
        setting: geometry, harmoniser, limits.
        training: draw the quality by the picture's hash, as for rows of the training split; otherwise the fixed one.

    Raises:
        ImageError: the file cannot be used.
    """
    pixels, original = square(data, setting)
    image_id = hashlib.sha256(data).hexdigest()
    quality = draw_quality(image_id, setting.harmonise) if training else setting.harmonise.quality
    return CanonicalPicture(harmonise(pixels, quality, setting.harmonise), quality, image_id, original)


def canonical_pixels(data: bytes, setting: Canonical) -> Array:
    """The pixels that evaluation and serving give to a model: uint8 RGB (size, size, 3).

    Raises:
        ImageError: the file cannot be used.
    """
    return decode_canonical(canonicalise(data, setting).image)
