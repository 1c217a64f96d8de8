"""Heads as lists of layers, between a backbone's pooled features and the output. Must not know of backbones or data."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import torch
from torch import nn

from training.config import HeadLayer

__all__ = ["build_head", "calm", "l2_penalty"]

_ACTIVATIONS: Final = {"relu": nn.ReLU, "gelu": nn.GELU}
_CALM: Final = 0.01  # deviation of an output layer's first weights


def build_head(features: int, layers: Sequence[HeadLayer], outputs: int) -> nn.Sequential:
    """The layers in their order and, last, a linear layer called `output`.

    Dense layers begin as Keras' do: Glorot-uniform weights (Glorot & Bengio 2010), biases of zero.

    Args:
        features: width of what comes in, float32 (n, features).
        layers: what the configuration lists.
        outputs: width of what goes out, float32 (n, outputs).
    """
    made: OrderedDict[str, nn.Module] = OrderedDict()
    width = features
    for number, layer in enumerate(layers):
        if layer.dense:
            dense = nn.Linear(width, layer.dense)
            nn.init.xavier_uniform_(dense.weight)
            nn.init.zeros_(dense.bias)
            made[f"dense{number}"], width = dense, layer.dense
            if layer.activation != "none":
                made[f"{layer.activation}{number}"] = _ACTIVATIONS[layer.activation]()
        elif layer.batch_norm:
            made[f"batch_norm{number}"] = nn.BatchNorm1d(width, eps=1e-3, momentum=0.01)
        else:
            made[f"dropout{number}"] = nn.Dropout(layer.dropout)
    made["output"] = nn.Linear(width, outputs)
    calm(made["output"])
    return nn.Sequential(made)


def calm(head: nn.Module) -> None:
    """Let a head begin with outputs near zero. Some models draw its weights from ±1/sqrt(outputs), meant for 1000
    classes; with one output the first losses would be those of a very certain and very wrong detector."""
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=_CALM)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def l2_penalty(head: nn.Module, layers: Sequence[HeadLayer]) -> torch.Tensor | None:
    """The sum over the dense layers of `l2` times the sum of their squared weights, or None where no layer has one."""
    parts = [
        layer.l2 * head.get_submodule(f"dense{number}").weight.square().sum()  # type: ignore[operator]
        for number, layer in enumerate(layers)
        if layer.l2
    ]
    return torch.stack(parts).sum() if parts else None
