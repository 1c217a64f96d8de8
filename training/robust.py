"""Robust augmentation: what happens to pictures on their way through platforms, done to training pictures on the fly.

    pixels = robustify(pixels, config.robust, config.seed, epoch, "<image_id>/<variant>")

What is done is a pure function of (seed, epoch, sample) and the settings, and knows no label, so both classes are
treated alike. An operation's draws are its own: turning another on or off changes none of them. What the settings mean,
and the order, is in `training.robust_config`. This module must not keep a state, nor read or advance torch's global
generator (dropout draws from that).
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from pipeline.decode import decode_canonical
from training.robust_config import Blur, Colour, Crop, Jpeg, Noise, Rescale, Robust, Webp

__all__ = ["Operation", "draw", "one_thread", "robustify"]

T = TypeVar("T")
Pixels = NDArray[np.uint8]
Values = Mapping[str, Any]

_FILTERS: Final = ("bilinear", "bicubic")
_SUBSAMPLINGS: Final = ("444", "420")


@dataclass(frozen=True)
class Operation:
    """One thing that is done to a picture.

    Attributes:
        name: a field of `Robust`.
        values: its parameters, as drawn.
    """

    name: str
    values: Values

    def __str__(self) -> str:
        return _KINDS[self.name].caption.format(**self.values)


def draw(config: Robust, seed: int, epoch: int, sample: str) -> list[Operation]:
    """What is done to a picture in an epoch, in order; nothing at all for most pictures where probabilities are low.

    Args:
        config: the settings.
        seed: of the run.
        epoch: counted from 0.
        sample: `<image_id>/<variant>`.
    """
    found: list[Operation] = []
    for name, kind in _KINDS.items():
        setting = getattr(config, name)
        if setting.probability > 0:
            draws = _Draws(f"{seed}/{epoch}/{sample}/{name}")
            if draws.share() < setting.probability:
                found += [Operation(name, values) for values in kind.draw(draws, setting)]
    return found


def robustify(pixels: Pixels, config: Robust, seed: int, epoch: int, sample: str) -> Pixels:
    """A training picture as an epoch sees it.

    Args:
        pixels: uint8 RGB (size, size, 3); left as it is.
        config, seed, epoch, sample: see `draw`.

    Returns:
        uint8 RGB of the same shape, C-contiguous; `pixels` itself if nothing is done to it. The same bits whatever the
        number of threads.
    """
    operations = draw(config, seed, epoch, sample)
    if not operations:
        return pixels
    with one_thread():
        for operation in operations:
            pixels = np.ascontiguousarray(_KINDS[operation.name].apply(pixels, **operation.values))
    return pixels


class _Draws:
    """Random numbers of one operation on one picture, from the raw output that numpy keeps across its versions."""

    def __init__(self, what: str) -> None:
        digest = hashlib.sha256(f"telltale/robust/{what}".encode()).digest()
        self._bits = np.random.PCG64(int.from_bytes(digest, "big"))

    def share(self) -> float:
        """Uniform in [0, 1)."""
        return (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def between(self, low: float, high: float) -> float:
        """Uniform in [low, high)."""
        return low + (high - low) * self.share()

    def whole(self, low: int, high: int) -> int:
        """Uniform over the whole numbers from low to high."""
        return low + int((high - low + 1) * self.share())

    def one_of(self, items: Sequence[T]) -> T:
        """One of the items, each as often as the others."""
        return items[self.whole(0, len(items) - 1)]


def _draw_crop(draws: _Draws, setting: Crop) -> list[Values]:
    return [{"share": draws.between(setting.min_share, 1.0), "down": draws.share(), "right": draws.share()}]


def _draw_rescale(draws: _Draws, setting: Rescale) -> list[Values]:
    factor = setting.factor_min * (setting.factor_max / setting.factor_min) ** draws.share()
    return [{"factor": factor, "there": draws.one_of(_FILTERS), "back": draws.one_of(_FILTERS)}]


def _draw_sigma(draws: _Draws, setting: Blur) -> list[Values]:
    return [{"sigma": draws.between(setting.sigma_min, setting.sigma_max)}]


def _draw_noise(draws: _Draws, setting: Noise) -> list[Values]:
    return [{"sigma": draws.between(setting.sigma_min, setting.sigma_max), "seed": draws.whole(0, 2**48 - 1)}]


def _draw_colour(draws: _Draws, setting: Colour) -> list[Values]:
    factors = {
        name: draws.between(1 - getattr(setting, name), 1 + getattr(setting, name))
        for name in ("brightness", "contrast", "saturation")
    }
    return [{**factors, "hue": draws.between(-setting.hue, setting.hue)}]


def _draw_webp(draws: _Draws, setting: Webp) -> list[Values]:
    return [{"quality": draws.whole(setting.quality_min, setting.quality_max)}]


def _draw_jpeg(draws: _Draws, setting: Jpeg) -> list[Values]:
    times = 2 if draws.share() < setting.twice else 1
    return [
        {"quality": draws.whole(setting.quality_min, setting.quality_max), "subsampling": draws.one_of(_SUBSAMPLINGS)}
        for _ in range(times)
    ]


def _crop(pixels: Pixels, share: float, down: float, right: float) -> Pixels:
    size = len(pixels)
    side = max(1, int(share * size))  # never the whole picture: share is below 1
    top, left = (int(place * (size - side + 1)) for place in (down, right))
    before = (size - side) // 2
    margin = (before, size - side - before)
    # Not v2's pad: it cannot reflect more often than once, which windows under half the side need.
    return np.pad(pixels[top : top + side, left : left + side], (margin, margin, (0, 0)), mode="reflect")


def _rescale(pixels: Pixels, factor: float, there: str, back: str) -> Pixels:
    size = len(pixels)
    side = max(1, round(factor * size))
    between = transforms.resize(_tensor(pixels), [side, side], InterpolationMode(there), antialias=True)
    return _array(transforms.resize(between, [size, size], InterpolationMode(back), antialias=True))


def _blur(pixels: Pixels, sigma: float) -> Pixels:
    radius = min(math.ceil(3 * sigma), len(pixels) - 1)  # beyond three deviations lies 0.3 % of the bell
    return _array(transforms.gaussian_blur(_tensor(pixels), [2 * radius + 1] * 2, [sigma] * 2))


def _noise(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    # Not v2's gaussian_noise: it draws from torch's global generator, so from whatever ran before, and dropout after it
    # would differ between a run whose workers augment and one that augments in its own process.
    noise = torch.randn(pixels.shape, generator=torch.Generator().manual_seed(seed))
    changed = torch.from_numpy(pixels.astype(np.float32)) + sigma * noise
    result: Pixels = changed.round_().clamp_(0, 255).to(torch.uint8).numpy()
    return result


def _colour(pixels: Pixels, brightness: float, contrast: float, saturation: float, hue: float) -> Pixels:
    tensor = transforms.adjust_brightness(_tensor(pixels), brightness)
    tensor = transforms.adjust_contrast(tensor, contrast)
    tensor = transforms.adjust_saturation(tensor, saturation)
    return _array(transforms.adjust_hue(tensor, hue) if hue else tensor)  # nine tenths of the time


def _webp(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=quality)  # v2 has no WebP
    return decode_canonical(buffer.getvalue())


def _jpeg(pixels: Pixels, quality: int, subsampling: str) -> Pixels:
    # Not v2's jpeg: it is always 4:2:0. This is the harmoniser's codec, whose bits are the same on every CPU.
    data = simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling=subsampling, fastdct=False)
    return decode_canonical(data)


@dataclass(frozen=True)
class _Kind:
    """How an operation is drawn and done, and how it is told to people."""

    draw: Callable[[_Draws, Any], list[Values]]
    apply: Callable[..., Pixels]
    caption: str


_KINDS: Final[Mapping[str, _Kind]] = {
    "crop": _Kind(_draw_crop, _crop, "crop to {share:.0%}"),
    "rescale": _Kind(_draw_rescale, _rescale, "rescale to {factor:.0%}, {there}, {back}"),
    "blur": _Kind(_draw_sigma, _blur, "blur {sigma:.2f} px"),
    "noise": _Kind(_draw_noise, _noise, "noise {sigma:.1f} levels"),
    "colour": _Kind(
        _draw_colour,
        _colour,
        "colour: brightness {brightness:.2f}, contrast {contrast:.2f}, saturation {saturation:.2f}, hue {hue:+.3f}",
    ),
    "webp": _Kind(_draw_webp, _webp, "WebP {quality}"),
    "jpeg": _Kind(_draw_jpeg, _jpeg, "JPEG {quality}, {subsampling[0]}:{subsampling[1]}:{subsampling[2]}"),
}
"""The operations in their order, by the name of their settings in `Robust`."""


def _tensor(pixels: Pixels) -> torch.Tensor:
    """uint8 (3, size, size); torch warns of arrays that may not be written to, so such a one is copied."""
    return torch.from_numpy(np.require(pixels, requirements=["C", "W"])).permute(2, 0, 1)


def _array(tensor: torch.Tensor) -> Pixels:
    result: Pixels = tensor.permute(1, 2, 0).contiguous().numpy()
    return result


@contextmanager
def one_thread() -> Iterator[None]:
    """torch's operations run in the calling thread alone, and in threads that first use torch meanwhile.

    Sums of many floats depend on how many threads share them. A loader's worker has one anyway.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
