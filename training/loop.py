"""The loop: steps, validation, checkpoints, and stopping in good order.

A run is at (step, epochs finished); both are in every checkpoint, so a resume anywhere, also between an epoch's last
step and its validation, goes on exactly there. This module must not know of files' formats or of the bundle.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from tqdm import tqdm

from pipeline.cli import say
from pipeline.errors import DataError, SetupError
from training.checkpoint import Checkpoint, Checkpoints
from training.config import TrainingConfig
from training.device import Compute
from training.loader import Batch, Batches
from training.logs import Logs
from training.model import Detector
from training.optim import learning_rate, loss_of, make_optimizer
from training.signals import Signals

__all__ = ["Trainer", "validation_logits"]

_GPU_FLUSH = 20  # steps between two looks at the losses, each of which waits for the GPU


@dataclass
class _Progress:
    """Where a run is."""

    step: int = 0
    loss_sum: float = 0.0  # over the pictures of the epoch that is under way
    pictures: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None


class Trainer:
    """Trains a detector.

    Args:
        detector: with its initial weights, on the CPU.
        config: the settings.
        compute: device, threads, precision.
        train, val: the batches.
        checkpoints: where they go.
        identity: what a checkpoint must have come from to be continued (config, parents).
        signals: says when to stop.
    """

    def __init__(
        self,
        detector: Detector,
        config: TrainingConfig,
        compute: Compute,
        train: Batches,
        val: Batches,
        checkpoints: Checkpoints,
        identity: dict[str, Any],
        signals: Signals,
    ) -> None:
        self.detector = detector.to(compute.device)
        self._config, self._compute = config, compute
        self._train, self._val = train, val
        self._checkpoints, self._identity, self._signals = checkpoints, identity, signals
        self._optimizer = make_optimizer(self.detector, config)
        self._scaler = torch.amp.GradScaler(compute.device.type, enabled=compute.amp is torch.float16)
        self._at = _Progress()
        self._pending: list[tuple[dict[str, Any], torch.Tensor, int]] = []

    @property
    def step(self) -> int:
        """Steps done."""
        return self._at.step

    @property
    def epochs(self) -> int:
        """Epochs finished, validation included."""
        return len(self._at.history)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        state, tensors = checkpoint.state, checkpoint.tensors
        self.detector.load_state_dict(_part(tensors, "model."))
        self._load_optimizer(_part(tensors, "optimizer."))
        self._scaler.load_state_dict(state["scaler"])
        self._at = _Progress(state["step"], state["loss_sum"], state["pictures"], list(state["history"]), state["best"])

    def fit(self, logs: Logs) -> dict[str, Any]:
        """Train to the end, leave the best epoch's weights in the detector, and return that epoch's metrics.

        Raises:
            DataError: the loss is not a number.
            SetupError: the GPU is out of memory.
            TelltaleError, KeyboardInterrupt: stopped by a signal; a checkpoint was written first.
        """
        with _explained_memory(self._config):
            while len(self._at.history) < self._config.epochs:
                self._train_epoch(logs)
                self._validate(logs)
                self._save()
        best = self._at.best
        if best is None:
            raise DataError("no epoch was trained: set training.epochs to at least 1")
        self.detector.load_state_dict(self._checkpoints.get_tensors(best["tensors"]))
        return next(item for item in self._at.history if item["epoch"] == best["epoch"])

    def _train_epoch(self, logs: Logs) -> None:
        epoch = len(self._at.history)
        start = self._at.step - epoch * len(self._train)
        self.detector.train()
        with tqdm(
            total=self._train.rows,
            initial=self._at.pictures,
            desc=f"epoch {epoch + 1}/{self._config.epochs}",
            unit="img",
            disable=None,
            leave=False,
        ) as bar:
            for batch in self._train.epoch(epoch, start) if start < len(self._train) else ():
                self._train_step(batch, epoch)
                bar.update(len(batch.ids))
                every = 1 if self._compute.device.type == "cpu" else _GPU_FLUSH
                if len(self._pending) >= every:
                    bar.set_postfix(loss=f"{self._flush(logs):.4f}", refresh=False)
                self._maybe_save(logs)
            self._flush(logs)

    def _train_step(self, batch: Batch, epoch: int) -> None:
        config, device, step = self._config, self._compute.device, self._at.step
        # Dropout's randomness is a function of (seed, step): a resume needs no generator's state.
        torch.manual_seed(_step_seed(config.seed, step))
        rate = learning_rate(config, step, len(self._train))
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        pixels = batch.pixels.to(device, non_blocking=True)
        labels = batch.labels.to(device, non_blocking=True)
        with torch.autocast(device.type, self._compute.amp, enabled=self._compute.amp is not None):
            logits = self.detector(pixels)
        loss = loss_of(logits, labels, config.label_smoothing)
        self._optimizer.zero_grad(set_to_none=True)
        self._scaler.scale(loss).backward()
        if config.grad_clip:
            self._scaler.unscale_(self._optimizer)
            torch.nn.utils.clip_grad_norm_(self.detector.parameters(), config.grad_clip)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._at.step = step + 1
        ids = hashlib.sha256("\n".join(batch.ids).encode()).hexdigest()[:16]
        line = {"step": step + 1, "epoch": epoch + 1, "lr": rate, "ids": ids, "time": time.time()}
        self._pending.append((line, loss.detach(), len(batch.ids)))

    def _flush(self, logs: Logs) -> float:
        """Look at the losses since the last look, and log them; returns the last one."""
        value = 0.0
        for line, loss, rows in self._pending:
            value = float(loss)
            if not math.isfinite(value):
                self._pending.clear()
                raise self._not_finite(f"the loss of step {line['step']} (epoch {line['epoch']})")
            self._at.loss_sum += value * rows
            self._at.pictures += rows
            logs.step({**line, "loss": value, "pictures": rows})
        self._pending.clear()
        return value

    def _not_finite(self, what: str) -> DataError:
        amp = " or set amp to bf16 or none," if self._compute.amp is torch.float16 else ""
        return DataError(
            f"{what} is not a finite number: lower training.lr (now {self._config.lr}),{amp} add warmup_epochs, or "
            "set grad_clip to 1. The last checkpoint is from before and stays good."
        )

    def _maybe_save(self, logs: Logs) -> None:
        every = self._config.checkpoint_steps
        if self._signals.received or (every and self._at.step % every == 0):
            self._flush(logs)
            logs.flush()  # first: a resume keeps the lines up to its checkpoint, and logs none of them again
            self._save()
        self._signals.stop_if_received(f"at step {self._at.step}")

    def _validate(self, logs: Logs) -> None:
        try:
            logits, labels = validation_logits(self.detector, self._val, self._compute.device, self._signals)
        except BaseException:
            if self._signals.received:
                self._save()  # the epoch's steps are done; a resume begins with this validation
            raise
        if not np.isfinite(logits).all():
            raise self._not_finite(f"a validation logit of epoch {len(self._at.history) + 1}")
        at, epoch = self._at, len(self._at.history) + 1
        auc = float(roc_auc_score(labels, logits))
        target = torch.from_numpy(labels)
        metrics = {
            "epoch": epoch,
            "step": at.step,
            "lr": learning_rate(self._config, at.step - 1, len(self._train)),
            "train_loss": at.loss_sum / at.pictures,
            "val_loss": float(loss_of(torch.from_numpy(logits), target)),
            "val_auc": auc,
        }
        at.history.append(metrics)
        at.loss_sum, at.pictures = 0.0, 0
        if at.best is None or auc > at.best["val_auc"]:
            tensors = self._checkpoints.put_tensors("best", self.detector.state_dict())
            at.best = {"epoch": epoch, "val_auc": auc, "tensors": tensors}
        logs.epoch(at.history)
        say(
            f"epoch {epoch}/{self._config.epochs}: train loss {metrics['train_loss']:.4f}, "
            f"validation loss {metrics['val_loss']:.4f}, AUC {auc:.4f}"
        )

    def _save(self) -> None:
        at = self._at
        state = {
            "identity": self._identity,
            "threads": self._compute.threads,
            "step": at.step,
            "loss_sum": at.loss_sum,
            "pictures": at.pictures,
            "history": at.history,
            "best": at.best,
            "scaler": self._scaler.state_dict(),
        }
        tensors = {f"model.{key}": value for key, value in self.detector.state_dict().items()}
        for number, values in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{number}.{key}": value for key, value in values.items() if torch.is_tensor(value)}
        self._checkpoints.save(at.step, len(at.history), tensors, state)

    def _load_optimizer(self, tensors: dict[str, torch.Tensor]) -> None:
        state: dict[int, dict[str, torch.Tensor]] = {}
        parameters = [p for group in self._optimizer.param_groups for p in group["params"]]
        for name, value in tensors.items():
            number, _, key = name.partition(".")
            like = parameters[int(number)]
            if value.shape == like.shape:  # in the parameter's memory layout, as the optimiser made it
                value = torch.empty_like(like, dtype=value.dtype).copy_(value)
            state.setdefault(int(number), {})[key] = value
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": state, "param_groups": groups})


def validation_logits(
    detector: Detector, batches: Batches, device: torch.device, signals: Signals | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(logits, labels) of a split, float64 (rows,), in file order; in float32, as in serving."""
    detector.eval()
    logits, labels = [], []
    with torch.inference_mode():
        for batch in batches.epoch():
            logits.append(detector(batch.pixels.to(device, non_blocking=True)).cpu())
            labels.append(batch.labels)
            if signals is not None:
                signals.stop_if_received("in validation")
    return torch.cat(logits).double().numpy(), torch.cat(labels).double().numpy()


def _step_seed(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.sha256(f"telltale/step/{seed}/{step}".encode()).digest()[:8], "big") >> 1


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}


@contextmanager
def _explained_memory(config: TrainingConfig) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SetupError(
            f"the GPU is out of memory: lower training.batch_size (now {config.batch_size}), set amp to bf16, or use a "
            "smaller model, then continue with --resume if the setting allows, or start anew with --overwrite."
        ) from error
