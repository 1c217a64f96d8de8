"""Several processes on one run: the same batches, the same weights, stopped and continued together."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.testing import assert_close

from pipeline.errors import SetupError, TelltaleError
from tests.training.runs import sets, stop_soon, train
from tests.training.test_inputs import read
from tests.training.test_resume import steps_saved, wait_for_checkpoint
from training.loader import Batches
from training.rows import EpochRows
from training.said_once import said_once

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SETTINGS: dict[str, Any] = {
    "model": "test_vit",
    "batch_size": 60,
    "optimizer": "sgd",
    "lr": 0.05,
    "checkpoint_steps": 1,
}
TIMEOUT = 240
TWO_PHASES: dict[str, Any] = {
    "momentum": 0.0,
    "grad_clip": 0.01,
    "monitor": "val_loss",
    "phases": json.dumps([{"epochs": 9, "lr": 20.0, "patience": 2, "unfreeze": 6}, {"unfreeze": "all"}]),
}
"""The first rate is so high that the first phase gets worse, ends early, and hands on weights that are not its last."""


def command(run: Path, ranks: int, *options: str, **changes: Any) -> list[str]:
    return [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"),
        *("-m", "training.run", "--run-dir", str(run), *options, *sets(**{**SETTINGS, **changes})),
    ]


def start(run: Path, ranks: int, *options: str, **changes: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(run, ranks, *options, **changes), stderr=subprocess.PIPE, text=True, env=environment
    )


def finish(process: subprocess.Popen[str]) -> str:
    return process.communicate(timeout=TIMEOUT)[1]


def copy(prepared: Path, place: Path) -> Path:
    return Path(shutil.copytree(prepared, place))


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]


def steps(run: Path) -> list[tuple[int, str]]:
    return [(line["step"], line["ids"]) for line in lines(run) if line["kind"] == "step"]


def losses(run: Path) -> list[list[float]]:
    """Of every step, and the metrics of every epoch."""
    names = ("loss", "train_loss", "val_loss", "val_auc", "val_accuracy")
    return [[line[name] for name in names if name in line] for line in lines(run)]


@pytest.mark.parametrize("world", [2, 3, 4])
def test_the_ranks_shares_are_the_batches_of_one(prepared: Path, world: int) -> None:
    inputs = read(prepared)
    whole = list(Batches(inputs, inputs.train, 33, 0, 2, seed=5).epoch(1, 2))
    shares = [list(Batches(inputs, inputs.train, 33, 0, 2, seed=5, ranks=(r, world)).epoch(1, 2)) for r in range(world)]
    for batch, *parts in zip(whole, *shares, strict=True):
        assert list(chain(*(part.ids for part in parts))) == batch.ids
        assert {part.total for part in parts} == {len(batch.ids)}
        assert len({len(part.labels) for part in parts}) == 1
        assert (sum(part.digest() for part in parts) - batch.digest()) % 2**64 == 0


@pytest.mark.parametrize(("rows", "world", "length"), [(7, 2, 4), (1, 2, 2), (2, 4, 2), (9, 4, 3), (9, 1, 9)])
def test_shares_are_equally_long_and_have_two_rows_at_least(rows: int, world: int, length: int) -> None:
    shares = [EpochRows(list(range(100, 100 + rows)), 0, rank, world) for rank in range(world)]
    assert [len(share) for share in shares] == [length] * world
    assert list(chain(*(share[: share.counted] for share in shares))) == list(range(100, 100 + rows))


def test_the_place_of_an_id_is_part_of_the_digest(prepared: Path) -> None:
    inputs = read(prepared)
    batch = next(Batches(inputs, inputs.train, 8, 0, 2, seed=5).epoch())
    before = batch.digest()
    batch.ids[0], batch.ids[1] = batch.ids[1], batch.ids[0]
    assert batch.digest() != before
    assert -(2**63) <= before < 2**63


@pytest.mark.parametrize(
    "changes",
    [
        {
            "micro_batch": 16,
            "grad_clip": 1.0,
            "batch_size": 61,
            "head": json.dumps([{"dense": 8, "l2": 0.1, "activation": "gelu"}]),
            "class_weights": "[1.0, 3.0]",
            "label_smoothing": 0.1,
        },
        TWO_PHASES,
        {"model": "efficientnet_b1", "batch_norm": "frozen", "epochs": 1, "batch_size": 81},
    ],
)
def test_two_ranks_train_the_weights_of_one(prepared: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """No dropout and no batch norm that learns: the rest is the order of float32 sums. The batches are odd, so that
    one rank's shares are filled up; in validation the last batch is too short for two ranks."""
    runs = [copy(prepared, tmp_path / str(world)) for world in (1, 2)]
    assert train(runs[0], **{**SETTINGS, **changes}) == 0
    process = start(runs[1], 2, **changes)
    shown = finish(process)
    assert process.returncode == 0, shown
    assert shown.count("model: bundle") == 1
    assert steps(runs[0]) == steps(runs[1])
    for one, two in zip(*(losses(run) for run in runs), strict=True):
        assert two == pytest.approx(one, abs=1e-4)
    one, two = (load_file(run / "model" / "model.safetensors") for run in runs)
    for key, value in one.items():
        assert_close(two[key], value, atol=1e-5, rtol=1e-5)
    assert [json.loads((run / "model" / "bundle.json").read_bytes())["ranks"] for run in runs] == [1, 2]


