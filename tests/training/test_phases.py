"""Runs of several phases, and what a step is made of: micro-batches, weights, moving average."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from pipeline.cli import run_command
from pipeline.config import build
from pipeline.storage import Folder
from tests.training.runs import sets, train
from tests.training.test_inputs import read
from tests.training.test_resume import checkpoints_of, fit, logged, resumes_at
from training.checkpoint import Checkpoints
from training.config import TrainingConfig
from training.optim import class_weights
from training.run import main

UNSAID: dict[str, Any] = {"epochs": 10, "lr": 3e-4}
"""Every phase has its own."""
EVERYTHING: dict[str, Any] = {
    **UNSAID,
    "head": [{"dense": 16, "l2": 0.01}, {"batch_norm": True}, {"dropout": 0.5}],
    "phases": [
        {"epochs": 1, "unfreeze": "head", "lr": 0.003},
        {"epochs": 1, "unfreeze": 4, "schedule": "plateau", "plateau": {"patience": 1}, "lr": 0.001, "patience": 1},
        {"epochs": 1, "warmup_steps": 2, "lr": 0.0005},
        {"epochs": 1, "unfreeze": "head", "lr": 0.0001},  # what it freezes has gradients from the phase before
    ],
    "batch_size": 64,
    "micro_batch": 24,
    "ema": 0.9,
    "layer_decay": 0.8,
    "class_weights": [1.0, 2.0],
    "grad_clip": 1.0,
    "label_smoothing": 0.1,
    "drop_path_rate": 0.2,
}
"""Every part of the trainer that has a state, or draws at random; lowered rates and early stops: `STOPS_EARLY`."""


@pytest.fixture(scope="module")
def undisturbed(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("phases")
    return folder, *fit(prepared, folder, **EVERYTHING, drop_rate=0.0)


def epochs(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [line for line in lines if line["kind"] == "epoch"]


def test_a_run_goes_through_its_phases(undisturbed: Any) -> None:
    folder, _, lines = undisturbed
    assert [line["phase"] for line in epochs(lines)] == [0, 1, 2, 3]
    assert len(checkpoints_of(folder)) == 4 * (3 + 1)
    assert [line["lr"] for line in lines if line["kind"] == "step"][6:8] == [0.00025, 0.0005]


@pytest.mark.parametrize("number", range(15))
def test_a_resume_in_any_phase_is_the_undisturbed_run(
    undisturbed: Any, prepared: Path, tmp_path: Path, number: int
) -> None:
    """Numbers 2, 6, 10 and 14 are after an epoch's last step, 3, 7 and 11 between two phases."""
    resumes_at(number, undisturbed, prepared, tmp_path, **EVERYTHING, drop_rate=0.0)


def model_at(folder: Path, number: int) -> dict[str, torch.Tensor]:
    """The trained weights of a checkpoint."""
    checkpoints = Checkpoints(Folder(str(folder / "checkpoints")), 1)
    name = checkpoints.names()[number]
    path = next((folder / "checkpoints").glob(name.removesuffix(".json") + "-*.safetensors"))
    tensors = checkpoints.get_tensors({"path": path.name, "sha256": Folder(str(path.parent)).sha256(path.name)[0]})
    return {key.removeprefix("model."): value for key, value in tensors.items() if key.startswith("model.")}


def test_what_a_phase_freezes_does_not_move(undisturbed: Any) -> None:
    folder, _, _ = undisturbed
    first, end_of_head, end_of_last_four, end = (model_at(folder, number) for number in (0, 3, 7, 11))
    backbone = [key for key in first if key.startswith("backbone.")]
    assert all(torch.equal(first[key], end_of_head[key]) for key in backbone)
    assert not torch.equal(first["head.dense0.weight"], end_of_head["head.dense0.weight"])
    moved = {key.rpartition(".")[0] for key in backbone if not torch.equal(end_of_head[key], end_of_last_four[key])}
    assert {"backbone.conv_head", "backbone.bn2"} <= moved
    assert len(moved) == 4
    assert not torch.equal(end_of_last_four["backbone.conv_stem.weight"], end["backbone.conv_stem.weight"])


NO_DROPOUT = {"drop_rate": 0.0, "drop_path_rate": 0.0, "checkpoint_steps": 0}


