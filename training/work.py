"""One run from inputs to published bundle: the order of things, and whether a checkpoint is continued.

This module must not hold the training loop or the ONNX exporter; it calls them.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Final

import safetensors.torch
import torch

from pipeline.bundle import MANIFEST, MODEL_ONNX, MODEL_SAFETENSORS, probability, read_bundle
from pipeline.cli import say
from pipeline.errors import OutputExistsError, SetupError
from pipeline.manifest import FileEntry, file_entries, publish
from pipeline.records import LABELS
from pipeline.storage import Folder
from training import vit
from training.calibrate import fit_temperature, fit_threshold, operating_point
from training.checkpoint import Checkpoint, Checkpoints
from training.config import TrainingConfig
from training.device import Compute, choose, device_of, explained, keep_freed_memory, reproducible
from training.export import INPUT, OPSET, OUTPUT, check_onnx, to_onnx
from training.identity import difference, is_done
from training.inputs import Inputs
from training.loader import Batches
from training.logs import Logs
from training.loop import Trainer
from training.model import Detector, build_detector, join_batch_norm
from training.ranks import Ranks, joined
from training.said_once import said_once
from training.signals import Signals
from training.validation import validation_logits

__all__ = ["Work"]

_ONNX_CHECKED: Final = 64  # validation pictures on which ONNX and PyTorch are compared


class Work:
    """A run that is asked for.

    Args:
        config: the settings.
        inputs: checked shards and statistics.
        identity: what the bundle is made of (`training.identity`).
        output: the bundle's folder.
        logs: the folder of logs and checkpoints, which all ranks must see.
    """

    def __init__(
        self, config: TrainingConfig, inputs: Inputs, identity: dict[str, Any], output: str, logs: str
    ) -> None:
        self._config, self._inputs, self._identity, self._logs = config, inputs, identity, logs
        self._output = Folder(output)
        self._checkpoints = Checkpoints(Folder(logs).child("checkpoints"), config.checkpoints_kept)

    def run(self, resume: bool, overwrite: bool, update: bool) -> None:
        """Train, calibrate, export, publish.

        Raises:
            OutputExistsError: there are checkpoints of an unfinished run that may not be continued or dropped.
        """
        with said_once():
            device = device_of(self._config)
        with joined(device) as ranks:
            if ranks.world > 1 and ranks.by_rank_0(lambda: self._done(overwrite, update)):
                return
            ranks.by_rank_0(lambda: self._settle_checkpoints(resume, overwrite, update))
            checkpoint = self._checkpoints.latest() if self._checkpoints.names() else None
            if len(set(ranks.gather(checkpoint and checkpoint.state["tensors"]["sha256"]))) > 1:
                error = SetupError(f"{self._logs}: the ranks see different checkpoints: all must see the same folder.")
                raise ranks.common(error)
            compute = choose(self._config, device, _recorded_threads(checkpoint, ranks.world))
            if device.type == "cpu":
                keep_freed_memory()
            with reproducible(compute), explained(self._config):
                detector, val, best = self._train(checkpoint, compute, ranks)
                if ranks.leads:
                    self._finish(detector, val, best, compute, ranks.world)
                ranks.gather(None)  # the others wait for the bundle, or torchrun would take them for lost

    def _done(self, overwrite: bool, update: bool) -> bool:
        if not is_done(self._output, self._identity, overwrite, update):
            return False
        self._checkpoints.clear()  # of a run that was killed after it had published
        say(f"{self._output.uri}: up to date")
        return True

    def _train(
        self, checkpoint: Checkpoint | None, compute: Compute, ranks: Ranks
    ) -> tuple[Detector, Batches, dict[str, Any]]:
        """The trained detector, the whole validation split, and the best epoch's metrics."""
        config, inputs = self._config, self._inputs
        detector = ranks.alike(lambda: build_detector(config, inputs, initial=checkpoint is None))
        if config.batch_norm == "sync":
            join_batch_norm(detector)
        train, val = self._batches(compute, ranks)
        if config.amp != "none" and compute.amp is None:
            ranks.say(f"amp: {config.amp} is for a GPU; this run is on the CPU, in float32.")
        ranks.say(
            f"training {config.model} on {train.rows} rows, {val.rows} for validation; {ranks.world} x "
            f"{compute.device.type}, {compute.threads} threads, {compute.workers} loader processes"
        )
        with Signals(ranks) as signals:
            trainer = Trainer(detector, config, compute, train, val, self._checkpoints, self._identity, signals, ranks)
            if checkpoint is not None:
                trainer.restore(checkpoint)
                ranks.say(f"continuing at step {trainer.step}{_moved(checkpoint.state, compute, ranks.world)}")
            with Logs(self._logs, trainer.step, trainer.epochs) if ranks.leads else nullcontext() as logs:
                best = trainer.fit(logs)
        at_once = config.micro_batch or -(-config.batch_size // ranks.world)  # what the device has had before
        return trainer.detector, self._val(compute, Ranks(), at_once), best

    def _batches(self, compute: Compute, ranks: Ranks) -> tuple[Batches, Batches]:
        config, inputs = self._config, self._inputs
        train = Batches(
            inputs,
            inputs.train,
            config.batch_size,
            compute.workers,
            config.shuffle_row_groups,
            seed=config.seed,
            pin_memory=compute.device.type == "cuda",
            robust=config.robust,
            ranks=(ranks.rank, ranks.world),
        )
        return train, self._val(compute, ranks, config.micro_batch * ranks.world or config.batch_size)

    def _val(self, compute: Compute, ranks: Ranks, batch_size: int) -> Batches:
        inputs, pin = self._inputs, compute.device.type == "cuda"
        shares = (ranks.rank, ranks.world)
        return Batches(inputs, inputs.val, batch_size, compute.workers, 1, pin_memory=pin, ranks=shares)

    def _settle_checkpoints(self, resume: bool, overwrite: bool, update: bool) -> None:
        """Leave those checkpoints that the run goes on from, or none, or refuse."""
        if overwrite or not self._checkpoints.names():
            self._checkpoints.clear()
            return
        where, checkpoint = Folder(self._logs).locate("checkpoints"), self._checkpoints.latest()
        problem = "every one is damaged"
        if checkpoint is not None:
            found = difference(checkpoint.state["identity"], self._identity)
            if found is None and not resume:
                raise OutputExistsError(
                    f"{where}: holds checkpoints of an unfinished run. Continue it with --resume, or give --overwrite "
                    "to start anew."
                )
            if found is None:
                return
            problem = found
        if not update:
            raise OutputExistsError(
                f"{where}: the checkpoints of an unfinished run cannot be continued: {problem}. Give --update or "
                "--overwrite to drop them and start anew, or go back to what they were made with."
            )
        say(f"{where}: checkpoints dropped: {problem}.")
        self._checkpoints.clear()

    def _finish(self, detector: Detector, val: Batches, best: dict[str, Any], compute: Compute, world: int) -> None:
        document = self._publish(detector, val, best, compute, world)
        read_bundle(self._output.uri)
        self._checkpoints.clear()
        validation = document["validation"]
        say(
            f"{self._output.uri}: bundle {document['sha256'][:16]}, validation AUC {validation['auc']:.4f} "
            f"(epoch {validation['epoch']}), threshold {document['threshold']:.4f}"
        )

    def _publish(
        self, detector: Detector, val: Batches, best: dict[str, Any], compute: Compute, world: int
    ) -> dict[str, Any]:
        logits, labels = validation_logits(detector, val, compute.device)
        temperature = fit_temperature(logits, labels)
        threshold = fit_threshold(probability(logits, temperature), labels, self._config.threshold)
        size = self._inputs.canonical.geometry.size
        onnx = to_onnx(detector, size)
        check_onnx(onnx, detector, _first_pictures(val, _ONNX_CHECKED))
        weights = {key: value.detach().cpu().contiguous() for key, value in detector.state_dict().items()}
        body = {
            "kind": "bundle",
            **self._identity,
            "architecture": self._architecture(detector, size),
            "canonical": self._inputs.document,
            "mean": list(self._inputs.mean),
            "std": list(self._inputs.std),
            "labels": list(LABELS),
            "temperature": temperature,
            "threshold": threshold,
            "threshold_rule": self._rule(),
            "threads": compute.threads,
            "ranks": world,
            "device": compute.device.type,
            "validation": {
                "epoch": best["epoch"],
                "split": "val",
                **operating_point(logits, labels, temperature, threshold),
            },
            "files": file_entries(
                [
                    self._put(MODEL_ONNX, onnx),
                    self._put(MODEL_SAFETENSORS, safetensors.torch.save(weights)),
                ]
            ),
        }
        return publish(self._output, MANIFEST, body)

    def _put(self, name: str, data: bytes) -> FileEntry:
        self._output.put(name, data)
        digest, count = self._output.sha256(name)
        return FileEntry(name, count, digest)

    def _rule(self) -> str:
        rule = self._config.threshold
        return f"target_fpr={rule.target_fpr}" if rule.rule == "target_fpr" else rule.rule

    def _architecture(self, detector: Detector, size: int) -> dict[str, Any]:
        return {
            "name": self._config.model,
            "library": "telltale" if self._config.model in vit.__all__ else "timm",
            "outputs": self._config.outputs,
            "parameters": sum(parameter.numel() for parameter in detector.parameters()),
            "input": {"name": INPUT, "dtype": "uint8", "layout": "NHWC", "size": size},
            "output": {"name": OUTPUT, "dtype": "float32"},
            "opset": OPSET,
        }


def _recorded_threads(checkpoint: Checkpoint | None, world: int) -> int | None:
    """The thread count to go on with; a number of ranks shares the cores otherwise than another."""
    if checkpoint is None or checkpoint.state["ranks"] != world:
        return None
    return int(checkpoint.state["threads"])


def _moved(state: dict[str, Any], compute: Compute, world: int) -> str:
    """What is to be said of a checkpoint that was written elsewhere."""
    if (state["ranks"], state["device"]) == (world, compute.device.type):
        return ""
    return f", which was reached by {state['ranks']} x {state['device']}: losses agree but for rounding"


def _first_pictures(batches: Batches, count: int) -> torch.Tensor:
    """The first pictures of a split, uint8 (at most `count`, size, size, 3)."""
    found: list[torch.Tensor] = []
    for batch in batches.epoch():
        found.append(batch.pixels)
        if sum(len(part) for part in found) >= count:
            break
    return torch.cat(found)[:count]