def stop_at_a_checkpoint(run: Path, ranks: int, *options: str, **changes: Any) -> str:
    """Start ranks and end them, after a step, by a SIGTERM to torchrun, which hands it on; what they said."""
    known = steps_saved(run)
    process = start(run, ranks, *options, **changes)
    wait_for_checkpoint(run, process, known)
    process.send_signal(signal.SIGTERM)
    shown = finish(process)
    assert process.returncode != 0
    assert shown.count("a checkpoint was written") == 1, shown
    return shown


def test_fewer_or_more_ranks_continue_where_others_were_stopped(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two ranks go on where one was stopped, and where they are stopped both one rank and four do all the rest."""
    whole, stopped, fewer = (copy(prepared, tmp_path / name) for name in ("whole", "stopped", "fewer"))
    settings = {**SETTINGS, "epochs": 8}
    assert train(whole, **settings) == 0
    with pytest.raises(TelltaleError, match=r"stopped by SIGTERM"):
        stop_soon(stopped, ["--run-dir", str(stopped), *sets(**settings)])
    first = len(steps(stopped))
    assert "which was reached by 1 x cpu" in stop_at_a_checkpoint(stopped, 2, "--resume", epochs=8)
    assert first < len(steps(stopped)) < len(steps(whole))

    shutil.copytree(stopped, fewer, dirs_exist_ok=True)
    capsys.readouterr()
    assert train(fewer, "--resume", **settings) == 0
    assert "which was reached by 2 x cpu" in capsys.readouterr().err
    process = start(stopped, 4, "--resume", epochs=8)
    shown = finish(process)
    assert process.returncode == 0, shown
    assert "which was reached by 2 x cpu" in shown
    wanted = load_file(whole / "model" / "model.safetensors")
    for run in (fewer, stopped):
        assert steps(run) == steps(whole)
        found = load_file(run / "model" / "model.safetensors")
        for key, value in wanted.items():
            assert_close(found[key], value, atol=1e-5, rtol=1e-5)


def test_two_ranks_that_were_stopped_continue_to_the_same_bytes(prepared: Path, tmp_path: Path) -> None:
    """Also where each rank's batch norm and moving average have seen its own share, and its dropout draws its own."""
    whole, stopped = copy(prepared, tmp_path / "whole"), copy(prepared, tmp_path / "stopped")
    changes: dict[str, Any] = {
        "model": "test_efficientnet",
        "epochs": 6,
        "ema": 0.9,
        "drop_rate": 0.5,
        "micro_batch": 16,
    }
    stop_at_a_checkpoint(stopped, 2, **changes)
    for run in (whole, stopped):
        process = start(run, 2, "--resume", **changes)
        shown = finish(process)
        assert process.returncode == 0, shown
        assert ("continuing at step" in shown) == (run == stopped)
    assert steps(stopped) == steps(whole)
    for name in ("bundle.json", "model.onnx", "model.safetensors"):
        assert (stopped / "model" / name).read_bytes() == (whole / "model" / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"unfreeze": "[nowhere]"}, "no module 'nowhere'"),
        ({"lr": 1e30}, "not a finite number"),
    ],
)
def test_what_is_wrong_for_all_ranks_is_said_once(
    prepared: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    process = start(copy(prepared, tmp_path / "run"), 2, **changes)
    shown = finish(process)
    assert process.returncode != 0
    assert shown.count(message) == 1, shown
    assert "defect of Telltale" not in shown
    assert not (tmp_path / "run" / "model").exists()


def test_what_is_wrong_for_one_rank_alone_is_said_by_it(prepared: Path, tmp_path: Path) -> None:
    """Rank 1 never joins: rank 0 would wait for it, and torchrun ends rank 0."""
    run = copy(prepared, tmp_path / "run")
    words = [*("-m", "training.run", "--run-dir", str(run)), *sets(**SETTINGS), "--set"]
    script = f"exec {shlex.join([sys.executable, *words])} lr=$((1 - 2 * RANK))"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--no-python"]
    process = subprocess.run(
        [*launcher, "bash", "-c", script], stderr=subprocess.PIPE, text=True, timeout=TIMEOUT, check=False
    )
    assert process.returncode != 0
    assert process.stderr.count("'lr': input should be greater than 0") == 1, process.stderr


def test_a_message_that_nobody_can_be_asked_about_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match="broken"), said_once():
        raise SetupError("broken")
