"""What only a GPU can show. Skipped where there is none."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.errors import SetupError, TelltaleError
from tests.training.runs import sets, stop_soon, train
from tests.training.test_inputs import read
from training.loader import Batches
from training.prefetch import on_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees"),
]
DEVICE = "cuda"


def trained(prepared: Path, place: Path, **changes: Any) -> Path:
    run = Path(shutil.copytree(prepared, place))
    assert train(run, **{"device": DEVICE, "epochs": 2, "lr": 0.001, **changes}) == 0
    return run


def steps(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == "step"]


def test_batches_arrive_unchanged_and_in_order(prepared: Path) -> None:
    inputs = read(prepared)
    here = list(Batches(inputs, inputs.train, 32, 0, 2, seed=5).epoch())
    there = list(
        on_device(Batches(inputs, inputs.train, 32, 2, 2, seed=5, pin_memory=True).epoch(), torch.device("cuda"))
    )
    assert [batch.ids for batch in there] == [batch.ids for batch in here]
    for mine, theirs in zip(here, there, strict=True):
        assert theirs.pixels.is_cuda
        assert torch.equal(theirs.pixels.cpu(), mine.pixels)
        assert torch.equal(theirs.labels.cpu(), mine.labels)


TOLERANCE = {"none": 1e-4, "bf16": 0.03, "fp16": 0.03}
"""Of a loss; training/README.md states it."""


@pytest.mark.parametrize("amp", TOLERANCE)
def test_a_resumed_run_sees_the_samples_of_an_undisturbed_one_and_their_losses_agree(
    prepared: Path, tmp_path: Path, amp: str
) -> None:
    settings = {"device": DEVICE, "epochs": 4, "lr": 0.001, "amp": amp, "grad_clip": 1.0, "checkpoint_steps": 1}
    whole = trained(prepared, tmp_path / "whole", **settings)
    stopped = Path(shutil.copytree(prepared, tmp_path / "stopped"))
    with pytest.raises(TelltaleError, match="stopped by SIGTERM"):
        stop_soon(stopped, ["--run-dir", str(stopped), *sets(**settings)])
    assert len(steps(stopped)) < len(steps(whole))
    assert train(stopped, "--resume", **settings) == 0
    agree(steps(whole), steps(stopped), amp)


def agree(first: Sequence[dict[str, Any]], second: Sequence[dict[str, Any]], amp: str) -> None:
    assert [line["ids"] for line in first] == [line["ids"] for line in second]
    mine, theirs = ([line["loss"] for line in lines] for lines in (first, second))
    np.testing.assert_allclose(mine, theirs, rtol=0, atol=TOLERANCE[amp])


@pytest.mark.parametrize("amp", TOLERANCE)
def test_two_runs_see_the_same_samples_and_their_losses_agree(prepared: Path, tmp_path: Path, amp: str) -> None:
    first, second = (steps(trained(prepared, tmp_path / name, amp=amp, grad_clip=1.0)) for name in ("a", "b"))
    agree(first, second, amp)


@pytest.mark.parametrize(
    "changes",
    [{"compile": True}, {"ema": 0.9}, {"micro_batch": 8}, {"batch_norm": "sync"}, {"channels_last": False}],
    ids=str,
)
def test_a_gpu_s_bundle_is_published_and_agrees_with_onnx(
    prepared: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Training itself compares ONNX with PyTorch and refuses a bundle that differs."""
    run = trained(prepared, tmp_path / "run", **changes)
    assert json.loads((run / "model" / "bundle.json").read_bytes())["device"] == "cuda"


@pytest.mark.parametrize("left", [64, 8])
def test_a_setting_that_needs_too_much_memory_is_told(prepared: Path, tmp_path: Path, left: int) -> None:
    """In 64 MiB there is room for the model's 26 and none for a step; in 8 there is none for the model."""
    torch.cuda.empty_cache()
    held = torch.empty(torch.cuda.mem_get_info()[0] - left * 2**20, dtype=torch.uint8, device="cuda")
    with pytest.raises(SetupError, match=r"GPU is out of memory.*training\.micro_batch"):
        trained(prepared, tmp_path / "run", model="efficientnet_b1", batch_size=160)
    del held
