"""Checkpoints: safetensors for the tensors, sealed JSON for the rest; atomic, checked when read, never a pickle.

The tensors go under a content-addressed name first and the JSON last, so that a checkpoint is whole or not there. This
module must not know what is in one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import safetensors.torch
import torch

from pipeline.cli import say
from pipeline.errors import IntegrityError, StorageError
from pipeline.manifest import canonical_json, seal, unseal
from pipeline.storage import Folder

__all__ = ["Checkpoint", "Checkpoints", "below"]

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and checked: JSON-ready `state` and `tensors`, on the CPU."""

    state: dict[str, Any]
    tensors: Tensors


class Checkpoints:
    """The checkpoints in a folder, of which the last `keep` stay."""

    def __init__(self, folder: Folder, keep: int) -> None:
        self._folder, self._keep = folder, keep

    def put_tensors(self, stem: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, Any]:
        """Write tensors as `<stem>-<sha256, 16 digits>.safetensors`; returns the reference to keep in a state.

        Raises:
            StorageError: disk full; what was there before stays good.
        """
        plain = {key: value.detach().to("cpu", copy=True).contiguous() for key, value in tensors.items()}
        data = safetensors.torch.save(plain)
        digest = hashlib.sha256(data).hexdigest()
        path = f"{stem}-{digest[:16]}.safetensors"
        self._put(path, data)
        return {"path": path, "sha256": digest}

    def get_tensors(self, reference: Mapping[str, Any]) -> Tensors:
        """The tensors that a reference names.

        Raises:
            StorageError: missing.
            IntegrityError: changed.
        """
        data = self._folder.read(reference["path"])
        if hashlib.sha256(data).hexdigest() != reference["sha256"]:
            raise IntegrityError(f"{self._folder.locate(reference['path'])}: the checkpoint was changed or cut.")
        return safetensors.torch.load(data)

    def save(
        self,
        step: int,
        epochs: int,
        tensors: Mapping[str, torch.Tensor],
        state: Mapping[str, Any],
        references: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        """Write a checkpoint and remove those that are over the number to keep.

        Args:
            step: steps done.
            epochs: epochs done, validation included.
            tensors: of model and optimiser.
            state: JSON-ready.
            references: of `put_tensors`; what they name stays as long as the checkpoint does.

        Raises:
            StorageError: disk full; the last checkpoint stays good.
        """
        stem = f"step-{step:09d}-{epochs:05d}"
        kept = {"tensors": self.put_tensors(stem, tensors), "references": list(references)}
        body = {**state, "kind": "checkpoint", **kept}
        self._put(f"{stem}.json", canonical_json(seal(body)))
        self._prune(f"{stem}.json")

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that is whole (each one that is not is reported), or None where there is none."""
        for name in reversed(self.names()):
            try:
                state = unseal(self._folder.read(name), self._folder.locate(name), "checkpoint")
                checkpoint = Checkpoint(state, self.get_tensors(state["tensors"]))
                for reference in state["references"]:
                    self.get_tensors(reference)
            except (IntegrityError, StorageError) as error:
                say(f"checkpoint skipped: {error}")
                continue
            return checkpoint
        return None

    def names(self) -> list[str]:
        """The names of the checkpoints' JSON files, oldest first."""
        if not self._folder.is_folder():
            return []
        return [entry.path for entry in self._folder.list() if entry.path.endswith(".json")]

    def clear(self) -> None:
        """Remove them all."""
        self._folder.remove("")

    def _put(self, path: str, data: bytes) -> None:
        try:
            self._folder.put(path, data)
        except StorageError as error:
            raise StorageError(
                f"{error} What was saved before stays good: give --resume then. training.checkpoints_kept (now "
                f"{self._keep}) says how many checkpoints lie there."
            ) from error

    def _prune(self, last: str) -> None:
        """Later ones than the last that was saved are of what a resume could not read, and went back behind."""
        used: set[str] = set()
        for name in [name for name in self.names() if name <= last][-self._keep :]:
            try:
                state = unseal(self._folder.read(name), self._folder.locate(name), "checkpoint")
            except IntegrityError:
                continue  # damaged: not worth a place
            used |= {name, *(reference["path"] for reference in (state["tensors"], *state["references"]))}
        for entry in list(self._folder.list(hidden=True)):
            if entry.path not in used:
                self._folder.remove(entry.path)


def below(tensors: Mapping[str, torch.Tensor], prefix: str) -> Tensors:
    """The tensors whose names begin with a prefix, by the rest of their names."""
    return {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
