"""Losses and optimisers. The learning rate is `training.schedule`'s."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from timm.optim._param_groups import param_groups_layer_decay, param_groups_weight_decay

from training.config import TrainingConfig
from training.inputs import Split
from training.model import Detector

__all__ = ["class_weights", "losses_of", "make_optimizer"]


def make_optimizer(detector: Detector, config: TrainingConfig, lr: float) -> torch.optim.Optimizer:
    """The optimiser of what learns; biases and norms (every tensor of one dimension) get no weight decay.

    With `layer_decay` each group has an `lr_scale`, which whoever sets the rate multiplies it with; the head's is 1.
    """
    groups: Any = param_groups_weight_decay(detector, config.weight_decay)
    if config.layer_decay < 1.0:
        groups = param_groups_layer_decay(detector.backbone, config.weight_decay, layer_decay=config.layer_decay)
        if config.head:  # timm's uppermost layer is one below it then, and no head
            groups = [{**group, "lr_scale": group["lr_scale"] * config.layer_decay} for group in groups]
        groups += param_groups_weight_decay(detector.head, config.weight_decay)
    groups = [group for group in groups if group["params"]]
    if config.optimizer == "sgd":
        momentum = config.momentum
        # Fused, a first step that the scaler of fp16 skips leaves the momentum with whatever its memory held.
        fused = config.amp != "fp16"
        return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0, fused=fused)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=lr, fused=True)


def losses_of(
    logits: torch.Tensor,
    labels: torch.Tensor,
    smoothing: float = 0.0,
    weights: tuple[float, float] = (1.0, 1.0),
) -> torch.Tensor:
    """The loss of each picture.

    Cross-entropy over two outputs is binary cross-entropy of their difference, smoothing included, so one formula
    serves `loss: ce` and `loss: bce`; they differ in the number of outputs that are learned.

    Args:
        logits: float32 (n,).
        labels: float32 (n,) of 0 and 1.
        smoothing: the target of a label y is y (1 - smoothing) + smoothing / 2.
        weights: what a real and an AI picture's loss is multiplied with (a mean is still over n, as Keras takes it).

    Returns:
        float32 (n,).
    """
    losses = F.binary_cross_entropy_with_logits(logits, labels * (1.0 - smoothing) + 0.5 * smoothing, reduction="none")
    return losses if weights == (1.0, 1.0) else losses * (weights[0] + labels * (weights[1] - weights[0]))


def class_weights(config: TrainingConfig, train: Split) -> tuple[float, float]:
    """The weights of real and AI: as given, or such that each class' rows together weigh half of all rows."""
    if config.class_weights == "none":
        return 1.0, 1.0
    if config.class_weights == "balanced":
        real, ai = train.labels["real"], train.labels["ai"]
        return train.rows / (2 * real), train.rows / (2 * ai)
    return config.class_weights[0], config.class_weights[1]
