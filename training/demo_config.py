"""The settings of the demo's pictures, and the command that checks them.

`python -m training.demo_config --config F` prints them all, and says what is wrong otherwise. This file must not import
torch: a workflow checks all its sections before any engine starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from pipeline.cli import show_config
from pipeline.config import above, at_least, between
from pipeline.errors import ConfigError

__all__ = ["CELL", "SECTION", "AutoEncoderConfig", "DemoConfig"]

SECTION: Final = "demo"
CELL: Final = 4
"""Pixels on a side of the cell that one latent position stands for."""


@dataclass(frozen=True)
class AutoEncoderConfig:
    """How the auto-encoders are made.

    Attributes:
        latents: numbers kept of a 4 × 4 cell's 48; fewer of them blur the pictures.
        noise: deviation of the noise on the latents when a photograph is re-synthesised, where pixels span [-1, 1];
            more of it makes grainier pictures, which are easier to detect.
        channels: width of the hidden layers.
        steps, batch, crop: optimiser steps, crops in a step, side of a crop in pixels.
        learning_rate: Adam's highest, with a short warm-up and cosine decay.
        seed: of the weights and of the crops.
    """

    latents: int = between(4, 3 * CELL * CELL, 20)
    noise: float = at_least(0, 0.12)
    channels: int = at_least(2, 48)
    steps: int = at_least(1, 300)
    batch: int = at_least(1, 16)
    crop: int = at_least(8 * CELL, 64)
    learning_rate: float = above(0, 0.0015)
    seed: int = at_least(0, 0)


@dataclass(frozen=True)
class DemoConfig:
    """The demo's pictures.

    Attributes:
        longest_side: photographs with a longer side are made smaller first (pixels).
        train_scales: photographs of the training split are used at each of these scales, in (0, 1]: a photograph made
            smaller has finer texture, which the few scenes have little of.
        tile: side of a tile (pixels).
        stride: from tile to tile (pixels). Less than `tile` makes tiles of one photograph overlap, which leaks nothing:
            a photograph is whole in one split. An odd number lets tiles begin at every phase of the decoders' grid.
        border: tiles keep this far from the border of the photograph (pixels), where decoders leave padding.
        min_deviation: tiles flatter than this are left out, of both classes: the largest of the three channels'
            standard deviations, in grey levels, of the photograph's tile.
        min_psnr: a re-synthesis below this fails the command (dB).
        autoencoder: how the auto-encoders are made.
    """

    longest_side: int = at_least(256, 640)
    train_scales: tuple[float, ...] = (1.0, 0.75, 0.5)
    tile: int = at_least(32, 64)
    stride: int = at_least(4, 31)
    border: int = at_least(0, 16)
    min_deviation: float = at_least(0, 4.0)
    min_psnr: float = at_least(0, 26.0)
    autoencoder: AutoEncoderConfig = field(default_factory=AutoEncoderConfig)

    def __post_init__(self) -> None:
        """Check that a tile and a crop fit into the smallest photograph that these settings allow for."""
        scales = self.train_scales
        if not scales or len({round(100 * scale) for scale in scales}) < len(scales):
            raise ConfigError(f"'train_scales' must be one or more different scales, got {list(scales)}")
        if not all(0 < scale <= 1 for scale in scales):
            raise ConfigError(f"'train_scales' must lie in (0, 1], got {list(scales)}")
        smallest = int(min(scales) * self.longest_side / 2)  # the photographs are at most twice as wide as high
        for name, need in (("tile", self.tile + 2 * self.border), ("autoencoder.crop", self.autoencoder.crop)):
            if need > smallest:
                raise ConfigError(
                    f"'{name}': needs {need} pixels, but a photograph may be no more than {smallest} high with "
                    f"longest_side {self.longest_side} and scale {min(scales)}: lower it, or raise one of these"
                )


if __name__ == "__main__":
    raise SystemExit(show_config(DemoConfig, SECTION))
