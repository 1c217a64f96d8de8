"""What learns in a phase, and what stands still: which parameters have gradients, which modules are in training mode.

A frozen module is what it is when the detector serves: batch norm uses its running statistics and leaves them alone,
and dropout and stochastic depth are off. This module must not know of optimisers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.errors import ConfigError
from training.config import Phase
from training.model import Detector

__all__ = ["freeze", "training_mode", "weighted_modules"]


def freeze(detector: Detector, phase: Phase, batch_norm: str) -> None:
    """Let exactly those parameters have gradients that the phase unfreezes.

    Args:
        detector: changed in place.
        phase: says what learns.
        batch_norm: `frozen`: the backbone's batch norms never learn.

    Raises:
        ConfigError: the backbone has no such module, or nothing would learn.
    """
    detector.requires_grad_(phase.unfreeze == "all")
    for module in _chosen(detector, phase):
        module.requires_grad_(True)
    if batch_norm == "frozen":
        for module in detector.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.requires_grad_(False)
    if not any(parameter.requires_grad for parameter in detector.parameters()):
        raise ConfigError(f"'unfreeze': {phase.unfreeze!r} leaves nothing that learns")


def training_mode(detector: Detector, batch_norm: str) -> None:
    """Put what learns into training mode, and what is frozen into the mode of serving; arguments as of `freeze`."""
    detector.train()
    for module in detector.backbone.modules():
        parameters = list(module.parameters())
        stands = parameters and not any(parameter.requires_grad for parameter in parameters)
        if stands or (batch_norm == "frozen" and isinstance(module, _BatchNorm)):
            module.eval()


def weighted_modules(backbone: nn.Module) -> list[str]:
    """The names of the modules that have parameters of their own, in order, without timm's own head."""
    own = set(_timm_head(backbone))
    return [
        name
        for name, module in backbone.named_modules()
        if name and module not in own and next(module.parameters(recurse=False), None) is not None
    ]


def _chosen(detector: Detector, phase: Phase) -> Iterator[nn.Module]:
    if phase.unfreeze == "all":
        return
    yield detector.head
    yield from _timm_head(detector.backbone)
    names: list[str] = []
    if isinstance(phase.unfreeze, list):
        names = phase.unfreeze
    elif isinstance(phase.unfreeze, int):
        names = weighted_modules(detector.backbone)
        if phase.unfreeze > len(names):
            raise ConfigError(f"'unfreeze': {phase.unfreeze}, but the model has {len(names)} modules with weights")
        names = names[-phase.unfreeze :]
    for name in names:
        yield _module(detector.backbone, name)


def _module(backbone: nn.Module, name: str) -> nn.Module:
    known = dict(backbone.named_modules())
    if name and name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f": did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(f"'unfreeze': the model has no module '{name}'{hint}")


def _timm_head(backbone: nn.Module) -> list[nn.Module]:
    """timm's classifier and the modules inside; nothing where a head of ours stands behind the backbone."""
    find: Any = getattr(backbone, "get_classifier", None)
    found = find() if find is not None else None
    heads = found if isinstance(found, tuple) else (found,)  # a distilled transformer has two
    modules = [module for head in heads if isinstance(head, nn.Module) for module in head.modules()]
    return modules if any(next(module.parameters(), None) is not None for module in modules) else []
