"""The recipes: accepted by every stage, split as published, of the right size to a parameter.

What is said here of Keras was counted by Keras itself: benchmarks/results/keras_parameters.md.
"""

from __future__ import annotations

import importlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any

import pytest
import timm
from torch import nn

import evaluation.run
from pipeline.cli import show_config
from pipeline.config import SECTIONS, build, load, read_yaml
from pipeline.layouts import list_input
from pipeline.splitting import Member, Split, assign_splits
from pipeline.workflow import CHECKS, Workflow
from spark_jobs.augment_config import AugmentConfig
from tests.bundles import make_bundle
from tests.conftest import ROOT
from tests.datasets import make_dataset
from tests.training.recipes import FOLDER, RECIPES, count, ingest_of, path_of, training_of
from training.freeze import freeze
from training.head import build_head
from training.model import Detector

SETTINGS = {
    "demo": "DemoConfig",
    "ingest": "IngestConfig",
    "stats": "StatsConfig",
    "augment": "AugmentConfig",
    "training": "TrainingConfig",
    "evaluation": "EvaluationConfig",
}
LAST_30 = 1_496_160
"""Parameters that learn in `EfficientNetB0(include_top=False).layers[-30:]`."""


def test_these_are_the_recipes_and_their_readme_names_each() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.yaml")) == list(RECIPES)
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert all(f"{recipe}.yaml" in page for recipe in RECIPES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_stage_accepts_its_section(recipe: str, capsys: pytest.CaptureFixture[str]) -> None:
    workflow = build(Workflow, read_yaml(path_of(recipe)))
    assert workflow.name == recipe
    for section in SECTIONS:
        settings = getattr(importlib.import_module(CHECKS[section]), SETTINGS[section])
        assert show_config(settings, section, ["--config", path_of(recipe)]) == 0, capsys.readouterr().err


def test_there_is_one_celebahq_workflow_in_two_places() -> None:
    recipe, plain = read_yaml(path_of("efficientnet_b1_celebahq")), read_yaml(str(FOLDER.parent / "celebahq.yaml"))
    assert recipe.pop("name") == "efficientnet_b1_celebahq"
    assert plain.pop("name") == "celebahq"
    assert recipe == plain


# --- what the originals say

ADAM_32 = {"optimizer": "adam", "loss": "bce", "weight_decay": 0.0, "batch_size": 32}
"""What the originals share, but for one."""


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        (
            "efficientnet_b1_celebahq",
            {"model": "efficientnet_b1", **ADAM_32, "loss": "ce", "weight_decay": 1e-4, "pretrained": True},
        ),
        ("efficientnet_b0_two_phase", {"model": "efficientnet_b0", **ADAM_32, "pretrained": True}),
        ("resnet50_cifake", {"model": "resnet50", **ADAM_32, "pretrained": True, "monitor": "val_loss"}),
        ("resnet50v2_frozen", {"model": "resnetv2_50", **ADAM_32, "pretrained": True, "monitor": "val_loss"}),
        ("vit_scratch", {"model": "vit_wide_patch16", **ADAM_32, "pretrained": False, "monitor": "val_loss"}),
        ("resnet50_l2", {"model": "resnet50", **ADAM_32, "pretrained": True, "monitor": "val_accuracy"}),
        (
            "efficientnet_b1_robust",
            {"model": "efficientnet_b1", "optimizer": "adamw", "pretrained": True, "threshold.target_fpr": 0.01},
        ),
    ],
)
def test_a_recipe_trains_as_the_original(recipe: str, expected: dict[str, Any]) -> None:
    config = training_of(recipe)
    assert {key: attrgetter(key)(config) for key in expected} == expected
    assert config.batch_norm == "train"
    assert (config.ema > 0, config.robust.on) == (recipe == "efficientnet_b1_robust",) * 2


PLATEAU = {"schedule": "plateau", "plateau.factor": 0.5}


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("efficientnet_b1_celebahq", [{"epochs": 10, "lr": 1e-4, "schedule": "constant", "unfreeze": "all"}]),
        (
            "efficientnet_b0_two_phase",
            [
                {"epochs": 5, "lr": 1e-4, "schedule": "constant", "unfreeze": "head"},
                {"epochs": 10, "lr": 1e-5, **PLATEAU},
            ],
        ),
        (
            "resnet50_cifake",
            [{"epochs": 10, "lr": 1e-3, "schedule": "constant", "unfreeze": "all", "patience": 3}],
        ),
        (
            "resnet50v2_frozen",
            [{"epochs": 20, "lr": 1e-3, **PLATEAU, "plateau.patience": 2, "unfreeze": "head", "patience": 3}],
        ),
        ("vit_scratch", [{"lr": 1e-4, "schedule": "constant", "unfreeze": "all", "patience": 3}]),
        (
            "resnet50_l2",
            [{"epochs": 15, "lr": 1e-3, **PLATEAU, "plateau.patience": 3, "unfreeze": "head", "patience": 5}],
        ),
    ],
)
def test_its_phases_are_the_original_s(recipe: str, expected: list[dict[str, Any]]) -> None:
    plan = training_of(recipe).plan
    found = [{key: attrgetter(key)(phase) for key in wanted} for phase, wanted in zip(plan, expected, strict=True)]
    assert found == expected


