"""Small convolutional auto-encoders that re-synthesise whole photographs: the demo's "AI-generated" pictures.

Two of them, alike in the encoder and different in what leaves the traces, the decoder: `pixelshuffle` computes all
pixels of a 4 × 4 cell at once and lays them out (sub-pixel convolution, Shi et al. 2016); `transposed` spreads each
latent over overlapping cells by transposed convolutions, whose uneven overlap leaves another pattern (Odena et al.,
"Deconvolution and Checkerboard Artifacts", 2016). The encoder is the principal components of the photographs' own
4 × 4 cells, as a convolution; each decoder starts as its transpose, together the best linear auto-encoder there is,
and learns on from there: good pictures after seconds, and latents whose scale is known.

A re-synthesis is sampled: noise is laid on the latents, as a variational auto-encoder or a latent diffusion model
would, and the decoder, which was trained without it, turns it into fine grain. Without sampling,
easy photographs would come back all but unchanged (44 dB), with no trace to be found after JPEG.

Each network runs on one torch thread, so that a result does not depend on the number of cores; two of them fill two
cores. This file must not know what the pictures are for, nor write any file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from training.demo_config import CELL, AutoEncoderConfig

__all__ = ["THREADS", "AutoEncoder", "Decoder", "psnr", "resynthesise", "train_auto_encoder"]

Pixels = NDArray[np.uint8]
Decoder = Literal["pixelshuffle", "transposed"]

THREADS: Final = 1  # torch threads of one network
_FEATURES: Final = 3 * CELL * CELL
_RIM: Final = 2 * CELL  # pixels at a border that are computed but not used
_PCA_CELLS: Final = 5000  # cells drawn from each photograph


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = _silent(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.second(F.silu(self.first(x)))
        return out


def _fill(layer: nn.Conv2d | nn.ConvTranspose2d, weight: Tensor, bias: Tensor) -> None:
    with torch.no_grad():
        layer.weight.copy_(weight)
        if layer.bias is not None:
            layer.bias.copy_(bias)


def _silent(layer: nn.Conv2d | nn.ConvTranspose2d) -> nn.Module:
    """A layer that contributes nothing at first, so that training starts exactly at the linear solution."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class AutoEncoder(nn.Module):
    """Principal components as encoder; as decoder their transpose plus a learned correction.

    Args:
        decoder: which decoder.
        plan: sizes.
        components: orthonormal principal components of 4 × 4 cells, (48, latents).
        mean: mean cell, (48,).
    """

    def __init__(self, decoder: Decoder, plan: AutoEncoderConfig, components: Tensor, mean: Tensor) -> None:
        super().__init__()
        self.detail = _luminance_detail(components)
        self.encoder = nn.Conv2d(_FEATURES, plan.latents, 1).requires_grad_(False)
        make = _pixelshuffle if decoder == "pixelshuffle" else _transposed
        self.linear, self.correction = make(plan.latents, plan.channels, components, mean)
        _fill(self.encoder, components.T[:, :, None, None], -(mean @ components))

    def encode(self, pictures: Tensor) -> Tensor:
        """Float (n, 3, height, width) in [-1, 1], sides a multiple of 4, to (n, latents, height / 4, width / 4)."""
        latents: Tensor = self.encoder(F.pixel_unshuffle(pictures, CELL))
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Latents back to pictures, shapes as in `encode`."""
        pictures: Tensor = self.linear(latents) + self.correction(latents)
        return pictures


def _luminance_detail(components: Tensor) -> Tensor:
    """How much of each component (48, latents) is detail in luminance, neither colour nor a cell's mean: (latents,)."""
    cells = components.reshape(3, CELL * CELL, -1)
    grey = cells.mean(0)
    return 3 * (grey - grey.mean(0)).square().sum(0)  # the squared length of what is left of a unit vector


def _pixelshuffle(latents: int, width: int, components: Tensor, mean: Tensor) -> tuple[nn.Module, nn.Module]:
    linear = nn.Conv2d(latents, _FEATURES, 1)
    _fill(linear, components[:, :, None, None], mean)
    more = nn.Sequential(
        nn.Conv2d(latents, width, 3, padding=1), _Residual(width), _Residual(width), nn.SiLU(),
        _silent(nn.Conv2d(width, _FEATURES, 3, padding=1)), nn.PixelShuffle(CELL),
    )  # fmt: skip
    return nn.Sequential(linear, nn.PixelShuffle(CELL)), more


