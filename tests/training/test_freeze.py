"""What learns in a phase, and that nothing else moves."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn

from pipeline.config import build
from pipeline.errors import ConfigError
from training.config import HeadLayer, Phase
from training.freeze import freeze, training_mode, weighted_modules
from training.head import build_head
from training.model import Detector

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def detector(own_head: bool = False, **options: Any) -> Detector:
    torch.manual_seed(0)
    backbone = timm.create_model("test_efficientnet", num_classes=0 if own_head else 1, **options)
    width: Any = backbone.num_features
    head = build_head(width, [HeadLayer(dense=8), HeadLayer(batch_norm=True)], 1) if own_head else None
    return Detector(backbone, MEAN, STD, head=head)


def learning(model: Detector) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}


def frozen(model: Detector, unfreeze: Any, batch_norm: str = "train") -> Detector:
    freeze(model, build(Phase, {"unfreeze": unfreeze}), batch_norm)
    training_mode(model, batch_norm)
    return model


def test_all_of_it_learns_unless_something_else_is_said() -> None:
    model = frozen(detector(), "all")
    assert learning(model) == {name for name, _ in model.named_parameters()}
    assert all(module.training for module in model.modules())


def test_a_head_of_timm_learns_alone() -> None:
    assert learning(frozen(detector(), "head")) == {"backbone.classifier.weight", "backbone.classifier.bias"}


def test_a_head_of_ours_learns_alone_and_the_backbone_serves() -> None:
    model = frozen(detector(own_head=True, drop_path_rate=0.5), "head")
    assert {name.split(".")[0] for name in learning(model)} == {"head"}
    assert all(not module.training for module in model.backbone.modules())
    assert all(module.training for module in model.head.modules())


def test_the_last_modules_are_those_with_weights_of_their_own() -> None:
    model = detector()
    names = weighted_modules(model.backbone)
    assert names[0] == "conv_stem"
    assert names[-2:] == ["conv_head", "bn2"]
    wanted = {f"backbone.{name}.{part}" for name, part in [("conv_head", "weight"), ("bn2", "weight"), ("bn2", "bias")]}
    head = {"backbone.classifier.weight", "backbone.classifier.bias"}
    assert learning(frozen(model, 2)) == wanted | head


def test_named_modules_learn_with_all_that_is_in_them() -> None:
    names = learning(frozen(detector(), ["blocks.3", "bn2"]))
    assert {".".join(name.split(".")[1:3]) for name in names} == {
        "blocks.3",
        "bn2.weight",
        "bn2.bias",
        "classifier.weight",
        "classifier.bias",
    }


@pytest.mark.parametrize(
    ("unfreeze", "message"),
    [
        (["blocks.33"], "no module 'blocks.33': did you mean blocks.3"),
        ([""], "no module ''"),
        (1000, r"'unfreeze': 1000, but the model has \d+ modules"),
    ],
)
def test_a_module_that_is_not_there_is_refused_with_the_nearest(unfreeze: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        frozen(detector(), unfreeze)


def test_frozen_batch_norm_keeps_its_statistics_and_the_rest_moves_its_own() -> None:
    model = frozen(detector(), ["blocks.3"])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("backbone.blocks.3.") for name in moved)
    assert any(name.endswith("running_mean") for name in moved)


def test_batch_norm_of_the_backbone_can_be_frozen_while_the_rest_learns() -> None:
    model = frozen(detector(own_head=True), "all", batch_norm="frozen")
    before = {name: value.clone() for name, value in model.backbone.named_buffers()}
    assert any(name.endswith("running_mean") for name in before)
    model(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.named_buffers())
    assert model.head.get_submodule("batch_norm1").training
    names = learning(model)
    assert "backbone.conv_stem.weight" in names
    assert not any(".bn" in name for name in names if name.startswith("backbone."))
    assert "head.batch_norm1.weight" in names


def test_a_frozen_batch_norm_without_parameters_keeps_its_statistics_too() -> None:
    model = detector()
    for module in model.backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_parameter("weight", None)
            module.register_parameter("bias", None)
    before = {name: value.clone() for name, value in frozen(model, "all", "frozen").named_buffers()}
    model(torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)).sum().backward()
    assert any(name.endswith("running_mean") for name in before)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


def test_a_phase_in_which_nothing_learns_is_refused() -> None:
    class Bare(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))[:, :1]

    with pytest.raises(ConfigError, match="leaves nothing that learns"):
        freeze(Detector(Bare(), MEAN, STD), build(Phase, {"unfreeze": "head"}), "train")
