"""One optimiser step after another, of one phase: forward, backward, clipping, update, moving average.

A step takes a whole batch, which may be spread over ranks and cut into micro-batches: the gradient is that of the mean
loss over all its rows either way. This module must not read data, log, or decide when to stop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from timm.utils.model_ema import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from training.batch import Batch
from training.checkpoint import below
from training.config import Phase, TrainingConfig
from training.device import Compute
from training.freeze import freeze
from training.head import l2_penalty
from training.model import Detector
from training.optim import losses_of, make_optimizer
from training.ranks import Ranks

__all__ = ["Stepper"]

Tensors = dict[str, torch.Tensor]


class Stepper:
    """Trains a detector for one phase.

    Args:
        detector: on its device; what the phase freezes is frozen here.
        config: optimiser, loss, clipping, moving average.
        phase: what learns, and the highest rate.
        compute: device and precision.
        ranks: who takes part; every one has the same weights.
        weights: of the classes in the loss.

    Raises:
        ConfigError: the phase names a module that the model does not have.
    """

    def __init__(
        self,
        detector: Detector,
        config: TrainingConfig,
        phase: Phase,
        compute: Compute,
        ranks: Ranks,
        weights: tuple[float, float],
    ) -> None:
        detector.zero_grad(set_to_none=True)  # of what an earlier phase trained: it would count in the clipped norm
        freeze(detector, phase, config.batch_norm)
        self._detector, self._config, self._compute, self._ranks = detector, config, compute, ranks
        self._weights = weights
        self._optimizer = make_optimizer(detector, config, phase.lr)
        self._scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.amp is torch.float16)
        self._average = ModelEmaV3(detector, decay=config.ema, use_warmup=True) if config.ema else None
        self._forward = self._wrapped()

    @property
    def average(self) -> Detector:
        """What is validated and published: the moving average of the weights, or the weights where there is none."""
        return self._detector if self._average is None else self._average.module

    def step(self, batch: Batch, number: int, in_phase: int, rate: float) -> torch.Tensor:
        """One step.

        Args:
            batch: this rank's share, on the device.
            number: of the step in the run, from 0: dropout's randomness is a function of it, the seed, the rank and
                the micro-batch, so that a resume needs no generator's state.
            in_phase: of the step in the phase, from 0.
            rate: learning rate.

        Returns:
            float32 scalar on the device: the sum of the losses of this rank's rows, without L2.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        self._optimizer.zero_grad(set_to_none=True)
        parts = list(_parts(len(batch.labels), self._config.micro_batch))
        total = torch.zeros((), device=self._compute.device)
        for at, rows in enumerate(parts):
            torch.manual_seed(_seed(self._config.seed, number, self._ranks.rank, at))
            with self._last_alone(at == len(parts) - 1):
                total += self._backward(batch, rows, penalty=at == 0)
        if self._config.grad_clip:
            self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._detector.parameters(), self._config.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        if self._average is not None:
            self._average.update(self._detector, step=in_phase + 1)
        return total

    def tensors(self) -> Tensors:
        """The optimiser's state and the moving average, for a checkpoint."""
        found: Tensors = {}
        for number, values in self._optimizer.state_dict()["state"].items():
            found |= {f"optimizer.{number}.{key}": value for key, value in values.items() if torch.is_tensor(value)}
        if self._average is not None:
            found |= {f"average.{key}": value for key, value in self._average.module.state_dict().items()}
        return found

    def scale(self) -> dict[str, Any]:
        """The gradient scaler's state, JSON-ready."""
        return dict(self._scaler.state_dict())

    def restore(self, tensors: Mapping[str, torch.Tensor], scale: dict[str, Any]) -> None:
        """Go on from what `tensors` and `scale` gave."""
        if scale:  # empty where there was none: a run that began without fp16's scaler begins with a new one
            self._scaler.load_state_dict(scale)
        if self._average is not None:
            self._average.module.load_state_dict(below(tensors, "average."))
        state: dict[int, Tensors] = {}
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        for name, value in below(tensors, "optimizer.").items():
            number, _, key = name.partition(".")
            like = parameters[int(number)]
            if value.shape == like.shape:  # in the parameter's memory layout, as the optimiser made it
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            state.setdefault(int(number), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})

    def _wrapped(self) -> nn.Module:
        """What the pictures go through: compiled if asked for, its gradients averaged over the ranks."""
        compiled: Any = torch.compile(self._detector, dynamic=False) if self._config.compile else self._detector
        if self._ranks.world == 1:
            return compiled
        return DistributedDataParallel(compiled)

    def _last_alone(self, last: bool) -> AbstractContextManager[None]:
        """The ranks exchange gradients once a step, with its last micro-batch."""
        if last or not isinstance(self._forward, DistributedDataParallel):
            return nullcontext()
        return self._forward.no_sync()

    def _backward(self, batch: Batch, rows: slice, penalty: bool) -> torch.Tensor:
        """Add a micro-batch's gradient; returns the sum of its losses."""
        config, amp = self._config, self._compute.amp
        with torch.autocast(self._compute.device.type, amp, enabled=amp is not None):
            logits = self._forward(batch.pixels[rows])
        losses = losses_of(logits, batch.labels[rows], config.label_smoothing, self._weights)
        counted = losses[: max(0, len(batch.ids) - rows.start)].sum()
        # DistributedDataParallel takes the mean over the ranks; the sum is wanted.
        loss = counted * self._ranks.world / batch.total
        extra = l2_penalty(self._detector.head, config.head) if penalty else None
        self._scaler.scale(loss if extra is None else loss + extra).backward()
        return counted.detach()


def _parts(rows: int, size: int) -> Iterator[slice]:
    """Nearly equal stretches of `size` rows or fewer (one more where a stretch would be a single row)."""
    count = min(-(-rows // size), max(1, rows // 2)) if size else 1
    for number in range(count):
        yield slice(rows * number // count, rows * (number + 1) // count)


def _seed(seed: int, step: int, rank: int, part: int) -> int:
    text = f"telltale/step/{seed}/{step}/{rank}/{part}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
