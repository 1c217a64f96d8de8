"""Initial weights: what is loaded, what is refused, and with which words."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pipeline.config import build
from pipeline.errors import UsageError
from tests.training.runs import sets
from tests.training.test_inputs import read
from training.config import TrainingConfig
from training.identity import identity_of, weights_sha256
from training.model import build_detector
from training.weights import hub_name, load_weights

Weights = dict[str, torch.Tensor]


def backbone(classes: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model: nn.Module = timm.create_model("test_efficientnet", num_classes=classes)
    return model


def stem(model: nn.Module) -> torch.Tensor:
    return model.state_dict()["conv_stem.weight"]


def saved(path: Path, model: nn.Module, change: Callable[[Weights], object] = lambda weights: None) -> str:
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    change(weights)
    save_file(weights, path)
    return str(path)


def test_a_file_of_the_same_model_is_loaded_to_the_bit(tmp_path: Path) -> None:
    source, target = backbone(seed=1), backbone(seed=2)
    load_weights(target, saved(tmp_path / "w.safetensors", source))
    assert all(torch.equal(value, target.state_dict()[key]) for key, value in source.state_dict().items())


def test_half_precision_becomes_float32(tmp_path: Path) -> None:
    path = saved(
        tmp_path / "w.safetensors",
        backbone(seed=1),
        lambda w: w.update({key: value.half() for key, value in w.items() if value.is_floating_point()}),
    )
    target = backbone(seed=2)
    load_weights(target, path)
    assert stem(target).dtype == torch.float32
    assert torch.equal(stem(target), stem(backbone(seed=1)).half().float())


def test_a_head_of_another_size_is_left_out_with_a_notice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = backbone(classes=1, seed=2)
    before = target.state_dict()["classifier.weight"].clone()
    load_weights(target, saved(tmp_path / "w.safetensors", backbone(classes=1000, seed=1)))
    assert torch.equal(target.state_dict()["classifier.weight"], before)
    assert "head 'classifier.weight' (1000, 256) left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("conv_stem.weight"), "missing: conv_stem.weight"),
        (lambda w: w.update({"stem.weight": torch.zeros(1)}), "unexpected: stem.weight"),
        (lambda w: w.update({"conv_stem.weight": torch.zeros(1, 3)}), r"another shape: conv_stem.weight \(1, 3\)"),
    ],
)
def test_other_tensors_are_refused_by_name(tmp_path: Path, change: Callable[[Weights], object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load_weights(backbone(), saved(tmp_path / "w.safetensors", backbone(), change))


def test_a_bundle_s_head_of_timm_is_left_out_with_a_notice_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "w.safetensors", nn.ModuleDict({"backbone": backbone(1), "head": nn.Identity()}))
    load_weights(backbone(0), path, nn.Linear(256, 1))
    assert "the head of that bundle is left out" in capsys.readouterr().err


def test_a_bundle_s_head_is_a_start_where_the_configuration_has_the_same(prepared: Path, tmp_path: Path) -> None:
    inputs, head = read(prepared), [{"dense": 8}, {"batch_norm": True}]
    settings = {"model": "test_efficientnet", "head": head, "channels_last": False}
    trained = build_detector(build(TrainingConfig, {**settings, "pretrained": False, "seed": 1}), inputs)
    path = saved(tmp_path / "w.safetensors", trained)
    again = build_detector(build(TrainingConfig, {**settings, "pretrained": path, "seed": 2}), inputs)
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in trained.state_dict().items())


def test_a_bundle_s_weights_are_a_start(finished: Path) -> None:
    target = backbone(seed=2)
    load_weights(target, str(finished / "model" / "model.safetensors"))
    ours = load_file(finished / "model" / "model.safetensors")
    assert all(torch.equal(value, ours[f"backbone.{key}"]) for key, value in target.state_dict().items())


@pytest.mark.parametrize("own", [None, nn.Linear(256, 2), nn.Sequential(nn.Linear(256, 1))])
def test_a_bundle_s_head_of_another_kind_is_left_out_with_a_notice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], own: nn.Module | None
) -> None:
    source, target = backbone(0, seed=1), backbone(1, seed=2)
    before = copy.deepcopy(own)
    head = target.state_dict()["classifier.weight"].clone()
    path = saved(tmp_path / "w.safetensors", nn.ModuleDict({"backbone": source, "head": nn.Linear(256, 1)}))
    load_weights(target, path, own)
    assert "the head of that bundle is left out" in capsys.readouterr().err
    if own is not None and before is not None:
        assert all(torch.equal(value, before.state_dict()[key]) for key, value in own.state_dict().items())
    assert torch.equal(stem(target), stem(source))
    assert torch.equal(target.state_dict()["classifier.weight"], head)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".PTH"])
def test_a_pickle_is_refused_with_the_command_that_converts_it(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w{suffix}"
    torch.save(backbone().state_dict(), path)
    with pytest.raises(UsageError, match=r"pickle.*weights_only=True.*safetensors") as caught:
        weights_sha256(str(path))
    command = str(caught.value).partition('python -c "')[2].rstrip('"')
    command = command.replace("IN.pth", str(path)).replace("OUT.safetensors", str(tmp_path / "out.safetensors"))
    if suffix == ".pth":  # the advice works
        subprocess.run([sys.executable, "-c", command], check=True)
        load_weights(backbone(seed=3), str(tmp_path / "out.safetensors"))


@pytest.mark.parametrize("content", [b"", b"<html>", b"\x00" * 100])
def test_what_is_no_safetensors_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="not a readable safetensors file"):
        load_weights(backbone(), str(path))


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such weights file"):
        weights_sha256(str(tmp_path / "none.safetensors"))


def test_without_the_hub_the_command_says_at_once_to_name_a_file(fresh: Path, tmp_path: Path) -> None:
    started = time.monotonic()
    result = subprocess.run(
        [sys.executable, "-m", "training.run", "--run-dir", str(fresh), *sets(pretrained="true")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "cannot be reached" in result.stderr
    assert "--set pretrained=PATH" in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - started < 60
    assert not (fresh / "model").exists()


@pytest.mark.parametrize("changes", [{}, {"loss": "ce"}, {"head": [{"dense": 8}]}])
def test_timm_s_own_weights_are_loaded_to_the_bit(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    """From the hub's cache, where they lie in 1,000 classes once they were fetched."""
    name, commit = hub_name("test_efficientnet"), "0" * 40
    place = tmp_path / f"models--{name.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    (place / "refs" / "main").write_text(commit)
    (place / "snapshots" / commit).mkdir(parents=True)
    source = backbone(classes=1000, seed=5)
    saved(place / "snapshots" / commit / "model.safetensors", source)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    config, inputs = build(TrainingConfig, {"model": "test_efficientnet", **changes}), read(prepared)
    assert config.pretrained is True
    found = build_detector(config, inputs).backbone.state_dict()
    for key, value in source.state_dict().items():
        if not key.startswith("classifier."):
            assert torch.equal(found[key], value), key
    assert identity_of(config, inputs)["config"]["pretrained"] == name


@pytest.mark.shared
def test_the_imagenet_start_for_b1_fits_efficientnet_b1(shared: Path) -> None:
    path = shared / "weights" / "tf_efficientnet_b1.grown_from_b0_in1k.fp16.safetensors"
    if not path.is_file():
        pytest.skip("needs the weights kept beside the checkout, in ../shared/weights")
    model = timm.create_model("efficientnet_b1", num_classes=1)
    before = stem(model).clone()
    load_weights(model, str(path))
    assert not torch.equal(stem(model), before)
    assert stem(model).dtype == torch.float32