@pytest.mark.parametrize("model", [{"model": "test_vit"}, {"batch_norm": "frozen"}])
def test_micro_batches_train_as_the_whole_batch(prepared: Path, tmp_path: Path, model: dict[str, Any]) -> None:
    """61 rows are cut into 15, 15, 15 and 16; the last batch has 38: 12, 13 and 13."""
    common = {**model, **NO_DROPOUT, "batch_size": 61, "epochs": 1, "optimizer": "sgd", "lr": 0.05}
    whole, lines = fit(prepared, tmp_path / "whole", **common)
    parts, lines_of_parts = fit(prepared, tmp_path / "parts", **common, micro_batch=16)
    assert [line["ids"] for line in lines if "ids" in line] == [line["ids"] for line in lines_of_parts if "ids" in line]
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, atol=1e-5, rtol=1e-5)


def test_a_phase_that_does_not_improve_stops_and_hands_on_its_best_weights(prepared: Path, tmp_path: Path) -> None:
    """So high a rate makes the loss worse after the first epoch; so low a one leaves the weights as they are."""
    phases = [{"epochs": 9, "lr": 20.0, "patience": 2}, {"epochs": 1, "lr": 1e-12}]
    common = {**NO_DROPOUT, "model": "test_vit", "optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}
    _, lines = fit(prepared, tmp_path, **common, **UNSAID, phases=phases, monitor="val_loss", grad_clip=0.01)
    losses = [line["val_loss"] for line in epochs(lines) if line["phase"] == 0]
    assert len(losses) < 9
    best = losses.index(min(losses))
    assert best == len(losses) - 3
    assert epochs(lines)[-1]["val_loss"] == pytest.approx(losses[best], abs=1e-6)
    assert abs(losses[-1] - losses[best]) > 1e-5


def test_a_bundle_has_the_weights_of_the_best_epoch_and_says_which(prepared: Path, tmp_path: Path) -> None:
    """So high a rate makes the loss worse after the first epoch; the bundle is that of a run which ends at the best."""
    common = {**NO_DROPOUT, "model": "test_vit", "optimizer": "sgd", "momentum": 0.0, "schedule": "constant"}

    def bundle(epochs: int) -> dict[str, bytes]:
        run = Path(shutil.copytree(prepared, tmp_path / str(epochs)))
        assert train(run, **common, epochs=epochs, lr=20.0, monitor="val_loss", grad_clip=0.01) == 0
        return {path.name: path.read_bytes() for path in (run / "model").iterdir()}

    whole = bundle(3)
    lines = [line for line in logged(tmp_path / "3" / "logs" / "metrics.jsonl") if line["kind"] == "epoch"]
    best = min(lines, key=lambda line: float(line["val_loss"]))
    assert best != lines[-1]
    shorter = bundle(best["epoch"])
    assert all(whole[name] == shorter[name] for name in ("model.safetensors", "model.onnx"))
    validation = json.loads(whole["bundle.json"])["validation"]
    assert (validation["epoch"], validation["auc"]) == (best["epoch"], best["val_auc"])


@pytest.mark.parametrize(
    ("changes", "times"), [({"class_weights": "[2.0, 2.0]"}, 2.0), ({"robust.jpeg.probability": 1.0}, None)]
)
def test_a_setting_reaches_the_first_step(fresh: Path, tmp_path: Path, changes: dict[str, Any], times: Any) -> None:
    """The same pictures, before anything has learned: another loss. The rate ends the run after it."""
    other = Path(shutil.copytree(fresh, tmp_path / "other"))
    first = []
    for run, settings in ((fresh, {}), (other, changes)):
        assert run_command(main, ["--run-dir", str(run), *sets(lr=1e30, **settings)]) == 1
        first.append(logged(run / "logs" / "metrics.jsonl")[0])
    plain, changed = first
    assert changed["ids"] == plain["ids"]
    assert abs(changed["loss"] / plain["loss"] - 1) > 1e-4
    if times:
        assert changed["loss"] == pytest.approx(times * plain["loss"], rel=1e-6)


STOPS_EARLY: dict[str, Any] = {
    **NO_DROPOUT,
    **UNSAID,
    "model": "test_vit",
    "optimizer": "sgd",
    "monitor": "val_loss",
    "phases": [
        {"epochs": 9, "lr": 1e-30, "schedule": "plateau", "plateau": {"factor": 0.5, "patience": 1}, "patience": 3},
        {"epochs": 1, "lr": 0.05},
    ],
}
"""At such a rate no logit changes: the first phase never improves."""


@pytest.fixture(scope="module")
def stopped_early(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("early")
    return folder, *fit(prepared, folder, **STOPS_EARLY)


def test_a_rate_falls_and_a_phase_stops_early(stopped_early: Any) -> None:
    _, _, lines = stopped_early
    assert [line["phase"] for line in epochs(lines)] == [0, 0, 0, 0, 1]
    assert [line["lr"] for line in epochs(lines)][:4] == [1e-30, 1e-30, 0.5e-30, 0.25e-30]


@pytest.mark.parametrize("number", range(4))
def test_a_resume_knows_of_lowered_rates_and_of_patience(
    stopped_early: Any, prepared: Path, tmp_path: Path, number: int
) -> None:
    """From the checkpoint of each epoch of the phase that stops early."""
    resumes_at(number, stopped_early, prepared, tmp_path, **STOPS_EARLY)


@pytest.mark.parametrize("model", ["test_vit", "test_efficientnet"])
def test_what_is_published_is_the_moving_average(prepared: Path, tmp_path: Path, model: str) -> None:
    """Recomputed from the weights, and batch norm's statistics, after each step: decay(t) =
    min(0.9, 1 - (1 + t)^(-2/3)), from t = 0, as in timm; a count of batches is not averaged."""
    config = {**NO_DROPOUT, "model": model, "epochs": 1, "ema": 0.9, "checkpoint_steps": 1}
    found, _ = fit(prepared, tmp_path, **config)
    steps = len(checkpoints_of(tmp_path)) - 1
    start = fit_start(prepared, config)
    average = {key: value.clone() for key, value in start.items()}
    for number in range(steps):
        decay = min(0.9, 1 - (1 + number) ** (-2 / 3))
        for key, value in model_at(tmp_path, number).items():
            average[key] = average[key] * decay + value * (1 - decay) if value.is_floating_point() else value
    for key, value in average.items():
        torch.testing.assert_close(found[key], value, atol=1e-6, rtol=1e-5)


def fit_start(run: Path, changes: dict[str, Any]) -> dict[str, torch.Tensor]:
    from tests.training.test_resume import SETTINGS
    from training.model import build_detector

    return dict(build_detector(build(TrainingConfig, {**SETTINGS, **changes}), read(run)).state_dict())


@pytest.mark.parametrize(
    ("given", "weights"), [("none", (1.0, 1.0)), ([1.0, 3.0], (1.0, 3.0)), ("balanced", (100 / 160, 100 / 40))]
)
def test_class_weights(given: Any, weights: tuple[float, float]) -> None:
    from training.inputs import RowGroup, Split

    split = Split("train", (RowGroup("train-0", 0, 100),), {"real": 80, "ai": 20})
    assert class_weights(build(TrainingConfig, {"class_weights": given}), split) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"class_weights": [1.0]}, "two positive numbers"),
        ({"micro_batch": 1}, "'micro_batch' must be 0"),
        ({"unfreeze": 0}, "'unfreeze' must be"),
        ({"phases": [{"epoch": 3}]}, r"phases\[0\].*did you mean 'epochs'"),
        ({"phases": [{}, {"lr": 0.1, "lr_min": 0.2}]}, r"phases\[1\].*'lr_min'"),
        ({"plateau": {"patience": 5}}, "'plateau' is without effect"),
        ({"phases": [{"plateau": {"patience": 5}}, {}]}, "'plateau' is without effect"),
        ({"optimizer": "adam", "momentum": 0.5}, "'momentum' is without effect"),
    ],
)
def test_phases_that_cannot_be_are_refused_by_name(values: dict[str, Any], message: str) -> None:
    from pipeline.errors import ConfigError

    with pytest.raises(ConfigError, match=message):
        build(TrainingConfig, values)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on a CPU")
def test_a_compiled_detector_learns_like_one_that_is_not(prepared: Path, tmp_path: Path) -> None:
    """All micro-batches have 20 rows: for each other number everything would be compiled anew, half a minute long.

    A ResNet has fewer kinds of layers, each a compiler's run, than an EfficientNet.
    """
    phases = [{"epochs": 1, "unfreeze": unfreeze, "lr": 0.001} for unfreeze in ("head", "all")]
    changes: dict[str, Any] = {**UNSAID, "model": "test_resnet", "phases": phases}
    changes |= {"batch_size": 40, "micro_batch": 20, "drop_rate": 0.0, "drop_path_rate": 0.0}
    _, plain = fit(prepared, tmp_path / "plain", **changes)
    torch.compiler.reset()
    counters.clear()
    _, compiled = fit(prepared, tmp_path / "compiled", **changes, compile=True)
    assert counters["frames"]["ok"] == counters["frames"]["total"] > 1
    assert not counters["graph_break"]
    ours, theirs = ([line["loss"] for line in lines if line["kind"] == "step"] for lines in (compiled, plain))
    assert len(ours) == 8
    assert ours == pytest.approx(theirs, rel=1e-4)
