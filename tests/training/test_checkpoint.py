"""Checkpoints: whole or not there, the last ones only, never a pickle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.errors import StorageError
from pipeline.storage import Folder
from training.checkpoint import Checkpoints


def tensors(value: float) -> dict[str, torch.Tensor]:
    picture = torch.full((2, 3, 4, 5), value).to(memory_format=torch.channels_last)
    return {"model.a": picture, "optimizer.0.step": torch.tensor(value)}


def saved(folder: Path, steps: int, keep: int = 2, best: int | None = None) -> Checkpoints:
    checkpoints = Checkpoints(Folder(str(folder)), keep)
    references: list[dict[str, Any]] = []
    for step in range(1, steps + 1):
        if step == best:
            references = [checkpoints.put_tensors("best", tensors(-1.0))]
        checkpoints.save(step, 0, tensors(step), {"step": step, "loss": 0.1 * step}, references)
    return checkpoints


def test_what_was_saved_is_read_back_to_the_bit(tmp_path: Path) -> None:
    checkpoint = saved(tmp_path, 3).latest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 3
    assert checkpoint.state["loss"] == 0.1 * 3
    assert all(torch.equal(value, checkpoint.tensors[key]) for key, value in tensors(3).items())


def test_no_folder_is_no_checkpoint(tmp_path: Path) -> None:
    assert Checkpoints(Folder(str(tmp_path / "none")), 2).latest() is None


def test_the_last_ones_and_the_best_weights_stay(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 9, keep=2, best=4)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.partition("-")[0] for name in names] == ["best", "step", "step", "step", "step"]
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
    assert checkpoints.names() == ["step-000000008-00000.json", "step-000000009-00000.json"]
    latest = checkpoints.latest()
    assert latest is not None
    assert torch.equal(checkpoints.get_tensors(latest.state["references"][0])["model.a"], tensors(-1.0)["model.a"])


@pytest.mark.parametrize("kind", ["json", "safetensors"])
@pytest.mark.parametrize("damage", ["byte", "cut", "missing"])
def test_a_damaged_checkpoint_is_skipped_for_the_one_before(
    tmp_path: Path, flip_byte: Callable[[Path, int], None], capsys: pytest.CaptureFixture[str], kind: str, damage: str
) -> None:
    checkpoints = saved(tmp_path, 3)
    (path,) = tmp_path.glob(f"step-000000003-*.{kind}")
    if damage == "byte":
        flip_byte(path, 30)
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:-5])
    else:
        path.unlink()
    checkpoint = checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 2
    assert (path.name in capsys.readouterr().err) == (kind == "safetensors" or damage != "missing")


def test_only_damaged_checkpoints_are_none(tmp_path: Path, flip_byte: Callable[[Path, int], None]) -> None:
    checkpoints = saved(tmp_path, 2)
    for path in tmp_path.glob("*.safetensors"):
        flip_byte(path, 40)
    assert checkpoints.latest() is None


def test_a_full_disk_leaves_the_last_checkpoint_good(tiny_disk: Path) -> None:
    checkpoints = saved(tiny_disk / "checkpoints", 2)
    with pytest.raises(StorageError, match="disk is full"):
        checkpoints.save(3, 0, {"model.a": torch.zeros(1_000_000)}, {"step": 3})
    checkpoint = checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 2


def test_a_pickle_in_the_folder_is_not_looked_at(tmp_path: Path) -> None:
    checkpoints = saved(tmp_path, 1)
    (tmp_path / "step-000000009-00000.pt").write_bytes(b"\x80\x04.")
    checkpoint = checkpoints.latest()
    assert checkpoint is not None
    assert checkpoint.state["step"] == 1


def test_one_that_could_not_be_read_does_not_outlive_those_that_a_resume_writes(
    tmp_path: Path, flip_byte: Callable[[Path, int], None]
) -> None:
    saved(tmp_path, 3, keep=3)
    (damaged,) = tmp_path.glob("step-000000003-*.safetensors")
    flip_byte(damaged, 40)
    checkpoints = Checkpoints(Folder(str(tmp_path)), 1)
    checkpoints.save(2, 1, tensors(2.5), {"step": 2})  # before it gets as far as the damaged one was
    latest = checkpoints.latest()
    assert checkpoints.names() == ["step-000000002-00001.json"]
    assert latest is not None
    assert torch.equal(latest.tensors["model.a"], tensors(2.5)["model.a"])
