"""Harmonising: both classes go through the same codec, so that a model cannot learn that PNG means generated.

Training pictures draw their quality from one distribution by the picture's hash; validation, test, ood and serving use
one fixed setting. A picture is harmonised exactly once in its life: the stored row is the harmoniser's own output.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
import simplejpeg

from pipeline.config import between
from pipeline.errors import ConfigError

__all__ = ["Harmonise", "draw_quality", "harmonise"]

Array = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]


@dataclass(frozen=True)
class Harmonise:
    """The harmoniser's setting (JPEG, baseline, libjpeg-turbo, standard tables).

    Attributes:
        train_quality_min: lowest quality of a training picture.
        train_quality_max: highest; the draw is uniform over the whole numbers from min to max.
        quality: the one quality of validation, test, ood and serving.
        subsampling: chroma subsampling of all.
    """

    train_quality_min: int = between(1, 100, 80)
    train_quality_max: int = between(1, 100, 98)
    quality: int = between(1, 100, 90)
    subsampling: Literal["420", "422", "444"] = "420"

    def __post_init__(self) -> None:
        if self.train_quality_min > self.train_quality_max:
            raise ConfigError(
                f"harmonise.train_quality_min ({self.train_quality_min}) is above "
                f"harmonise.train_quality_max ({self.train_quality_max})."
            )


def draw_quality(image_id: str, setting: Harmonise) -> int:
    """The JPEG quality of a training picture: uniform in [min, max], a pure function of the picture's hash."""
    digest = hashlib.sha256(b"telltale/quality/" + image_id.encode()).digest()
    span = setting.train_quality_max - setting.train_quality_min + 1
    return setting.train_quality_min + int.from_bytes(digest[:8], "big") % span


def harmonise(pixels: Array, quality: int, setting: Harmonise) -> bytes:
    """Encode a canonical square; decoding the result gives the canonical pixels.

    Args:
        pixels: uint8 RGB, (size, size, 3), C-contiguous.
        quality: 1 to 100.
        setting: subsampling.

    Returns:
        A JPEG file.
    """
    data: bytes = simplejpeg.encode_jpeg(
        pixels, quality=quality, colorspace="RGB", colorsubsampling=setting.subsampling, fastdct=False
    )
    return data
