"""Heads as lists of layers: their parameters, their beginning, their penalty."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.config import build
from pipeline.errors import ConfigError
from tests.training.test_inputs import read
from training.config import HeadLayer, TrainingConfig
from training.head import build_head, l2_penalty
from training.model import build_detector

DEEP: list[dict[str, object]] = [
    {"dense": 256},
    {"batch_norm": True},
    {"dropout": 0.5},
    {"dense": 128, "activation": "gelu"},
    {"batch_norm": True},
    {"dropout": 0.3},
]


def layers(*values: dict[str, object]) -> list[HeadLayer]:
    return [build(HeadLayer, value) for value in values]


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_layers_come_in_their_order_and_the_output_last() -> None:
    head = build_head(2048, layers(*DEEP), 1)
    names = ["dense0", "relu0", "batch_norm1", "dropout2", "dense3", "gelu3", "batch_norm4", "dropout5", "output"]
    assert [name for name, _ in head.named_children()] == names
    assert head(torch.randn(5, 2048)).shape == (5, 1)


def test_its_parameters_are_those_that_keras_calls_trainable() -> None:
    """558,337, the number of the original head on 2,048 features."""
    assert count(build_head(2048, layers(*DEEP), 1)) == 558_337


def test_a_head_begins_near_zero() -> None:
    torch.manual_seed(0)
    assert build_head(64, layers({"dense": 32}), 2)(torch.randn(100, 64)).abs().max() < 0.3


def test_the_penalty_is_the_sum_of_the_squares() -> None:
    chosen = layers({"dense": 3, "l2": 0.01}, {"dropout": 0.5}, {"dense": 2}, {"dense": 2, "l2": 2.0})
    head = build_head(4, chosen, 1)
    first, last = (head.state_dict()[f"{name}.weight"].flatten().tolist() for name in ("dense0", "dense3"))
    wanted = 0.01 * sum(w**2 for w in first) + 2.0 * sum(w**2 for w in last)
    found = l2_penalty(head, chosen)
    assert found is not None
    assert found.item() == pytest.approx(wanted, rel=1e-5)
    assert l2_penalty(build_head(4, chosen[1:3], 1), chosen[1:3]) is None


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({}, "is one of"),
        ({"dense": 3, "dropout": 0.5}, "is one of"),
        ({"dropout": 0.5, "l2": 0.1}, "belong to a dense layer"),
        ({"dense": 3, "activation": "tanh"}, "activation"),
        ({"units": 3}, "unknown key"),
    ],
)
def test_a_layer_that_cannot_be_is_refused(layer: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TrainingConfig, {"head": [layer]})


def test_timm_s_own_dropout_is_refused_beside_a_head() -> None:
    with pytest.raises(ConfigError, match="'drop_rate' belongs to timm's own head"):
        build(TrainingConfig, {"head": [{"dense": 3}], "drop_rate": 0.5})


@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_vit", "mobilenetv3_small_050"])
def test_a_head_fits_behind_any_timm_backbone(prepared: object, name: str) -> None:
    config = build(TrainingConfig, {"model": name, "pretrained": False, "head": DEEP, "loss": "ce"})
    detector = build_detector(config, read(prepared))  # type: ignore[arg-type]
    logits = detector(torch.randint(0, 256, (3, 32, 32, 3), dtype=torch.uint8))
    assert logits.shape == (3,)
    assert logits.abs().max() < 1
