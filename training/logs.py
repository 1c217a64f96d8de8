"""What a run writes for people to watch: `metrics.jsonl`, TensorBoard events, `curves.png`, all outside the hash chain.

After a resume nothing appears twice: what was logged past the checkpoint is dropped first. This module must not decide
anything: a run without it would make the same bundle.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.tensorboard import SummaryWriter

from pipeline.errors import StorageError
from pipeline.records import LABELS
from pipeline.storage import Folder, local_path
from training.curves import draw_curves
from training.model import Detector

__all__ = ["METRICS", "Logs"]

METRICS: Final = "metrics.jsonl"
_SHOWN: Final = 16  # pictures of the first batch

Floats = NDArray[np.float64]


class Logs:
    """The logs of a run, from a step on.

    `metrics.jsonl` has a line a step (`kind: step`; `ids` is a digest of the batch's sample ids and their places,
    `seconds` the time since the step before ended, a checkpoint in between included, `wait` the part of it that was
    spent waiting for data) and one an epoch. A GPU does its steps later than they are asked of it: it is waited for
    every twenty steps, in the `seconds` of the last.

    Args:
        uri: the folder of the logs.
        step, epochs: steps done and epochs finished where the run begins; what was logged past them is dropped.
    """

    def __init__(self, uri: str, step: int, epochs: int) -> None:
        self._folder = Folder(uri)
        limits = {"step": ("step", step), "epoch": ("epoch", epochs)}
        kept = [line for line in self._lines() if line[limits[line["kind"]][0]] <= limits[line["kind"]][1]]
        self._folder.put(METRICS, b"".join(json.dumps(line).encode() + b"\n" for line in kept))
        if not step:
            self._folder.remove("tensorboard")
        self._stream = open(local_path(uri) / METRICS, "a", encoding="utf-8")  # noqa: SIM115 - closed by `close`
        at_step = [line for line in kept if line["step"] == step]
        # TensorBoard forgets whole steps; the last has an epoch's values too, which may not be among what is kept.
        again = [] if any(line["kind"] == "epoch" for line in at_step) else at_step
        purged = step if again else step + 1
        with self._told():
            self._board = SummaryWriter(str(local_path(uri) / "tensorboard"), purge_step=purged if step else None)
        for line in again:
            self._show(line)
        self._hook = threading.excepthook

    def __enter__(self) -> Logs:
        threading.excepthook = self._thread_failed
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._told():
                self._stream.close()
                self._board.close()
        finally:
            threading.excepthook = self._hook

    def step(self, values: Mapping[str, Any]) -> None:
        """Log a step: at least `step`, `epoch`, `loss`, `lr`."""
        self._write({"kind": "step", **values})
        self._show(values)

    def pictures(self, pixels: torch.Tensor) -> None:
        """Show the run's first batch, uint8 (n, size, size, 3), as the model gets it."""
        with self._told():
            self._board.add_images("train/first batch", pixels[:_SHOWN].cpu(), 0, dataformats="NHWC")

    def epoch(self, history: list[dict[str, Any]], logits: Floats, labels: Floats, detector: Detector) -> None:
        """Log the last epoch of a history with its distributions, and draw the curves of all.

        Args:
            history: the metrics of all epochs.
            logits, labels: of validation, float64 (n,).
            detector: the histograms of its weights are shown.
        """
        last = history[-1]
        self._write({"kind": "epoch", **last})
        with self._told():
            for key in ("train_loss", "val_loss", "val_auc", "val_accuracy"):
                self._board.add_scalar(f"epoch/{key}", last[key], last["step"])
            for label, name in enumerate(LABELS):
                self._board.add_histogram(f"validation logits/{name}", logits[labels == label], last["step"])
            for name, weights in detector.named_parameters():
                if weights.ndim > 1:
                    self._board.add_histogram(f"weights/{name}", weights.detach().float().cpu().numpy(), last["step"])
        self.flush()
        self._folder.put("curves.png", draw_curves(history))

    def flush(self) -> None:
        """Hand what was logged to the operating system."""
        with self._told():
            self._stream.flush()
            self._board.flush()

    def _show(self, values: Mapping[str, Any]) -> None:
        waiting = values["wait"] / max(values["seconds"], 1e-9)
        with self._told():
            for key, value in {"loss": values["loss"], "lr": values["lr"], "waiting": waiting}.items():
                self._board.add_scalar(f"train/{key}", value, values["step"])

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._told():
            self._stream.write(json.dumps(line) + "\n")

    def _thread_failed(self, failure: threading.ExceptHookArgs) -> None:
        """TensorBoard writes in a thread of its own, which keeps its error for the next call: `_told` tells it then."""
        if not (isinstance(failure.exc_value, OSError) and type(failure.thread).__module__.startswith("tensorboard.")):
            self._hook(failure)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StorageError(
                f"{self._folder.locate(METRICS)}: cannot be written ({error.strerror}): free some space, then continue "
                "with --resume."
            ) from error

    def _lines(self) -> list[dict[str, Any]]:
        if not self._folder.is_file(METRICS):
            return []
        found = []
        for text in self._folder.read(METRICS).decode(errors="replace").splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue  # the last line of a killed run may be cut
            if isinstance(line, dict) and line.get("kind") in ("step", "epoch"):
                found.append(line)
        return found