@pytest.mark.parametrize(
    ("recipe", "variants", "size"),
    [
        ("efficientnet_b1_celebahq", ["identity", "hflip", "rot90", "rot270"], 240),
        ("efficientnet_b0_two_phase", ["identity", "hflip", "rotate15", "rotate-15"], 224),
        ("resnet50_cifake", ["identity", "hflip", "vflip", "rot180"], 32),
        ("resnet50v2_frozen", ["identity"], 224),
        ("vit_scratch", ["identity"], 224),
        ("resnet50_l2", ["identity"], 224),
        ("efficientnet_b1_robust", ["identity", "hflip"], 128),
    ],
)
def test_its_pictures_are_the_original_s(recipe: str, variants: list[str], size: int) -> None:
    assert load(AugmentConfig, path_of(recipe), section="augment").variants == tuple(variants)
    geometry = ingest_of(recipe).canonical.geometry
    assert (geometry.size, geometry.mode) == (size, "resize")


# --- splits


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ("efficientnet_b1_celebahq", {"train": 800, "val": 100, "test": 100}),
        ("resnet50_cifake", {"train": 700, "val": 200, "test": 100}),
        ("resnet50v2_frozen", {"train": 700, "val": 150, "test": 150}),
        ("vit_scratch", {"train": 700, "val": 150, "test": 150}),
        ("resnet50_l2", {"train": 800, "val": 200}),
    ],
)
def test_each_class_is_split_as_published(recipe: str, expected: dict[str, int]) -> None:
    """1,000 pictures of each class, none of them like another."""
    names = ("train", "val", "test", "ood")
    members = [Member(label, f"source{label}", frozenset(), (f"{label}/{n}",)) for label in (0, 1) for n in range(1000)]
    groups = [(member.names[0], [member]) for member in members]
    splits, moved = assign_splits(groups, Split(**_split_of(recipe)))
    assert moved == 0
    for label in (0, 1):
        assert Counter(names[split] for split in splits[1000 * label : 1000 * (label + 1)]) == expected


def _split_of(recipe: str) -> dict[str, Any]:
    setting = ingest_of(recipe).split
    return {"method": setting.method, "fractions": setting.fractions, "seed": setting.seed}


