"""The parameters of the recipes' models in Keras and in ours, counted on both sides by the real thing.

    python -m benchmarks.keras_parameters      prints the tables and writes benchmarks/results/keras_parameters.md

Keras is no dependency of Telltale: it is installed into an environment of its own (`--env`, some 30 MB), on the torch
of this one, with random weights. Our attention is compared with Keras' number by number. What the differences are, and
why, is told in docs/recipes.md and added up by tests/training/test_recipes.py, which needs no Keras.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import tempfile
import venv
from pathlib import Path
from typing import Any, Final

import numpy as np
import timm
import torch
from torch import nn

from benchmarks._common import table, write_result
from pipeline.config import load
from training.config import TrainingConfig
from training.head import build_head
from training.vit import WideAttention

KERAS: Final = "3.15.1"
TIMM: Final = {
    "EfficientNetB0": "efficientnet_b0",
    "EfficientNetB1": "efficientnet_b1",
    "ResNet50": "resnet50",
    "ResNet50V2": "resnetv2_50",
}
"""timm's name for a backbone of Keras."""
HEADS: Final = {
    "efficientnet_b0_two_phase": 1280,
    "resnet50_cifake": 2048,
    "resnet50v2_frozen": 2048,
    "vit_scratch": 384,
    "resnet50_l2": 2048,
}
"""The recipes with a head of their own, and the width of what comes into it."""
_ROOT: Final = Path(__file__).resolve().parent.parent


def main() -> None:
    """Count, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default=str(_ROOT / ".cache" / "keras"), help="where the environment is, or is made")
    python = environment(Path(parser.parse_args().env))
    configs = {name: load(TrainingConfig, recipe(name), section="training") for name in HEADS}
    with tempfile.TemporaryDirectory() as folder:
        found = ask(python, configs, f"{folder}/attention.npz")
        apart = difference(f"{folder}/attention.npz")
    lines = ["Backbones without classifier, at random weights.", "", *backbones(found["backbones"]), ""]
    lines += ["Heads, the output included.", "", *heads(found["heads"], configs), ""]
    lines += [whole(found["vit"], configs["vit_scratch"]), "", last(found["last"]), "", apart]
    write_result("keras_parameters", f"Keras {found['version']} and timm, counted", lines, ("timm", "torch", "numpy"))


def recipe(name: str) -> str:
    """The path of a recipe."""
    return str(_ROOT / "configs" / "recipes" / f"{name}.yaml")


def environment(folder: Path) -> str:
    """The Python of an environment that has Keras, and this one's other packages; made unless it is there."""
    python = folder / "bin" / "python"
    if not list(folder.glob(f"lib/python*/site-packages/keras-{KERAS}.dist-info")):
        venv.create(folder, clear=True, with_pip=True)
        ours = str(Path(str(importlib.metadata.distribution("torch").locate_file(""))).resolve())
        next(folder.glob("lib/python*/site-packages")).joinpath("ours.pth").write_text(ours, encoding="utf-8")
        subprocess.run([python, "-m", "pip", "install", "--quiet", f"keras=={KERAS}"], check=True)
    return str(python)


def ask(python: str, configs: dict[str, TrainingConfig], attention: str) -> dict[str, Any]:
    """What Keras counts."""
    wanted = {
        name: {"features": HEADS[name], "layers": _layers(config), "outputs": config.outputs}
        for name, config in configs.items()
    }
    done = subprocess.run(
        [python, "-P", str(Path(__file__).parent / "_keras_models.py"), attention],
        input=json.dumps(wanted),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, "KERAS_BACKEND": "torch"},
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def _layers(config: TrainingConfig) -> list[dict[str, Any]]:
    """A head as plain mappings, each with the keys of its kind."""
    made: list[dict[str, Any]] = []
    for layer in config.head:
        dense = {"dense": layer.dense, "activation": layer.activation}
        made.append(dense if layer.dense else {"batch_norm": True} if layer.batch_norm else {"dropout": layer.dropout})
    return made


def size_of(module: nn.Module) -> int:
    """The numbers in a module's parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def backbones(keras: dict[str, dict[str, int]]) -> list[str]:
    """The table of backbones."""
    head = ("Keras", "in all", "trainable", "timm", "parameters", "difference", "conv biases", "statistics", "other")
    rows = []
    for name, one in keras.items():
        ours = size_of(timm.create_model(TIMM[name], num_classes=0))
        total = one["trainable"] + one["non_trainable"]
        parts = [one["conv_biases"], one["batch_norm_statistics"], one["other"]]
        cells = [total, one["trainable"], f"`{TIMM[name]}`", ours, total - ours, *parts]
        rows.append([name, *(f"{cell:,}" if isinstance(cell, int) else cell for cell in cells)])
    return table(head, rows)


def heads(keras: dict[str, dict[str, int]], configs: dict[str, TrainingConfig]) -> list[str]:
    """The table of heads."""
    rows = []
    for name, config in configs.items():
        ours, theirs = size_of(build_head(HEADS[name], config.head, config.outputs)), keras[name]
        rows.append([f"`{name}`", f"{theirs['trainable']:,}", f"{theirs['non_trainable']:,}", f"{ours:,}"])
    return table(("recipe", "Keras, trainable", "Keras, not trainable", "ours"), rows)


def whole(keras: dict[str, int], config: TrainingConfig) -> str:
    """A sentence on the vision transformer."""
    ours = size_of(timm.create_model(config.model, num_classes=0))
    ours += size_of(build_head(HEADS["vit_scratch"], config.head, config.outputs))
    return f"The vision transformer at 224 px, head included: Keras {keras['trainable']:,}, ours {ours:,}."


def last(keras: dict[str, Any]) -> str:
    """A sentence on what the second phase of `efficientnet_b0_two_phase` unfreezes."""
    names = load(TrainingConfig, recipe("efficientnet_b0_two_phase"), section="training").plan[1].unfreeze
    backbone = timm.create_model("efficientnet_b0", num_classes=0)
    ours = sum(size_of(backbone.get_submodule(name)) for name in names) if isinstance(names, list) else 0
    return (
        f"The last {len(keras['names'])} layers of EfficientNetB0 ({keras['names'][0]} to {keras['names'][-1]}): Keras "
        f"{keras['trainable']:,} trainable, ours {ours:,}.\n\n    {' '.join(keras['names'])}"
    )


def difference(path: str) -> str:
    """A sentence on our attention with the weights of Keras'."""
    with np.load(path) as data:
        arrays = {name: torch.from_numpy(data[name]).float() for name in data.files}
    kernels = [arrays[f"weight{number}"].reshape(384, -1).T for number in (0, 2, 4)]
    layer = WideAttention(384, 6, 384)
    layer.load_state_dict(
        {
            "qkv.weight": torch.cat(kernels),
            "qkv.bias": torch.cat([arrays[f"weight{number}"].flatten() for number in (1, 3, 5)]),
            "proj.weight": arrays["weight6"].reshape(-1, 384).T,
            "proj.bias": arrays["weight7"],
        }
    )
    with torch.inference_mode():
        apart = (layer(arrays["tokens"]) - arrays["out"]).abs().max().item()
    return (
        f"`WideAttention` with the weights of Keras' MultiHeadAttention: outputs of up to "
        f"{arrays['out'].abs().max().item():.3f} differ by at most {apart:.1g}."
    )


if __name__ == "__main__":
    main()
