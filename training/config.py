"""Every setting of a training run, with its default, and which of them change the result.

`python -m training.config --config F [--set a.b=c]` prints the settings that a run would use. This module must not
import torch: whoever only wants to check a configuration should not wait for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from pipeline.cache import DEFAULT_GB
from pipeline.cli import show_config
from pipeline.config import above, as_dict, at_least, between, build
from pipeline.errors import ConfigError
from training.robust_config import Robust

__all__ = [
    "MONITORS",
    "PICKLES",
    "SECTION",
    "HeadLayer",
    "Phase",
    "Plateau",
    "Threshold",
    "TrainingConfig",
    "result_fields",
]

SECTION: Final = "training"
PICKLES: Final = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".tar")
"""Endings of weights that are pickle files, which Telltale never opens."""
MONITORS: Final = {"val_auc": 1, "val_accuracy": 1, "val_loss": -1}
"""The metrics that best weights, early stopping and plateaus may follow: 1 more is better, -1 less is."""
_NEUTRAL: Final = ("pretrained", "workers", "checkpoint_steps", "checkpoints_kept", "check_shards", "cache_gb")
"""Fields that a bundle does not carry: they change no bit of it (`pretrained` is recorded by name or hash)."""
_MOMENTUM: Final = 0.9
_WARM_UP: Final = {"warmup_epochs", "warmup_steps"}  # two ways to say one thing

Monitor = Literal["val_auc", "val_accuracy", "val_loss"]


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
class HeadLayer:
    """One layer of a head; exactly one of `dense`, `batch_norm` and `dropout` is given.

    Attributes:
        dense: units of a fully connected layer.
        activation: of a dense layer.
        l2: times the sum of the squares of a dense layer's weights, added to the loss (Keras' `kernel_regularizer`).
        batch_norm: batch normalisation, with Keras' epsilon (1e-3) and momentum (0.99 of the old, 0.01 of the new).
        dropout: share that is dropped.
    """

    dense: int = at_least(0, 0)
    activation: Literal["relu", "gelu", "none"] = "relu"
    l2: float = at_least(0.0, 0.0)
    batch_norm: bool = False
    dropout: float = between(0.0, 0.95, 0.0)

    def __post_init__(self) -> None:
        if (self.dense > 0) + self.batch_norm + (self.dropout > 0) != 1:
            raise ConfigError("a layer of 'head' is one of {dense: UNITS}, {batch_norm: true} and {dropout: SHARE}")
        if not self.dense and (self.l2 or self.activation != "relu"):
            raise ConfigError("'activation' and 'l2' in 'head' belong to a dense layer")


@dataclass(frozen=True)
class Plateau:
    """When `schedule: plateau` lowers the rate.

    Attributes:
        factor: what the rate is multiplied with.
        patience: epochs without improvement after which it falls, as Keras' ReduceLROnPlateau counts them.
        min_delta: the least change that is an improvement.
        monitor: the metric that is followed.
    """

    factor: float = between(0.01, 0.99, 0.5)
    patience: int = at_least(1, 2)
    min_delta: float = at_least(0.0, 1e-4)
    monitor: Monitor = "val_loss"


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one learning rate schedule and one set of frozen layers; the optimiser begins anew.

    Attributes:
        epochs: passes over the training rows, at most.
        unfreeze: what learns: all; head: what comes after the backbone's features; a number N: the head and the last N
            modules of the backbone that have weights of their own; a list of names: the head and these timm modules.
            What is frozen is as in serving: batch norm keeps and uses its running statistics.
        lr: highest learning rate.
        schedule: after warm-up; cosine falls to `lr_min`, plateau when a metric stands still, never below `lr_min`.
        lr_min: lowest rate.
        warmup_epochs, warmup_steps: linear warm-up from zero; give one of them.
        plateau: when `schedule: plateau` lowers the rate.
        patience: epochs without a better `monitor` after which the phase ends, its best weights restored; 0: none.
    """

    epochs: int = at_least(1, 10)
    unfreeze: Literal["all", "head"] | int | list[str] = "all"
    lr: float = above(0.0, 3e-4)
    schedule: Literal["cosine", "constant", "plateau"] = "cosine"
    lr_min: float = at_least(0.0, 0.0)
    warmup_epochs: float = at_least(0.0, 0.0)
    warmup_steps: int = at_least(0, 0)
    plateau: Plateau = field(default_factory=Plateau)
    patience: int = at_least(0, 0)

    def __post_init__(self) -> None:
        if self.warmup_epochs and self.warmup_steps:
            raise ConfigError("'warmup_epochs' and 'warmup_steps' are both set: give one of them")
        if self.lr_min > self.lr:
            raise ConfigError(f"'lr_min' ({self.lr_min}) is above 'lr' ({self.lr})")
        if isinstance(self.unfreeze, int) and self.unfreeze < 1:
            raise ConfigError("'unfreeze' must be all, head, a number of modules from 1, or a list of module names")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(Phase):
    """A training run. What it says of rates and epochs holds for each phase that does not say otherwise.

    Attributes:
        model: any timm name, or `vit_wide_patch16` (`training/vit.py`).
        pretrained: true: timm's weights from its hub; false: random; otherwise the path of a safetensors file.
        head: layers between the backbone's pooled features and the output; none: timm's own head.
        phases: one mapping a phase, with keys of `Phase`; none: the whole run is one phase.
        batch_size: rows an optimiser step takes, over all ranks and micro-batches; a last batch of one row joins the
            batch before it (batch norm needs two).
        micro_batch: rows that pass the model at once on a rank (one more where a single row would be left); the
            gradients of a step's micro-batches are accumulated, but batch norm that learns sees one micro-batch at a
            time. 0: all at once.
        optimizer: adamw (decoupled weight decay), adam (L2) or sgd (Nesterov momentum).
        weight_decay: not applied to biases and norms.
        momentum: of sgd.
        layer_decay: the rate of a layer is this to the power of its depth below the head, as timm groups them; 1: none.
        loss: bce: one output; ce: two outputs, whose difference is the logit.
        class_weights: of real and AI in the loss; balanced: each class weighs as much as the other.
        label_smoothing: s makes of a target y the target y (1 - s) + s / 2, as torch's cross-entropy does.
        drop_rate, drop_path_rate: dropout before timm's head, stochastic depth.
        grad_clip: largest norm of the gradient; 0: no clipping.
        ema: highest decay a step of the moving average of the weights, which is what is validated and published; it
            begins anew with each phase. Step t of the phase, from 0, has min(ema, 1 - (1 + t)^(-2/3)), as in timm: 0.99
            is reached after 1,000 steps, 0.998 after 11,180, 0.9999 after a million. 0: none.
        batch_norm: train: as torch does; frozen: the backbone's statistics and weights stay those of the start; sync:
            statistics over all ranks, on GPUs.
        monitor: the metric of which the best epoch is published, and that early stopping follows.
        seed: of weights, order, dropout and augmentation.
        shuffle_row_groups: rows are shuffled within windows of so many row groups (about 256 rows each), the row
            groups over the whole split; also how many row groups a loader process keeps in memory.
        threads: of torch on the CPU; 0: all cores. Recorded: another number gives other last bits.
        device: auto: a GPU where there is one.
        amp: mixed precision on a GPU; validation is in float32 always.
        channels_last: memory layout; a third faster for EfficientNet, on the CPU too.
        compile: torch.compile; minutes of preparation, then faster steps on a GPU.
        threshold: how the verdict's threshold is fitted.
        robust: what is done to training pictures on the fly; off by default.
        workers: loader processes; auto: none on the CPU (decoding takes 1-2 % of a step; `robust` some milliseconds a
            picture more, which the cores share: give workers where some are idle), up to 8 beside a GPU.
        checkpoint_steps: steps between checkpoints; 0: only at the ends of epochs and on SIGTERM or SIGINT.
        checkpoints_kept: how many of the last checkpoints stay.
        check_shards: compare every byte of the shards with their manifest before the first step.
        cache_gb: the most, in GB (10⁹ bytes), that local copies of remote shards may take; less than the shards have
            means that some are fetched again in every epoch.
    """

    model: str = "efficientnet_b1"
    pretrained: bool | str = True
    head: tuple[HeadLayer, ...] = ()
    phases: tuple[dict[str, Any], ...] = ()
    batch_size: int = at_least(2, 32)
    micro_batch: int = at_least(0, 0)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = at_least(0.0, 1e-2)
    momentum: float = between(0.0, 1.0, _MOMENTUM)
    layer_decay: float = between(0.1, 1.0, 1.0)
    loss: Literal["bce", "ce"] = "bce"
    class_weights: Literal["none", "balanced"] | list[float] = "none"
    label_smoothing: float = between(0.0, 0.9, 0.0)
    drop_rate: float = between(0.0, 0.9, 0.0)
    drop_path_rate: float = between(0.0, 0.9, 0.0)
    grad_clip: float = at_least(0.0, 0.0)
    ema: float = between(0.0, 0.99999, 0.0)
    batch_norm: Literal["train", "frozen", "sync"] = "train"
    monitor: Monitor = "val_auc"
    seed: int = between(0, 2**53 - 1, 0)
    shuffle_row_groups: int = at_least(1, 16)
    threads: int = at_least(0, 0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    amp: Literal["none", "bf16", "fp16"] = "none"
    channels_last: bool = True
    compile: bool = False
    threshold: Threshold = field(default_factory=Threshold)
    robust: Robust = field(default_factory=Robust)
    workers: int | Literal["auto"] = "auto"
    checkpoint_steps: int = at_least(0, 500)
    checkpoints_kept: int = at_least(1, 2)
    check_shards: bool = True
    cache_gb: float = above(0.0, DEFAULT_GB)

    def __post_init__(self) -> None:
        if not self.phases:
            super().__post_init__()
        if self.workers != "auto" and self.workers < 0:
            raise ConfigError(f"'workers' must be 'auto' or at least 0, got {self.workers}")
        if self.pretrained == "":
            raise ConfigError("'pretrained' is empty: give true, false or the path of a safetensors file")
        if self.micro_batch == 1:
            raise ConfigError("'micro_batch' must be 0 (all at once) or at least 2: batch norm needs two rows")
        if self.head and self.drop_rate:
            raise ConfigError("'drop_rate' belongs to timm's own head: with 'head' give a {dropout: SHARE} layer")
        weights = self.class_weights
        if isinstance(weights, list) and (len(weights) != 2 or min(weights) <= 0):
            raise ConfigError("'class_weights' must be none, balanced, or two positive numbers: of real, and of AI")
        for key in self._unheeded():
            raise ConfigError(f"'{key}' is without effect: every one of 'phases' has its own. Change it there.")
        plan = self.plan  # tells of bad phases now
        if not any(phase.schedule == "plateau" for phase in plan) and any(phase.plateau != Plateau() for phase in plan):
            raise ConfigError("'plateau' is without effect: no 'schedule' is plateau")
        if self.momentum != _MOMENTUM and self.optimizer != "sgd":
            raise ConfigError(f"'momentum' is without effect: 'optimizer' is {self.optimizer}, and momentum is of sgd")

    def _unheeded(self) -> list[str]:
        """What is set for phases that do not say otherwise, where every one does."""
        default = Phase()
        changed = [item.name for item in fields(Phase) if getattr(self, item.name) != getattr(default, item.name)]
        return [key for key in changed if self.phases and all(_says(given, key) for given in self.phases)]

    @property
    def outputs(self) -> int:
        """Outputs of the backbone: 1 for bce, 2 for ce."""
        return 1 if self.loss == "bce" else 2

    @property
    def plan(self) -> tuple[Phase, ...]:
        """The phases of the run, each complete.

        Raises:
            ConfigError: naming the phase and its key.
        """
        common = {item.name: getattr(self, item.name) for item in fields(Phase)}
        if not self.phases:
            return (Phase(**common),)
        return tuple(build(Phase, _completed(given, common), f"phases[{at}]") for at, given in enumerate(self.phases))


def _says(given: dict[str, Any], key: str) -> bool:
    """Whether a phase leaves nothing of the run's key; a plateau's keys come one by one."""
    return key != "plateau" and bool(given.keys() & (_WARM_UP if key in _WARM_UP else {key}))


def _completed(given: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """A phase's keys, and of the run's those that it does not say; of its two ways to warm up it may say either."""
    rest = {key: as_dict(value) if isinstance(value, Plateau) else value for key, value in common.items()}
    found = {**{key: value for key, value in rest.items() if not _says(given, key)}, **given}
    if isinstance(given.get("plateau"), dict):
        found["plateau"] = {**rest["plateau"], **given["plateau"]}
    return found


def result_fields(config: TrainingConfig) -> dict[str, Any]:
    """The settings that change the result, JSON-ready, for manifests and checkpoints."""
    return {key: value for key, value in as_dict(config).items() if key not in _NEUTRAL}


if __name__ == "__main__":
    raise SystemExit(show_config(TrainingConfig, SECTION))
