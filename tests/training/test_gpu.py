"""What only a GPU can show. Skipped where there is none."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training.runs import train
from tests.training.test_inputs import read
from training.loader import Batches
from training.prefetch import on_device

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch sees"),
]


def trained(prepared: Path, place: Path, **changes: Any) -> Path:
    run = Path(shutil.copytree(prepared, place))
    assert train(run, **{"device": "cuda", "epochs": 2, "lr": 0.001, **changes}) == 0
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


@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_two_runs_see_the_same_samples_and_their_losses_agree(prepared: Path, tmp_path: Path, amp: str) -> None:
    first, second = (steps(trained(prepared, tmp_path / name, amp=amp, grad_clip=1.0)) for name in ("a", "b"))
    assert [line["ids"] for line in first] == [line["ids"] for line in second]
    tolerance = 1e-4 if amp == "none" else 0.03
    np.testing.assert_allclose([s["loss"] for s in first], [s["loss"] for s in second], atol=tolerance)


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


def test_a_setting_that_needs_too_much_memory_is_told(prepared: Path, tmp_path: Path) -> None:
    from pipeline.errors import SetupError

    free = torch.cuda.mem_get_info()[0]
    held = torch.empty(free - 64 * 2**20, dtype=torch.uint8, device="cuda")
    with pytest.raises(SetupError, match=r"out of memory: set training\.micro_batch"):
        trained(prepared, tmp_path / "run", model="efficientnet_b1", batch_size=160)
    del held
