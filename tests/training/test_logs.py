"""What a run writes for people to watch."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from pipeline.errors import StorageError
from tests.training.runs import fill
from training.curves import draw_curves
from training.logs import Logs
from training.model import Detector


def lines(run: Path, kind: str) -> list[dict[str, object]]:
    found = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    return [line for line in found if line["kind"] == kind]


def step(number: int) -> dict[str, object]:
    return {"step": number, "epoch": 1, "loss": 0.5, "lr": 0.1, "seconds": 0.5, "wait": 0.1}


def epoch(number: int, at: int) -> dict[str, float]:
    values = {"train_loss": 0.5, "val_loss": 0.6, "val_auc": 0.7, "val_accuracy": 0.8, "lr": 0.1}
    return {"epoch": number, "step": at, **values}


LOGITS, LABELS = np.array([-1.0, 2.0, 0.5]), np.array([0.0, 1.0, 1.0])
DETECTOR = Detector(nn.Conv2d(3, 1, 3), (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


def test_every_step_and_epoch_is_logged_once(finished: Path) -> None:
    steps, epochs = lines(finished, "step"), lines(finished, "epoch")
    assert [line["step"] for line in steps] == list(range(1, 11))
    assert [line["epoch"] for line in steps] == [1] * 5 + [2] * 5
    assert [line["epoch"] for line in epochs] == [1, 2]
    losses = np.array([float(str(line["loss"])) for line in steps])
    np.testing.assert_allclose(float(str(epochs[0]["train_loss"])), losses[:5].mean(), rtol=1e-12)


def test_tensorboard_has_the_same_losses(finished: Path) -> None:
    board = EventAccumulator(str(finished / "logs" / "tensorboard"))
    board.Reload()
    found = {item.step: item.value for item in board.Scalars("train/loss")}
    assert found == {line["step"]: line["loss"] for line in lines(finished, "step")}


def test_tensorboard_has_pictures_and_distributions(finished: Path) -> None:
    board = EventAccumulator(str(finished / "logs" / "tensorboard"), size_guidance={"images": 0})
    board.Reload()
    grid = board.Images("train/first batch")[0]
    assert (grid.width, grid.height) == (8 * 32, 2 * 32)  # 16 pictures
    counts = {name: board.Histograms(f"validation logits/{name}")[-1].histogram_value.num for name in ("real", "ai")}
    assert counts == {"real": 17, "ai": 17}
    assert "weights/backbone.conv_stem.weight" in board.Tags()["histograms"]


def test_curves_are_a_picture_with_something_in_it(finished: Path) -> None:
    picture = np.asarray(Image.open(finished / "logs" / "curves.png").convert("L"))
    assert picture.shape[0] > 200
    assert len(np.unique(picture)) > 20


@pytest.mark.parametrize("series", ["train_loss", "val_loss", "val_auc", "lr"])
def test_each_series_has_a_curve(series: str) -> None:
    """Its ends, which set the axis, stay."""
    history = [dict(epoch(number, 5 * number)) for number in range(1, 4)]
    for item, value in zip(history, (0.2, 0.4, 0.6), strict=True):
        item[series] = value
    drawn = draw_curves(history)
    history[1][series] = 0.5
    assert draw_curves(history) != drawn


def test_curves_of_more_epochs_differ() -> None:
    one, two = draw_curves([dict(epoch(1, 5))]), draw_curves([dict(epoch(1, 5)), dict(epoch(2, 10))])
    assert Image.open(io.BytesIO(one)).size == Image.open(io.BytesIO(two)).size
    assert one != two


@pytest.mark.parametrize("validated", [False, True])
def test_a_resume_drops_what_was_logged_past_the_checkpoint(tmp_path: Path, validated: bool) -> None:
    """From the checkpoint before the validation of epoch 1, or from that after it."""
    with Logs(str(tmp_path / "logs"), 0, 0) as logs:
        for number in range(1, 6):
            logs.step(step(number))
        logs.epoch([dict(epoch(1, 5))], LOGITS, LABELS, DETECTOR)
        logs.step(step(6))
    with open(tmp_path / "logs" / "metrics.jsonl", "a", encoding="utf-8") as stream:
        stream.write('{"kind": "step", "st')  # killed in the middle of a line
    with Logs(str(tmp_path / "logs"), 5, int(validated)) as logs:
        if not validated:
            logs.epoch([dict(epoch(1, 5))], LOGITS, LABELS, DETECTOR)
        logs.step(step(6))
    assert [line["step"] for line in lines(tmp_path, "step")] == [1, 2, 3, 4, 5, 6]
    assert [line["epoch"] for line in lines(tmp_path, "epoch")] == [1]
    board = EventAccumulator(str(tmp_path / "logs" / "tensorboard"))
    board.Reload()
    for name in ("train/loss", "train/lr", "train/waiting"):
        assert [item.step for item in board.Scalars(name)] == [1, 2, 3, 4, 5, 6]
    assert [item.step for item in board.Scalars("epoch/val_auc")] == [5]
    assert [item.step for item in board.Histograms("validation logits/ai")] == [5]


def test_a_new_run_starts_new_logs(tmp_path: Path) -> None:
    for _ in range(2):
        with Logs(str(tmp_path / "logs"), 0, 0) as logs:
            logs.step(step(1))
    assert len(lines(tmp_path, "step")) == 1
    assert len(list((tmp_path / "logs" / "tensorboard").iterdir())) == 1


@pytest.mark.parametrize("board", [False, True])
def test_a_full_disk_is_told_whichever_file_meets_it(
    tiny_disk: Path, capfd: pytest.CaptureFixture[str], board: bool
) -> None:
    """TensorBoard's file grows in a thread of its own."""
    message = r"metrics\.jsonl: cannot be written \(No space left on device\).*--resume"
    pictures = torch.randint(0, 256, (16, 32, 32, 3), dtype=torch.uint8)

    def log_on_and_on() -> None:
        with Logs(str(tiny_disk / "logs"), 0, 0) as logs:
            fill(tiny_disk / "filler")
            for number in range(1, 1000):
                logs.pictures(pictures) if board else logs.step(step(number))
                logs.flush()

    with pytest.raises(StorageError, match=message):
        log_on_and_on()
    assert "Traceback" not in capfd.readouterr().err
