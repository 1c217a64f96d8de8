"""The detector, its loss, its optimiser."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers.drop import DropPath
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.config import build
from pipeline.errors import ConfigError
from tests.training.test_inputs import read
from training.config import TrainingConfig
from training.inputs import Inputs
from training.model import Detector, build_detector, join_batch_norm
from training.optim import losses_of, make_optimizer

MEAN, STD = (0.4, 0.5, 0.6), (0.1, 0.2, 0.3)


class FirstPixel(nn.Module):
    """Gives back the normalised values of the first pixel."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures[:, self.channels, 0, 0]


@pytest.fixture(scope="module")
def inputs(prepared: object) -> Inputs:
    return read(prepared)  # type: ignore[arg-type]


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("channel", [0, 1, 2])
def test_pixels_are_normalised_by_the_statistics(channel: int, channels_last: bool) -> None:
    pixels = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    found = Detector(FirstPixel([channel]), MEAN, STD, channels_last)(pixels)
    wanted = (pixels.numpy()[:, 0, 0, channel] / 255.0 - MEAN[channel]) / STD[channel]
    assert found.dtype == torch.float32
    assert found.shape == (4,)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize("channels_last", [False, True])
def test_weights_and_pictures_lie_in_memory_as_the_setting_says(inputs: Inputs, channels_last: bool) -> None:
    settings = {"model": "test_efficientnet", "pretrained": False, "channels_last": channels_last}
    detector = build_detector(build(TrainingConfig, settings), inputs)
    seen: list[torch.Tensor] = []
    detector.backbone.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    detector(torch.zeros((2, 32, 32, 3), dtype=torch.uint8))
    for tensor in (seen[0], detector.backbone.get_parameter("conv_stem.weight")):
        assert tensor.is_contiguous(memory_format=torch.channels_last) == channels_last
        assert tensor.is_contiguous() != channels_last


def test_two_outputs_become_their_difference() -> None:
    pixels = torch.randint(0, 256, (4, 8, 8, 3), dtype=torch.uint8)
    first, second, both = (Detector(FirstPixel(c), MEAN, STD)(pixels) for c in ([0], [1], [0, 1]))
    torch.testing.assert_close(both, second - first)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_of_a_difference_is_cross_entropy(smoothing: float) -> None:
    outputs, labels = torch.randn(64, 2, dtype=torch.float64), torch.randint(0, 2, (64,))
    found = losses_of(outputs[:, 1] - outputs[:, 0], labels.double(), smoothing).mean()
    torch.testing.assert_close(found, F.cross_entropy(outputs, labels, label_smoothing=smoothing))


@pytest.mark.parametrize(
    ("name", "loss", "rates"),
    [
        ("test_efficientnet", "bce", {"drop_rate": 0.2, "drop_path_rate": 0.1}),
        ("test_resnet", "ce", {}),
        ("test_vit", "bce", {}),  # has a weight a position: its size must be said
    ],
)
def test_any_timm_model_works_at_the_data_s_size(inputs: Inputs, name: str, loss: str, rates: dict[str, float]) -> None:
    config = build(TrainingConfig, {"model": name, "loss": loss, "pretrained": False, **rates})
    detector = build_detector(config, inputs)
    logits = detector(torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8))
    assert logits.shape == (2,)
    assert logits.abs().max() < 2  # no detector begins certain


def test_dropout_and_stochastic_depth_are_the_configuration_s(inputs: Inputs) -> None:
    """timm raises the depth's rate block by block, up to that of the configuration."""
    config = build(
        TrainingConfig, {"model": "test_efficientnet", "pretrained": False, "drop_rate": 0.2, "drop_path_rate": 0.1}
    )
    backbone: Any = build_detector(config, inputs).backbone
    assert backbone.drop_rate == 0.2
    depths = [module.drop_prob for module in backbone.modules() if isinstance(module, DropPath)]
    assert 0.05 < max(depths) <= 0.1


def test_random_weights_follow_from_the_seed(inputs: Inputs) -> None:
    def weights(seed: int) -> torch.Tensor:
        config = build(TrainingConfig, {"model": "test_resnet", "pretrained": False, "seed": seed})
        return next(build_detector(config, inputs).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


def test_joined_batch_norm_has_the_same_weights_and_serves_the_same(inputs: Inputs) -> None:
    """timm's batch norms have an activation of their own, which must stay."""
    head = [{"dense": 8}, {"batch_norm": True}]
    detector = build_detector(
        build(TrainingConfig, {"model": "test_efficientnet", "pretrained": False, "head": head}), inputs
    )
    pixels = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8)
    with torch.inference_mode():
        before, weights = detector.eval()(pixels), dict(detector.state_dict())
        plain = sum(isinstance(module, _BatchNorm) for module in detector.modules())
        join_batch_norm(detector)
        assert torch.equal(detector.eval()(pixels), before)
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in detector.modules()) == plain > 1
    assert detector.state_dict().keys() == weights.keys()
    assert all(torch.equal(value, weights[key]) for key, value in detector.state_dict().items())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"model": "efficientnet_b11"}, "timm has no 'efficientnet_b11': did you mean efficientnet_b1"),
        ({"model": "test_vit", "drop_path_rate": 0.1, "drop_rate": 0.1}, None),
    ],
)
def test_an_unknown_model_is_refused_with_the_nearest_name(
    inputs: Inputs, values: dict[str, object], message: str | None
) -> None:
    config = build(TrainingConfig, {**values, "pretrained": False})
    if message is None:
        build_detector(config, inputs)
        return
    with pytest.raises(ConfigError, match=message):
        build_detector(config, inputs)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_biases_and_norms_have_no_weight_decay(optimizer: str) -> None:
    model = timm.create_model("test_efficientnet", num_classes=1)
    config = build(TrainingConfig, {"optimizer": optimizer, "weight_decay": 0.3})
    made = make_optimizer(Detector(model, MEAN, STD), config, config.lr)
    decay = {id(p): group["weight_decay"] for group in made.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0.3 if parameter.ndim > 1 else 0.0), name
