"""The detector: uint8 pictures in, one logit each out; normalising is inside, so nobody can forget it.

This module must not train, nor read shards.
"""

from __future__ import annotations

import difflib
from typing import Any, Final

import timm
import torch
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

import training.vit  # noqa: F401 -- makes a model of ours known to timm
from pipeline.errors import ConfigError
from training.config import TrainingConfig
from training.head import build_head, calm
from training.inputs import Inputs
from training.weights import hub_file, load_weights

__all__ = ["Detector", "build_detector", "join_batch_norm"]

_ONNX_BYTES: Final = 1_900_000_000  # a protobuf message ends at 2 GiB


class Detector(nn.Module):
    """A backbone behind the normaliser, and a head behind it.

    Args:
        backbone: float32 (n, 3, size, size) to (n, 1) or (n, 2); with a head, to (n, features).
        mean, std: per channel, in [0, 1].
        channels_last: memory layout of the backbone's input.
        head: float32 (n, features) to (n, 1) or (n, 2); None: the backbone has its own.
    """

    def __init__(
        self,
        backbone: nn.Module,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        channels_last: bool = False,
        head: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Identity() if head is None else head
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """The logit of "AI-generated".

        Args:
            pixels: uint8 (n, size, size, 3), canonical RGB.

        Returns:
            float32 (n,). Two outputs become their difference: softmax(z)[1] = sigmoid(z[1] - z[0]).
        """
        normal = (pixels.float() / 255.0 - self.mean) / self.std
        outputs = self.head(self.backbone(normal.permute(0, 3, 1, 2).contiguous(memory_format=self.layout))).float()
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs[:, 1] - outputs[:, 0]


def build_detector(config: TrainingConfig, inputs: Inputs, initial: bool = True) -> Detector:
    """A detector with its initial weights, on the CPU; random ones are a function of the seed.

    Args:
        config: model, head, outputs, drop rates, weights, memory layout.
        inputs: size, mean and standard deviation.
        initial: whether to load pretrained weights (a checkpoint replaces them anyway).

    Raises:
        ConfigError: no such timm model, or it does not take these settings.
        UsageError, SetupError: the weights cannot be had.
    """
    torch.manual_seed(config.seed)
    extra: dict[str, Any] = {}
    if config.pretrained is True and initial:
        extra = {"pretrained": True, "pretrained_cfg_overlay": {"file": hub_file(config.model)}}
    backbone = _create(config, inputs.canonical.geometry.size, extra)
    head = _own_head(backbone, config)
    if isinstance(config.pretrained, str) and initial:
        load_weights(backbone, config.pretrained, head)
    detector = Detector(backbone, inputs.mean, inputs.std, config.channels_last, head)
    if sum(p.numel() * p.element_size() for p in detector.parameters()) > _ONNX_BYTES:
        raise ConfigError(f"'model': {config.model} is too large for one ONNX file (2 GB): choose a smaller one")
    return detector.to(memory_format=torch.channels_last) if config.channels_last else detector


def join_batch_norm(detector: Detector) -> None:
    """Let batch norm take its statistics over the batches of all ranks (GPUs only; as before in validation)."""
    detector.backbone = convert_sync_batchnorm(detector.backbone)  # timm's knows timm's batch norms with activations
    detector.head = convert_sync_batchnorm(detector.head)


def _own_head(backbone: nn.Module, config: TrainingConfig) -> nn.Module | None:
    """The head that the configuration lists; where it lists none, timm's own is made calm."""
    if config.head:
        width: Any = getattr(backbone, "head_hidden_size", None) or backbone.num_features
        return build_head(width, config.head, config.outputs)
    find: Any = getattr(backbone, "get_classifier", lambda: None)
    if isinstance(head := find(), nn.Module):
        calm(head)
    return None


def _create(config: TrainingConfig, size: int, extra: dict[str, Any]) -> nn.Module:
    if not timm.is_model(config.model):
        near = difflib.get_close_matches(config.model, timm.list_models(), n=3, cutoff=0.5)
        hint = f": did you mean {' or '.join(near)}?" if near else "; timm.list_models() lists them"
        raise ConfigError(f"'model': timm has no '{config.model}'{hint}")
    rates = {"drop_rate": config.drop_rate, "drop_path_rate": config.drop_path_rate}
    extra |= {key: value for key, value in rates.items() if value}  # not every model takes each
    fixed: Any = timm.get_pretrained_cfg(config.model, allow_unregistered=False)
    if fixed is not None and fixed.fixed_input_size:  # transformers have a weight a position
        extra["img_size"] = size
    try:
        return timm.create_model(config.model, num_classes=0 if config.head else config.outputs, **extra)
    except (TypeError, RuntimeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"'model': {config.model} cannot be made for {size} px with {config.outputs} output(s) and "
            f"{ {key: value for key, value in rates.items() if value} }: {error}"
        ) from error
