"""Every setting of a training run, with its default, and which of them change the result.

`python -m training.config --config F [--set a.b=c]` prints the settings that a run would use. This module must not
import torch: whoever only wants to check a configuration should not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pipeline.cache import DEFAULT_GB
from pipeline.cli import show_config
from pipeline.config import above, as_dict, at_least, between
from pipeline.errors import ConfigError

__all__ = ["PICKLES", "SECTION", "Threshold", "TrainingConfig", "result_fields"]

SECTION: Final = "training"
PICKLES: Final = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
"""Endings of weights that are pickle files, which Telltale never opens."""
_NEUTRAL: Final = ("pretrained", "workers", "checkpoint_steps", "checkpoints_kept", "check_shards", "cache_gb")
"""Fields that a bundle does not carry: they change no bit of it (`pretrained` is recorded by name or hash)."""


@dataclass(frozen=True)
class Threshold:
    """How the verdict's threshold is fitted on validation.

    Attributes:
        rule: `balanced_accuracy`: the highest mean of true positive and true negative rate; `target_fpr`: the highest
            true positive rate among the thresholds that call at most `target_fpr` of the real pictures AI.
        target_fpr: share in [0, 1], for the rule of that name.
    """

    rule: Literal["balanced_accuracy", "target_fpr"] = "balanced_accuracy"
    target_fpr: float = between(0.0, 1.0, 0.01)


@dataclass(frozen=True)
class TrainingConfig:
    """A training run.

    Attributes:
        model: any timm name.
        pretrained: true: timm's weights from its hub; false: random; otherwise the path of a safetensors file.
        epochs: passes over the training rows.
        batch_size: rows a step; a last batch of one row joins the batch before it (batch norm needs two).
        optimizer: adamw (decoupled weight decay), adam (L2) or sgd (Nesterov momentum).
        lr: highest learning rate.
        weight_decay: not applied to biases and norms.
        momentum: of sgd.
        warmup_epochs, warmup_steps: linear warm-up from zero; give one of them.
        schedule: after warm-up; cosine falls to `lr_min`.
        loss: bce: one output; ce: two outputs, whose difference is the logit.
        label_smoothing: s makes of a target y the target y (1 - s) + s / 2, as torch's cross-entropy does.
        drop_rate, drop_path_rate: dropout before the head, stochastic depth.
        grad_clip: largest norm of the gradient; 0: no clipping.
        seed: of weights, order and dropout.
        shuffle_row_groups: rows are shuffled within windows of so many row groups (about 256 rows each), the row
            groups over the whole split; also how many row groups a loader process keeps in memory.
        threads: of torch on the CPU; 0: all cores. Recorded: another number gives other last bits.
        device: auto: a GPU where there is one.
        amp: mixed precision on a GPU; validation is in float32 always.
        channels_last: memory layout; a third faster for EfficientNet, on the CPU too.
        threshold: how the verdict's threshold is fitted.
        workers: loader processes; auto: none on the CPU (decoding takes 1-2 % of a step), up to 8 beside a GPU.
        checkpoint_steps: steps between checkpoints; 0: only at the ends of epochs and on SIGTERM or SIGINT.
        checkpoints_kept: how many of the last checkpoints stay.
        check_shards: compare every byte of the shards with their manifest before the first step.
        cache_gb: the most, in GB (10⁹ bytes), that local copies of remote shards may take; less than the shards have
            means that some are fetched again in every epoch.
    """

    model: str = "efficientnet_b1"
    pretrained: bool | str = True
    epochs: int = at_least(1, 10)
    batch_size: int = at_least(2, 32)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = above(0.0, 3e-4)
    weight_decay: float = at_least(0.0, 1e-2)
    momentum: float = between(0.0, 1.0, 0.9)
    warmup_epochs: float = at_least(0.0, 0.0)
    warmup_steps: int = at_least(0, 0)
    schedule: Literal["cosine", "constant"] = "cosine"
    lr_min: float = at_least(0.0, 0.0)
    loss: Literal["bce", "ce"] = "bce"
    label_smoothing: float = between(0.0, 0.9, 0.0)
    drop_rate: float = between(0.0, 0.9, 0.0)
    drop_path_rate: float = between(0.0, 0.9, 0.0)
    grad_clip: float = at_least(0.0, 0.0)
    seed: int = between(0, 2**53 - 1, 0)
    shuffle_row_groups: int = at_least(1, 16)
    threads: int = at_least(0, 0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["none", "bf16", "fp16"] = "none"
    channels_last: bool = True
    threshold: Threshold = field(default_factory=Threshold)
    workers: int | Literal["auto"] = "auto"
    checkpoint_steps: int = at_least(0, 500)
    checkpoints_kept: int = at_least(1, 2)
    check_shards: bool = True
    cache_gb: float = above(0.0, DEFAULT_GB)

    def __post_init__(self) -> None:
        if self.warmup_epochs and self.warmup_steps:
            raise ConfigError("'warmup_epochs' and 'warmup_steps' are both set: give one of them")
        if self.lr_min > self.lr:
            raise ConfigError(f"'lr_min' ({self.lr_min}) is above 'lr' ({self.lr})")
        if self.workers != "auto" and self.workers < 0:
            raise ConfigError(f"'workers' must be 'auto' or at least 0, got {self.workers}")
        if self.pretrained == "":
            raise ConfigError("'pretrained' is empty: give true, false or the path of a safetensors file")

    @property
    def outputs(self) -> int:
        """Outputs of the backbone: 1 for bce, 2 for ce."""
        return 1 if self.loss == "bce" else 2


def result_fields(config: TrainingConfig) -> dict[str, Any]:
    """The settings that change the result, JSON-ready, for manifests and checkpoints."""
    return {key: value for key, value in as_dict(config).items() if key not in _NEUTRAL}


if __name__ == "__main__":
    raise SystemExit(show_config(TrainingConfig, SECTION))
