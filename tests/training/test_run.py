"""The command: what it writes, when it refuses, when there is nothing to do."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch

from pipeline.cli import run_command
from pipeline.errors import DataError, OutputExistsError, StorageError, UsageError
from tests.conftest import small_disk
from tests.training.runs import fill, newest, sets, train
from training.checkpoint import Checkpoints
from training.run import main


def bundle(run: Path) -> bytes:
    return (run / "model" / "bundle.json").read_bytes()


def test_only_model_and_logs_are_written_and_checkpoints_are_gone(finished: Path) -> None:
    assert sorted(path.name for path in (finished / "model").iterdir()) == [
        "bundle.json",
        "model.onnx",
        "model.safetensors",
    ]
    assert sorted(path.name for path in (finished / "logs").iterdir()) == [
        "curves.png",
        "metrics.jsonl",
        "tensorboard",
    ]


def test_a_second_run_does_nothing(finished_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in finished_copy.rglob("*")}
    assert train(finished_copy, workers=1, checkpoint_steps=3) == 0
    assert "model: up to date" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in finished_copy.rglob("*")} == before


def test_a_run_with_nothing_to_do_says_so_without_importing_torch(finished: Path) -> None:
    code = "import sys; from training.run import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, "--run-dir", str(finished), *sets()], check=True)


def test_other_settings_are_refused_and_the_bundle_stays(finished_copy: Path) -> None:
    before = bundle(finished_copy)
    with pytest.raises(OutputExistsError, match=r"'config' differs.*--overwrite"):
        train(finished_copy, lr=0.1)
    assert bundle(finished_copy) == before


def test_a_changed_byte_is_refused(finished_copy: Path, flip_byte: Callable[[Path, int], None]) -> None:
    flip_byte(finished_copy / "model" / "model.safetensors", 1000)
    with pytest.raises(OutputExistsError, match=r"damaged bundle: .*model\.safetensors"):
        train(finished_copy)


def test_a_foreign_file_in_the_output_is_refused(fresh: Path) -> None:
    (fresh / "model").mkdir()
    (fresh / "model" / "thesis.tex").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"thesis\.tex"):
        train(fresh, "--update")
    assert (fresh / "model" / "thesis.tex").read_text() == "mine"


def test_a_loss_that_is_not_a_number_names_the_setting_and_keeps_the_last_checkpoint(fresh: Path) -> None:
    with pytest.raises(DataError, match=r"not a finite number: lower training\.lr \(now 1e\+30\)"):
        train(fresh, lr=1e30, checkpoint_steps=1)
    last = max((fresh / "logs" / "checkpoints").glob("*.json"))
    assert json.loads(last.read_bytes())["at"]["step"] >= 1
    assert not (fresh / "model").exists()


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"lr": 1e300, "checkpoint_steps": 1}, "a weight after step 2 is"),
        ({"lr": 1e30, "checkpoint_steps": 0}, "a validation logit of epoch 2 is"),
    ],
)
def test_what_is_not_a_number_gets_into_no_checkpoint(fresh: Path, settings: dict[str, Any], what: str) -> None:
    """A step an epoch: the loss of the second is that of the first's weights, and finite."""
    phases = json.dumps([{"epochs": 1, "lr": 0.01}, {"epochs": 1, "lr": settings.pop("lr")}])
    with pytest.raises(DataError, match=what):
        train(fresh, batch_size=200, optimizer="sgd", phases=phases, epochs=10, lr=3e-4, **settings)
    last = newest(fresh)
    assert last.state["at"]["step"] == 1
    assert all(bool(torch.isfinite(value).all()) for value in last.tensors.values())


def test_a_full_disk_is_told(fresh: Path, tiny_disk: Path) -> None:
    with pytest.raises(StorageError, match=r"the disk is full.*--resume.*training\.checkpoints_kept \(now 2\)"):
        train(fresh, "--logs", str(tiny_disk / "logs"), checkpoint_steps=1)
    assert not (fresh / "model").exists()


def test_a_run_that_filled_the_disk_goes_on_when_there_is_room(
    finished: Path, fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_disk(tmp_path / "disk", 32) as disk:
        save, saved = Checkpoints.save, count(1)

        def save_and_fill(*given: Any) -> None:
            save(*given)
            if next(saved) == 3:
                fill(disk / "other files")

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", save_and_fill)
            with pytest.raises(StorageError, match="the disk is full"):
                train(fresh, "--logs", str(disk / "logs"), checkpoint_steps=1)
        (disk / "other files").unlink()
        assert train(fresh, "--resume", "--logs", str(disk / "logs")) == 0
    for name in ("bundle.json", "model.onnx", "model.safetensors"):
        assert (fresh / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--set", "epoch=3"], 2, "did you mean 'epochs'"),
        (["--set", "model=efficient"], 2, "timm has no 'efficient'"),
        (["--set", "pretrained=weights.pth"], 2, "looks like a pickle"),
        (["--set", "pretrained=none.safetensors"], 2, "no such weights file"),
        (["--shards", "none"], 2, "Run spark_jobs/augment.py first"),
        (["--config", "none.yaml"], 2, "no such configuration file"),
    ],
)
def test_bad_use_has_exit_code_2_and_no_traceback(
    fresh: Path, capsys: pytest.CaptureFixture[str], options: list[str], code: int, message: str
) -> None:
    assert run_command(main, ["--run-dir", str(fresh), *sets(), *options]) == code
    shown = capsys.readouterr().err
    assert message in shown
    assert "Traceback" not in shown
    assert not (fresh / "model").exists()


def test_places_can_be_named_one_by_one(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    named = ["--shards", "shards", "--stats", "stats.json", "--output", "model"]
    places = [str(finished / item) if not item.startswith("--") else item for item in named]
    assert main([*places, *sets()]) == 0
    assert "up to date" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["--shards", "--stats", "--output"])
def test_a_place_that_is_left_out_is_named(missing: str) -> None:
    places = {"--shards": "a", "--stats": "b", "--output": "c"}
    del places[missing]
    with pytest.raises(UsageError, match=missing):
        main([word for pair in places.items() for word in pair])
