"""The loop: phases of epochs of steps, validation, checkpoints, and stopping in good order.

A run is at (step, epochs finished); both are in every checkpoint, so a resume anywhere, also between an epoch's last
step and its validation, goes on exactly there. What comes next follows from the metrics of the finished epochs alone
(`training.schedule`). This module must not know of files' formats or of the bundle.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from pipeline.errors import DataError
from training.batch import Batch
from training.checkpoint import Checkpoint, Checkpoints, below
from training.config import TrainingConfig
from training.device import Compute
from training.freeze import freeze, training_mode
from training.loader import Batches
from training.logs import Logs
from training.model import Detector
from training.optim import class_weights
from training.prefetch import Waiting, on_device
from training.progress import Progress
from training.ranks import Ranks
from training.schedule import Position, best_of, learning_rate, position
from training.signals import Signals
from training.step import Stepper
from training.validation import metrics_of, validation_logits

__all__ = ["Trainer"]

_LOOK_EVERY = {"cpu": 1, "cuda": 20}
"""Steps between two looks at the losses, each of which waits for the GPU."""


@dataclass
class _At:
    """Where a run is; all of it is in every checkpoint."""

    step: int = 0
    phase: int = -1  # whose optimiser the checkpoint holds; -1: none has begun
    loss_sum: float = 0.0  # over the pictures of the epoch that is under way
    pictures: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] | None = None  # of the run, {epoch, tensors}
    phase_best: dict[str, Any] | None = None


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
        ranks: who takes part; rank 0 alone writes.
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
        ranks: Ranks | None = None,
    ) -> None:
        self.detector = detector.to(compute.device)
        self._config, self._compute, self._plan = config, compute, config.plan
        self._train, self._val = train, val
        self._checkpoints, self._identity, self._signals = checkpoints, identity, signals
        self._ranks = ranks or Ranks()
        self._weights = class_weights(config, train.split)
        self._at = _At()
        self._waiting = Waiting()
        self._pending: list[tuple[dict[str, Any], torch.Tensor]] = []
        self._stepper: Stepper | None = None
        self._look_every = _LOOK_EVERY[compute.device.type]
        self._mark = 0.0  # when the last step ended
        self._pace = ""  # of the epoch's steps, in words
        for phase in self._plan:  # an impossible one is told now, not when its turn comes
            self._ranks.alike(lambda phase=phase: freeze(self.detector, phase, config.batch_norm))  # type: ignore[misc]

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
        self._load(below(tensors, "model."))
        self._at = _At(**state["at"])
        if self._at.phase >= 0:
            self._stepper = self._make_stepper(self._at.phase)
            self._stepper.restore(tensors, state["scaler"])

    def fit(self, logs: Logs | None) -> dict[str, Any]:
        """Train to the end, leave the best epoch's weights in the detector, and return that epoch's metrics.

        Args:
            logs: rank 0's; None on the others.

        Raises:
            DataError: the loss is not a number.
            TelltaleError, KeyboardInterrupt: stopped by a signal; a checkpoint was written first.
        """
        at = self._at
        while (next_epoch := position(self._plan, at.history, self._config.monitor)) is not None:
            stepper = self._begin(next_epoch)
            self._train_epoch(stepper, next_epoch, logs)
            self._validate(stepper, next_epoch, logs)
            self._save(stepper)
            if stop := self._signals.agreed():
                self._signals.stop(stop, f"after epoch {self.epochs}")
        if at.best is None:
            raise DataError("no epoch was trained: set training.epochs to at least 1")
        self._load(self._checkpoints.get_tensors(at.best["tensors"]))
        return at.history[at.best["epoch"] - 1]

    def _make_stepper(self, phase: int) -> Stepper:
        config, compute = self._config, self._compute
        return Stepper(self.detector, config, self._plan[phase], compute, self._ranks, self._weights)

    def _begin(self, where: Position) -> Stepper:
        """The stepper of an epoch's phase; a new one where a phase begins."""
        at = self._at
        if self._stepper is None or at.phase != where.phase:
            if at.phase >= 0 and self._plan[at.phase].patience and at.phase_best is not None:
                self._load(self._checkpoints.get_tensors(at.phase_best["tensors"]))
            at.phase, at.phase_best = where.phase, None
            self._stepper = self._make_stepper(where.phase)
        return self._stepper

    def _train_epoch(self, stepper: Stepper, where: Position, logs: Logs | None) -> None:
        start = self._at.step - where.epoch * len(self._train)
        training_mode(self.detector, self._config.batch_norm)
        self._pace = ""
        if start >= len(self._train):
            return
        self._mark = time.perf_counter()
        batches = self._waiting.timed(self._train.epoch(where.epoch, start))
        with Progress(self._plan, where, self._train.rows, self._at.pictures, self._ranks.leads) as progress:
            for batch in on_device(batches, self._compute.device):
                if logs is not None and not self._at.step:
                    logs.pictures(batch.pixels)
                self._train_step(stepper, batch, where)
                if self._must_look():
                    self._flush(logs, progress)
                    self._maybe_save(stepper, logs)
            self._flush(logs, progress)
        self._pace = f"; {progress.summary()}"

    def _train_step(self, stepper: Stepper, batch: Batch, where: Position) -> None:
        at, begin = self._at, self._mark
        phase, per_epoch = self._plan[where.phase], len(self._train)
        in_phase = at.step - where.first * per_epoch
        rate = learning_rate(phase, in_phase, per_epoch, where.reductions)
        loss = stepper.step(batch, at.step, in_phase, rate)
        at.step, self._mark = at.step + 1, time.perf_counter()
        line = {"step": at.step, "epoch": where.epoch + 1, "phase": where.phase, "lr": rate, "pictures": batch.total}
        times = {"time": time.time(), "seconds": self._mark - begin, "wait": self._waiting.take()}
        self._pending.append(({**line, "ids": batch.digest(), **times}, loss))

    def _must_look(self) -> bool:
        """Whether the losses of the last steps are looked at now; also where a checkpoint is due."""
        return len(self._pending) >= self._look_every or self._due()

    def _due(self) -> bool:
        """Whether a checkpoint is due at this step."""
        every = self._config.checkpoint_steps
        return bool(every and self._at.step % every == 0)

    def _flush(self, logs: Logs | None, progress: Progress) -> None:
        """Look at the losses since the last look, over all ranks, and log them."""
        if not self._pending:
            return
        losses = self._ranks.sums(torch.stack([loss for _, loss in self._pending]).double().cpu())
        digests = self._ranks.sums(torch.tensor([line["ids"] for line, _ in self._pending]))
        lines = [line for line, _ in self._pending]
        self._pending.clear()
        begin, self._mark = self._mark, time.perf_counter()  # only now has a GPU done what was asked of it
        lines[-1] |= {"time": time.time(), "seconds": lines[-1]["seconds"] + self._mark - begin}
        for line, loss, digest in zip(lines, losses.tolist(), digests.tolist(), strict=True):
            if not math.isfinite(loss):
                raise self._not_finite(f"the loss of step {line['step']} (epoch {line['epoch']})")
            self._at.loss_sum += loss
            self._at.pictures += line["pictures"]
            line |= {"ids": f"{digest % 2**64:016x}", "loss": loss / line["pictures"]}
            progress.step(line)
            if logs is not None:
                logs.step(line)

    def _not_finite(self, what: str) -> BaseException:
        amp = " or set amp to bf16 or none," if self._compute.amp is torch.float16 else ""
        error = DataError(
            f"{what} is not a finite number: lower training.lr (now {self._plan[self._at.phase].lr}),{amp} add "
            "warmup_epochs, or set grad_clip to 1, and start anew with --overwrite. The last checkpoint holds finite "
            "weights, but they may have grown too large already."
        )
        return self._ranks.common(error)

    def _maybe_save(self, stepper: Stepper, logs: Logs | None) -> None:
        step, stop = self._at.step, self._signals.agreed()
        if stop or self._due():
            if logs is not None:
                logs.flush()  # first: a resume keeps the lines up to its checkpoint, and logs none of them again
            self._save(stepper)
        if stop:
            self._signals.stop(stop, f"at step {step}")

    def _validate(self, stepper: Stepper, where: Position, logs: Logs | None) -> None:
        at, epoch = self._at, where.epoch + 1
        for model in dict.fromkeys((self.detector, stepper.average)):  # each rank's batch norm has seen its own share
            self._ranks.as_rank_0(model.buffers())
        try:
            logits, labels = validation_logits(
                stepper.average, self._val, self._compute.device, self._ranks, self._signals
            )
        except BaseException:
            if self._signals.received:
                self._save(stepper)  # the epoch's steps are done; a resume begins with this validation
            raise
        if not np.isfinite(logits).all():
            raise self._not_finite(f"a validation logit of epoch {epoch}")
        per_epoch = len(self._train)
        rate = learning_rate(
            self._plan[where.phase], at.step - 1 - where.first * per_epoch, per_epoch, where.reductions
        )
        fixed = {"epoch": epoch, "phase": where.phase, "step": at.step, "lr": rate}
        at.history.append({**fixed, "train_loss": at.loss_sum / at.pictures, **metrics_of(logits, labels)})
        at.loss_sum, at.pictures = 0.0, 0
        self._keep_best(stepper)
        if logs is not None:
            logs.epoch(at.history, logits, labels, stepper.average)
        self._tell()

    def _keep_best(self, stepper: Stepper) -> None:
        """Keep the weights of the last epoch if it is the best of the run, or of its phase."""
        at, monitor = self._at, self._config.monitor
        of_phase = [metrics for metrics in at.history if metrics["phase"] == at.phase]
        best = best_of(at.history, monitor) == len(at.history) - 1
        best_of_phase = best_of(of_phase, monitor) == len(of_phase) - 1
        if not best and not (best_of_phase and self._plan[at.phase].patience):
            return
        reference = self._checkpoints.put_tensors("best", stepper.average.state_dict()) if self._ranks.leads else None
        item = {"epoch": len(at.history), "tensors": self._ranks.gather(reference)[0]}
        at.best = item if best else at.best
        at.phase_best = item if best_of_phase else at.phase_best

    def _tell(self) -> None:
        last, total = self._at.history[-1], sum(phase.epochs for phase in self._plan)
        self._ranks.say(
            f"epoch {last['epoch']}/{total}: train loss {last['train_loss']:.4f}, "
            f"validation loss {last['val_loss']:.4f}, AUC {last['val_auc']:.4f}{self._pace}"
        )

    def _save(self, stepper: Stepper) -> None:
        at = self._at
        weights = [value for value in self.detector.state_dict().values() if value.is_floating_point()]
        if not all(bool(torch.isfinite(value).all()) for value in weights):
            raise self._not_finite(f"a weight after step {at.step}")
        if not self._ranks.leads:
            return
        state = {
            "identity": self._identity,
            "threads": self._compute.threads,
            "device": self._compute.device.type,
            "ranks": self._ranks.world,
            "at": vars(at),
            "scaler": stepper.scale(),
        }
        references = [item["tensors"] for item in (at.best, at.phase_best) if item is not None]
        tensors = {f"model.{key}": value for key, value in self.detector.state_dict().items()}
        self._checkpoints.save(at.step, len(at.history), {**tensors, **stepper.tensors()}, state, references)

    def _load(self, tensors: dict[str, torch.Tensor]) -> None:
        self.detector.load_state_dict(tensors)