@pytest.mark.parametrize(
    ("layout", "splits"),
    [("two_folders", {("train", None)}), ("cifake", {("train", "fit"), ("test", "test")})],
)
def test_the_cifake_recipe_reads_the_published_folders(
    tmp_path: Path, layout: str, splits: set[tuple[str, str | None]]
) -> None:
    for name in ("train/REAL/1.jpg", "train/FAKE/1.jpg", "test/REAL/1.jpg", "test/FAKE/1.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    settings = ingest_of("resnet50_cifake", f"layout={layout}")
    found = list(list_input(str(tmp_path), settings).references)
    assert {(item.path.split("/")[0], item.split) for item in found} == splits
    kinds = {(item.path.split("/")[1], item.label, item.source) for item in found}
    assert kinds == {("REAL", 0, "cifar10"), ("FAKE", 1, "stable_diffusion_1_4")}


def test_the_recipe_without_a_test_split_has_a_report_that_says_so(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "dataset", {"train": 2, "val": 4})
    make_bundle(tmp_path / "model", dataset=manifest)
    places = {"bundle": "model", "dataset": "dataset", "output": "report"}
    words = [word for key, name in places.items() for word in (f"--{key}", str(tmp_path / name))]
    evaluation.run.main([*words, "--config", path_of("resnet50_l2")])
    report = json.loads((tmp_path / "report" / "report.json").read_bytes())
    assert report["headline"]["split"] == "val"
    assert report["splits"]["test"]["n"] == 0
    assert any(note.startswith("val: training chose its epoch") for note in report["notes"])
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert re.search(r"test(</\w+>)? has no pictures", page)


# --- parameters


@pytest.mark.parametrize(
    ("recipe", "features", "layers", "expected"),
    [
        ("efficientnet_b0_two_phase", 1280, "256 relu, dropout 0.5", 328_193),
        ("resnet50_cifake", 2048, "256 relu, batch norm, dropout 0.5, 128 relu", 558_081),
        ("resnet50v2_frozen", 2048, "256 relu, batch norm, dropout 0.5, 128 relu, batch norm, dropout 0.3", 558_337),
        ("vit_scratch", 384, "512 gelu, dropout 0.3", 197_633),
        ("resnet50_l2", 2048, "150 relu, dropout 0.5", 307_501),
    ],
)
def test_a_head_is_the_original_s_to_a_parameter(recipe: str, features: int, layers: str, expected: int) -> None:
    config = training_of(recipe)
    head = build_head(features, config.head, config.outputs)
    assert ", ".join(described(head)) == layers
    assert count(head) == expected
    assert [layer.l2 for layer in config.head if layer.l2] == ([0.01] if recipe == "resnet50_l2" else [])
    assert getattr(timm.create_model(config.model, num_classes=0), "head_hidden_size", features) == features


def described(head: nn.Sequential) -> Iterator[str]:
    """The layers in words, but for the output."""
    *layers, output = head
    assert isinstance(output, nn.Linear)
    for layer in layers:
        if isinstance(layer, nn.Linear):
            after = layers[layers.index(layer) + 1]
            yield f"{layer.out_features} {type(after).__name__.lower()}"
        elif isinstance(layer, nn.BatchNorm1d):
            yield "batch norm"
        elif isinstance(layer, nn.Dropout):
            yield f"dropout {layer.p}"


@pytest.mark.parametrize(
    ("recipe", "learn"),
    [("efficientnet_b0_two_phase", 328_193), ("resnet50v2_frozen", 558_337), ("resnet50_l2", 307_501)],
)
def test_on_a_frozen_backbone_the_head_learns_alone(recipe: str, learn: int) -> None:
    config = training_of(recipe)
    backbone: Any = timm.create_model(config.model, num_classes=0)
    head = build_head(backbone.num_features, config.head, config.outputs)
    detector = Detector(backbone, (0.5, 0.5, 0.5), (0.2, 0.2, 0.2), head=head)
    freeze(detector, config.plan[0], config.batch_norm)
    assert sum(parameter.numel() for parameter in detector.parameters() if parameter.requires_grad) == learn


@pytest.mark.parametrize(
    ("recipe", "expected"), [("efficientnet_b1_celebahq", 2 * 1281), ("efficientnet_b1_robust", 1281)]
)
def test_timm_s_own_head_is_one_linear_layer(recipe: str, expected: int) -> None:
    config = training_of(recipe)
    assert not config.head
    model: Any = timm.create_model(config.model, num_classes=config.outputs)
    assert count(model.get_classifier()) == expected


def test_the_whole_transformer_has_28_945_793_parameters() -> None:
    config = training_of("vit_scratch")
    body = timm.create_model(config.model, num_classes=0, img_size=ingest_of("vit_scratch").canonical.geometry.size)
    assert count(body) + count(build_head(384, config.head, config.outputs)) == 28_945_793


@dataclass(frozen=True)
class Keras:
    """What Keras counts of a model without its classifier."""

    total: int
    trainable: int


def conv_biases(model: nn.Module, chosen: Callable[[str], bool]) -> int:
    """As many biases as the chosen convolutions would have; none of them has one in timm."""
    convs = [m for name, m in model.named_modules() if isinstance(m, nn.Conv2d) and chosen(name)]
    assert all(conv.bias is None for conv in convs)
    return sum(conv.out_channels for conv in convs)


def statistics(model: nn.Module) -> int:
    """The running means and variances of batch norm, which Keras counts as parameters that do not learn."""
    return sum(2 * module.num_features for module in model.modules() if isinstance(module, nn.BatchNorm2d))


def none(name: str) -> bool:
    return False


def every(name: str) -> bool:
    return True


def preactivated(name: str) -> bool:
    """The stem, the shortcuts and each block's last convolution."""
    return name == "stem.conv" or name.endswith((".downsample.conv", ".conv3"))


@pytest.mark.parametrize(
    ("name", "keras", "biased", "biases", "normaliser"),
    [
        ("efficientnet_b0", Keras(4_049_571, 4_007_548), none, 0, 7),
        ("efficientnet_b1", Keras(6_575_239, 6_513_184), none, 0, 7),
        ("resnet50", Keras(23_587_712, 23_534_592), every, 26_560, 0),
        ("resnetv2_50", Keras(23_564_800, 23_519_360), preactivated, 19_008, 0),
    ],
)
def test_timm_s_backbone_and_keras_differ_by_what_the_docs_say(
    name: str, keras: Keras, biased: Callable[[str], bool], biases: int, normaliser: int
) -> None:
    model = timm.create_model(name, num_classes=0)
    assert conv_biases(model, biased) == biases
    assert count(model) + biases == keras.trainable
    assert count(model) + biases + statistics(model) + normaliser == keras.total
    page = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    for number in (keras.total, keras.trainable, count(model), statistics(model)):
        assert f"{number:,}" in page


def test_the_second_phase_frees_as_much_as_keras_last_30_layers() -> None:
    phase = training_of("efficientnet_b0_two_phase").plan[1]
    model = timm.create_model("efficientnet_b0", num_classes=0)
    assert isinstance(phase.unfreeze, list)
    assert sum(count(model.get_submodule(name)) for name in phase.unfreeze) == LAST_30
    names = [name for name, module in model.named_modules() if next(module.parameters(recurse=False), None) is not None]
    freed = [name for name in names if any(f"{name}.".startswith(f"{one}.") for one in phase.unfreeze)]
    assert freed == names[names.index("blocks.5.3.bn1") :]
    assert names[names.index("blocks.5.3.bn1") - 1] == "blocks.5.3.conv_pw"
