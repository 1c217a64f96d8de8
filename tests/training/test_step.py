"""One step after another, against the formulas written out by hand."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import timm
import torch
from torch import nn

from pipeline.config import build
from training.batch import Batch
from training.config import TrainingConfig
from training.device import Compute
from training.head import build_head
from training.model import Detector
from training.ranks import Ranks
from training.step import Stepper

MEAN, STD = (0.5, 0.4, 0.6), (0.25, 0.2, 0.3)
CPU = Compute(torch.device("cpu"), 1, None, 0)
DENSE = {"dense": 4, "activation": "none"}
RATE = 0.1


class Means(nn.Module):
    """A backbone without weights: the mean of each channel."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def config_of(changes: Mapping[str, Any]) -> TrainingConfig:
    return build(TrainingConfig, {"pretrained": False, "head": [DENSE], "lr": RATE, **changes})


def detector_of(config: TrainingConfig) -> Detector:
    torch.manual_seed(1)
    detector = Detector(Means(), MEAN, STD, head=build_head(3, config.head, 1))
    nn.init.normal_(detector.head.get_parameter("output.weight"))  # so that gradients are not small
    return detector


def batch_of(number: int, rows: int = 7, side: int = 4) -> Batch:
    draws = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (rows, side, side, 3), dtype=torch.uint8, generator=draws)
    return Batch(pixels, (torch.arange(rows) % 3 == 0).float(), [str(row) for row in range(rows)], 0, rows)


class ByHand:
    """Steps as the papers and torch's documentation write them."""

    def __init__(self, detector: Detector, config: TrainingConfig, weights: tuple[float, float]) -> None:
        self._detector, self._config, self._weights = detector, config, weights
        self._values = list(detector.parameters())
        self._first = [torch.zeros_like(value) for value in self._values]
        self._second = [torch.zeros_like(value) for value in self._values]
        self._steps = 0

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean of the weighted cross-entropies, and L2 once."""
        smoothing = self._config.label_smoothing
        probability = torch.sigmoid(self._detector(batch.pixels))
        target = batch.labels * (1 - smoothing) + smoothing / 2
        each = -(target * torch.log(probability) + (1 - target) * torch.log(1 - probability))
        weight = torch.where(batch.labels == 1, self._weights[1], self._weights[0])
        l2 = self._config.head[0].l2 * (self._detector.head.get_parameter("dense0.weight") ** 2).sum()
        return (each * weight).sum() / len(batch.labels) + l2

    def step(self, batch: Batch, rate: float = RATE) -> None:
        """Change the weights."""
        gradients = list(torch.autograd.grad(self.loss(batch), self._values))
        norm = torch.stack([(gradient**2).sum() for gradient in gradients]).sum().sqrt()
        limit = self._config.grad_clip or float("inf")
        self._steps += 1
        with torch.no_grad():
            for at, (value, gradient) in enumerate(zip(self._values, gradients, strict=True)):
                self._update(at, value, gradient * min(1.0, limit / float(norm)), rate)

    def _update(self, at: int, value: torch.Tensor, gradient: torch.Tensor, rate: float) -> None:
        kind, decay = self._config.optimizer, self._config.weight_decay if value.ndim > 1 else 0.0
        if kind == "adamw":
            value *= 1 - rate * decay
        else:
            gradient = gradient + decay * value
        if kind == "sgd":
            momentum = self._config.momentum
            self._first[at] = momentum * self._first[at] + gradient
            value -= rate * (gradient + momentum * self._first[at])
            return
        self._first[at] = 0.9 * self._first[at] + 0.1 * gradient
        self._second[at] = 0.999 * self._second[at] + 0.001 * gradient**2
        mean = self._first[at] / (1 - 0.9**self._steps)
        square = self._second[at] / (1 - 0.999**self._steps)
        value -= rate * mean / (square.sqrt() + 1e-8)


SGD = {"optimizer": "sgd", "weight_decay": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "weight_decay": 0.1, "momentum": 0.8},
    "adam": {"optimizer": "adam", "weight_decay": 0.1},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.1},
    "class weights": {**SGD, "class_weights": [1.0, 3.0]},
    "label smoothing": {**SGD, "label_smoothing": 0.2},
    "clipping": {**SGD, "grad_clip": 0.05},
    "l2": {**SGD, "head": [{**DENSE, "l2": 0.1}]},
    "l2 and micro-batches": {**SGD, "head": [{**DENSE, "l2": 0.1}], "micro_batch": 3},
    "all at once": {
        "head": [{**DENSE, "l2": 0.1}],
        "micro_batch": 2,
        "grad_clip": 0.05,
        "class_weights": [2.0, 1.0],
        "label_smoothing": 0.1,
    },
}


@pytest.mark.parametrize("case", CASES)
def test_steps_are_those_of_the_formulas(case: str) -> None:
    config = config_of(CASES[case])
    given = config.class_weights
    weights = (given[0], given[1]) if isinstance(given, list) else (1.0, 1.0)
    detector = detector_of(config)
    start = copy.deepcopy(detector)
    stepper = Stepper(detector, config, config.plan[0], CPU, Ranks(), weights)
    expected = copy.deepcopy(start)
    reference = ByHand(expected, config, weights)
    for number, rate in enumerate((RATE, RATE / 10, 2 * RATE)):  # as a schedule gives them
        stepper.step(batch_of(number), number, number, rate)
        reference.step(batch_of(number), rate)
    for mine, theirs, before in zip(detector.parameters(), expected.parameters(), start.parameters(), strict=True):
        assert not torch.allclose(mine, before, atol=1e-4)
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("amp", [torch.bfloat16, torch.float16])
def test_steps_in_half_precision_are_near_the_formulas_and_go_on_after_a_checkpoint(amp: torch.dtype) -> None:
    """Clipped at a norm that gradients times fp16's scale are far above."""
    config, compute = config_of({**SGD, "grad_clip": 0.05, "micro_batch": 3}), Compute(CPU.device, 1, amp, 0)
    detector = detector_of(config)
    start, expected = copy.deepcopy(detector), copy.deepcopy(detector)
    stepper = Stepper(detector, config, config.plan[0], compute, Ranks(), (1.0, 1.0))
    reference = ByHand(expected, config, (1.0, 1.0))
    for number in range(2):
        stepper.step(batch_of(number), number, number, RATE)
        reference.step(batch_of(number))
    again = copy.deepcopy(detector)
    resumed = Stepper(again, config, config.plan[0], compute, Ranks(), (1.0, 1.0))
    resumed.restore(stepper.tensors(), stepper.scale())
    for one in (stepper, resumed):
        one.step(batch_of(2), 2, 2, RATE)
    reference.step(batch_of(2))
    assert bool(stepper.scale()) == (amp is torch.float16)
    assert resumed.scale() == stepper.scale()
    values = (model.parameters() for model in (detector, again, expected, start))
    for mine, resumed_one, theirs, before in zip(*values, strict=True):
        assert torch.equal(mine, resumed_one)
        assert (mine - theirs).norm() < 0.05 * (theirs - before).norm()


