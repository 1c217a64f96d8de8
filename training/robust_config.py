"""The settings of robust augmentation: what the trainer may do to a training picture, each with a probability.

All are 0, so off, by default. This module must not import torch: `training.config` reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.config import between
from pipeline.errors import ConfigError

__all__ = ["Blur", "Colour", "Crop", "Jpeg", "Noise", "Rescale", "Robust", "Webp"]


@dataclass(frozen=True)
class Crop:
    """A window of the picture at its own resolution, filled up to the full size by reflection.

    Attributes:
        probability: share of the pictures.
        min_share: the window's smallest side as a share of the picture's; the draw is uniform from it to 1.
    """

    probability: float = between(0.0, 1.0, 0.0)
    min_share: float = between(0.1, 1.0, 0.5)


@dataclass(frozen=True)
class Rescale:
    """Down and back up, or up and back down; each way with a filter drawn from bilinear and bicubic, antialiased.

    Attributes:
        probability: share of the pictures.
        factor_min, factor_max: the side in between, as a multiple of the picture's; below 1: down and back up. The
            draw is uniform in the factor's logarithm, so that halving is as likely as doubling.
    """

    probability: float = between(0.0, 1.0, 0.0)
    factor_min: float = between(0.1, 4.0, 0.5)
    factor_max: float = between(0.1, 4.0, 2.0)

    def __post_init__(self) -> None:
        _ordered(self, "rescale", "factor")


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur.

    Attributes:
        probability: share of the pictures.
        sigma_min, sigma_max: its standard deviation in pixels, drawn uniformly.
    """

    probability: float = between(0.0, 1.0, 0.0)
    sigma_min: float = between(0.1, 10.0, 0.3)
    sigma_max: float = between(0.1, 10.0, 2.0)

    def __post_init__(self) -> None:
        _ordered(self, "blur", "sigma")


@dataclass(frozen=True)
class Noise:
    """Gaussian noise, independent for each pixel and channel.

    Attributes:
        probability: share of the pictures.
        sigma_min, sigma_max: its standard deviation in grey levels of 255, drawn uniformly.
    """

    probability: float = between(0.0, 1.0, 0.0)
    sigma_min: float = between(0.0, 100.0, 1.0)
    sigma_max: float = between(0.0, 100.0, 8.0)

    def __post_init__(self) -> None:
        _ordered(self, "noise", "sigma")


@dataclass(frozen=True)
class Colour:
    """Brightness, contrast, saturation and hue, in this order.

    Attributes:
        probability: share of the pictures.
        brightness, contrast, saturation: factors are drawn uniformly from 1 - this to 1 + this.
        hue: turns are drawn uniformly from -this to this; 0.5 is the opposite colour.
    """

    probability: float = between(0.0, 1.0, 0.0)
    brightness: float = between(0.0, 1.0, 0.2)
    contrast: float = between(0.0, 1.0, 0.2)
    saturation: float = between(0.0, 1.0, 0.2)
    hue: float = between(0.0, 0.5, 0.02)


@dataclass(frozen=True)
class Webp:
    """Compressed as WebP.

    Attributes:
        probability: share of the pictures.
        quality_min, quality_max: drawn uniformly over the whole numbers.
    """

    probability: float = between(0.0, 1.0, 0.0)
    quality_min: int = between(0, 100, 50)
    quality_max: int = between(0, 100, 95)

    def __post_init__(self) -> None:
        _ordered(self, "webp", "quality")


@dataclass(frozen=True)
class Jpeg:
    """Compressed as JPEG, with 4:4:4 or 4:2:0 as often as the other.

    Attributes:
        probability: share of the pictures.
        quality_min, quality_max: drawn uniformly over the whole numbers.
        twice: share of these pictures that are compressed a second time, with draws of its own.
    """

    probability: float = between(0.0, 1.0, 0.0)
    quality_min: int = between(1, 100, 50)
    quality_max: int = between(1, 100, 95)
    twice: float = between(0.0, 1.0, 0.0)

    def __post_init__(self) -> None:
        _ordered(self, "jpeg", "quality")


@dataclass(frozen=True)
class Robust:
    """What is done to training pictures on the fly, in the order of the attributes.

    Attributes:
        crop, rescale: geometry.
        blur, noise, colour: pixels.
        webp, jpeg: compression, which platforms do last.
    """

    crop: Crop = field(default_factory=Crop)
    rescale: Rescale = field(default_factory=Rescale)
    blur: Blur = field(default_factory=Blur)
    noise: Noise = field(default_factory=Noise)
    colour: Colour = field(default_factory=Colour)
    webp: Webp = field(default_factory=Webp)
    jpeg: Jpeg = field(default_factory=Jpeg)

    @property
    def on(self) -> bool:
        """Whether anything is ever done to a picture."""
        return any(getattr(self, item.name).probability > 0 for item in fields(self))


def _ordered(setting: Any, operation: str, name: str) -> None:
    low, high = getattr(setting, f"{name}_min"), getattr(setting, f"{name}_max")
    if low > high:
        where = f"robust.{operation}.{name}"
        raise ConfigError(f"'{where}_min' ({low}) is above '{where}_max' ({high})")
