"""The recipes as the tests see them: where each is, and what its sections say."""

from __future__ import annotations

from typing import Final

from torch import nn

import training.vit  # noqa: F401 -- makes a model of ours known to timm
from pipeline.config import load
from spark_jobs.ingest_config import IngestConfig
from tests.conftest import ROOT
from training.config import TrainingConfig

FOLDER: Final = ROOT / "configs" / "recipes"
RECIPES: Final = (
    "efficientnet_b0_two_phase",
    "efficientnet_b1_celebahq",
    "efficientnet_b1_robust",
    "resnet50_cifake",
    "resnet50_l2",
    "resnet50v2_frozen",
    "vit_scratch",
)


def path_of(recipe: str) -> str:
    """The file of a recipe."""
    return str(FOLDER / f"{recipe}.yaml")


def training_of(recipe: str, *sets: str) -> TrainingConfig:
    """Its training section."""
    return load(TrainingConfig, path_of(recipe), sets, section="training")


def ingest_of(recipe: str, *sets: str) -> IngestConfig:
    """Its ingest section."""
    return load(IngestConfig, path_of(recipe), sets, section="ingest")


def count(module: nn.Module) -> int:
    """The numbers in a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())