def _transposed(latents: int, width: int, components: Tensor, mean: Tensor) -> tuple[nn.Module, nn.Module]:
    # A kernel of twice the stride: each latent's picture is mirrored outwards and fades over its neighbours' cells.
    linear = nn.ConvTranspose2d(latents, 3, 2 * CELL, CELL, padding=CELL // 2)
    fade = torch.sin(torch.pi * (torch.arange(2 * CELL) + 0.5) / (2 * CELL)) ** 2  # fade[i] + fade[i + CELL] = 1
    cells = components.T.reshape(latents, 3, CELL, CELL)
    mirrored = np.pad(cells.numpy(), ((0, 0), (0, 0), *2 * ((CELL // 2, CELL // 2),)), mode="symmetric")
    _fill(linear, torch.from_numpy(mirrored) * fade[:, None] * fade, mean.reshape(3, -1).mean(1))
    half = width // 2 or 1
    more = nn.Sequential(
        nn.Conv2d(latents, width, 3, padding=1), _Residual(width), nn.SiLU(),
        nn.ConvTranspose2d(width, half, 3, 2, 1, output_padding=1), nn.SiLU(),
        _silent(nn.ConvTranspose2d(half, 3, 3, 2, 1, output_padding=1)),
    )  # fmt: skip
    return linear, more


def _principal_components(
    photographs: Sequence[Pixels], latents: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """(components (48, latents), mean (48,)) of 4 × 4 cells drawn equally from every photograph."""
    drawn = []
    for pixels in photographs:
        height, width = (side // CELL * CELL for side in pixels.shape[:2])
        cells = F.pixel_unshuffle(_to_tensor(pixels[None, :height, :width]), CELL)[0].flatten(1).T
        drawn.append(cells[torch.from_numpy(rng.choice(len(cells), min(_PCA_CELLS, len(cells)), replace=False))])
    every = torch.cat(drawn).double()
    mean = every.mean(0)
    _, vectors = torch.linalg.eigh(torch.cov((every - mean).T))
    return vectors.flip(1)[:, :latents].float().contiguous(), mean.float()


def _to_tensor(pixels: Pixels) -> Tensor:
    """uint8 (n, height, width, 3) to float32 (n, 3, height, width) in [-1, 1]."""
    return torch.tensor(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _crops(photographs: Sequence[Pixels], plan: AutoEncoderConfig, rng: np.random.Generator) -> Tensor:
    crops = []
    for index in rng.integers(len(photographs), size=plan.batch):
        pixels = photographs[index]
        y, x = (int(rng.integers(side - plan.crop + 1)) for side in pixels.shape[:2])
        crops.append(pixels[y : y + plan.crop, x : x + plan.crop])
    return _to_tensor(np.stack(crops))


def _inner(pictures: Tensor) -> Tensor:
    """Without the rim, where decoders lack neighbours."""
    return pictures[:, :, _RIM:-_RIM, _RIM:-_RIM]


_making = threading.Lock()


def train_auto_encoder(
    decoder: Decoder,
    photographs: Sequence[Pixels],
    plan: AutoEncoderConfig,
    after_step: Callable[[], object] = lambda: None,
) -> AutoEncoder:
    """Train one auto-encoder on crops of all photographs, by mean squared error, on one thread.

    Safe to call from several threads at once, one network in each. The same arguments give the same weights on one
    type of CPU. (All photographs, because what is to be detected is the re-synthesis; the split by scenes is the
    detector's.)

    Args:
        decoder: which decoder.
        photographs: uint8 RGB arrays, each side at least `plan.crop`.
        plan: sizes, steps, seed.
        after_step: called after every step; what it raises ends the training.
    """
    torch.set_num_threads(THREADS)
    rng = np.random.default_rng(plan.seed)
    components, mean = _principal_components(photographs, plan.latents, rng)
    with _making, torch.random.fork_rng(devices=[]):  # layers draw from torch's one global generator
        torch.manual_seed(plan.seed)
        model = AutoEncoder(decoder, plan, components, mean)
    learned = [*model.linear.parameters(), *model.correction.parameters()]
    optimiser = torch.optim.Adam(learned, lr=plan.learning_rate)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, plan.learning_rate, total_steps=plan.steps + 1, pct_start=0.1)
    for _ in range(plan.steps):
        crops = _crops(photographs, plan, rng)
        optimiser.zero_grad()
        F.mse_loss(_inner(model.decode(model.encode(crops))), _inner(crops)).backward()
        nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        rate.step()
        after_step()
    return model.eval()


def resynthesise(model: AutoEncoder, pixels: Pixels, noise: float, seed: int) -> Pixels:
    """A whole photograph through the encoder, sampled, and through the decoder.

    Only latents of detail in luminance are sampled. Means of cells, sampled, would make flat places blotchy; colour
    noise is ugly, and JPEG drops most of it.

    Args:
        model: what `train_auto_encoder` returned.
        pixels: uint8 RGB (height, width, 3).
        noise: standard deviation of the Gaussian noise on those latents. Pixels span [-1, 1] and the components are
            orthonormal, so n such latents add n noise² / 48 to the mean squared error, less what the decoder mends.
        seed: of the noise.

    Returns:
        uint8 RGB (height, width, 3).
    """
    height, width = pixels.shape[:2]
    around = [(_RIM, _RIM + -side % CELL) for side in (height, width)]
    padded = np.pad(pixels, (*around, (0, 0)), mode="reflect")
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode():
        latents = model.encode(_to_tensor(padded[None]))
        sampled = torch.randn(latents.shape, generator=generator)
        latents = latents + noise * model.detail[:, None, None] * sampled
        out = _inner(model.decode(latents))[0, :, :height, :width]
    return ((out.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).contiguous().numpy()


def psnr(first: Pixels, second: Pixels) -> float:
    """Peak signal-to-noise ratio in dB, 10 log10(255² / mean squared error); infinite for equal pictures."""
    error = float(np.mean((first.astype(np.float64) - second.astype(np.float64)) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(255.0**2 / error))
