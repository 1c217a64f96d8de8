"""Loss, optimiser and learning rate. The rate is a pure function of the step: a resume needs no scheduler's state."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from timm.optim._param_groups import param_groups_weight_decay
from torch import nn

from training.config import TrainingConfig

__all__ = ["learning_rate", "loss_of", "make_optimizer"]


def make_optimizer(model: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    """The optimiser; biases and norms (every tensor of one dimension) get no weight decay."""
    groups = param_groups_weight_decay(model, config.weight_decay)
    if config.optimizer == "sgd":
        momentum = config.momentum
        return torch.optim.SGD(groups, lr=config.lr, momentum=momentum, nesterov=momentum > 0, fused=True)
    kind = torch.optim.AdamW if config.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, fused=True)


def learning_rate(config: TrainingConfig, step: int, steps_per_epoch: int) -> float:
    """The rate of a step (from 0): linear warm-up, then constant or half a cosine (Loshchilov & Hutter 2017)."""
    total = config.epochs * steps_per_epoch
    warmup = min(config.warmup_steps or round(config.warmup_epochs * steps_per_epoch), total)
    if step < warmup:
        return config.lr * (step + 1) / warmup
    if config.schedule == "constant":
        return config.lr
    done = (step - warmup) / max(1, total - warmup)
    return config.lr_min + (config.lr - config.lr_min) * 0.5 * (1.0 + math.cos(math.pi * done))


def loss_of(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """The mean loss of a batch.

    Cross-entropy over two outputs is binary cross-entropy of their difference, smoothing included, so one formula
    serves `loss: ce` and `loss: bce`; they differ in the number of outputs that are learned.

    Args:
        logits: float32 (n,).
        labels: float32 (n,) of 0 and 1.
        smoothing: the target of a label y is y (1 - smoothing) + smoothing / 2.
    """
    return F.binary_cross_entropy_with_logits(logits, labels * (1.0 - smoothing) + 0.5 * smoothing)