def test_a_gradient_that_fp16_cannot_hold_changes_nothing_but_the_scale() -> None:
    config, compute = config_of(SGD), Compute(CPU.device, 1, torch.float16, 0)
    detector = detector_of(config)
    start = copy.deepcopy(detector)
    stepper = Stepper(detector, config, config.plan[0], compute, Ranks(), (1e36, 1e36))
    before = stepper.scale()["scale"]
    stepper.step(batch_of(0), 0, 0, RATE)
    assert stepper.scale()["scale"] == before / 2
    assert all(
        torch.equal(mine, theirs) for mine, theirs in zip(detector.parameters(), start.parameters(), strict=True)
    )


def test_the_loss_of_a_step_is_the_sum_over_its_rows_without_l2() -> None:
    config = config_of({**SGD, "head": [{**DENSE, "l2": 0.1}], "micro_batch": 3})
    detector, batch = detector_of(config), batch_of(0)
    plain = config_of(SGD)
    expected = ByHand(copy.deepcopy(detector), plain, (1.0, 1.0)).loss(batch) * len(batch.labels)
    found = Stepper(detector, config, config.plan[0], CPU, Ranks(), (1.0, 1.0)).step(batch, 0, 0, RATE)
    torch.testing.assert_close(found, expected.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("head", "output"), [([], "backbone.head"), ([DENSE], "head.output")])
def test_each_layer_below_the_head_moves_by_the_decay_less_than_the_one_above(head: list[Any], output: str) -> None:
    moved = [
        _moved({**SGD, "momentum": 0.0, "head": head, "model": "test_vit", "layer_decay": decay}) for decay in (1, 0.5)
    ]
    shares = {name: float(moved[1][name] / moved[0][name]) for name in moved[0]}
    depth = 1 + max(int(name.split(".")[2]) for name in shares if name.startswith("backbone.blocks."))
    assert shares[f"{output}.weight"] == pytest.approx(1.0, rel=1e-3)
    for number in range(depth):
        above = depth - number
        assert shares[f"backbone.blocks.{number}.mlp.fc1.weight"] == pytest.approx(0.5**above, rel=1e-2)
    assert shares["backbone.patch_embed.proj.weight"] == pytest.approx(0.5 ** (depth + 1), rel=1e-2)


def _moved(changes: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """How far each weight moved in a step."""
    config = config_of(changes)
    torch.manual_seed(1)
    backbone: Any = timm.create_model("test_vit", num_classes=0 if config.head else 1, img_size=32)
    head = build_head(backbone.num_features, config.head, 1) if config.head else None
    detector = Detector(backbone, MEAN, STD, head=head)
    before = copy.deepcopy(dict(detector.named_parameters()))
    Stepper(detector, config, config.plan[0], CPU, Ranks(), (1.0, 1.0)).step(batch_of(0, side=32), 0, 0, RATE)
    return {name: (value - before[name]).norm().detach() for name, value in detector.named_parameters()}
