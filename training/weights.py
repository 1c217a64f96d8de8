"""Initial weights: from a safetensors file, or timm's own from its hub. Never a pickle: it can run code when loaded.

A file must hold exactly the backbone's tensors, or be the model.safetensors of a bundle. A head whose tensors are not
those of the model's head is left out, of a bundle with a notice. This module must not know what the weights are for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url, try_to_load_from_cache
from safetensors import SafetensorError
from safetensors.torch import load, load_file
from torch import nn

from pipeline.cli import say
from pipeline.errors import ConfigError, SetupError, UsageError
from pipeline.storage import local_path, split_uri
from training.checkpoint import below
from training.config import PICKLES

__all__ = ["hub_file", "hub_name", "load_weights"]

_HUB_SECONDS: Final = 5.0
_BACKBONE: Final = "backbone."  # where a bundle's weights begin so, the rest are its normaliser's and its own head's
_HEAD: Final = "head."


def load_weights(backbone: nn.Module, path: str, head: nn.Module | None = None) -> None:
    """Fill a backbone from a safetensors file; half-precision tensors become float32.

    Args:
        backbone: filled whole.
        path: of the file.
        head: the configuration's own, behind the backbone; filled from a bundle whose head has the same tensors.

    Raises:
        UsageError: not a safetensors file, or not this model's tensors (each is named).
    """
    try:
        found = _tensors(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: not a readable safetensors file ({error}). Fetch or convert it again.") from error
    wanted, keys = backbone.state_dict(), _head_keys(backbone)
    if of_bundle := below(found, _BACKBONE):
        timms = {key: value for key, value in of_bundle.items() if key in keys and key not in wanted}
        _load_head(head, below(found, _HEAD) or timms, path)
        found = of_bundle
    for key in keys:
        if key in found and key not in wanted:
            del found[key]  # a head of the configuration's own stands behind the backbone
        if key in wanted and (key not in found or found[key].shape != wanted[key].shape):
            if key in found:
                say(f"{Path(path).name}: head '{key}' {tuple(found[key].shape)} left out; it starts from random.")
            found[key] = wanted[key]
    _refuse_other_keys(path, found, wanted)
    backbone.load_state_dict({key: value.to(wanted[key].dtype) for key, value in found.items()})


def _tensors(path: str) -> dict[str, torch.Tensor]:
    folder, name = split_uri(path)
    return load(folder.read(name)) if folder.remote else load_file(local_path(path))


def _load_head(head: nn.Module | None, found: Mapping[str, torch.Tensor], path: str) -> None:
    if head is not None and _shapes(found) == _shapes(head.state_dict()):
        head.load_state_dict(found)
    elif found:
        say(f"{Path(path).name}: the head of that bundle is left out; this one starts from random.")


def _shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in tensors.items()}


def _head_keys(backbone: nn.Module) -> list[str]:
    """The names of the classifier's tensors."""
    heads = getattr(backbone, "pretrained_cfg", {}).get("classifier") or ()
    return [f"{head}.{part}" for head in ((heads,) if isinstance(heads, str) else heads) for part in ("weight", "bias")]


def _refuse_other_keys(path: str, found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> None:
    problems = []
    if missing := sorted(wanted.keys() - found.keys()):
        problems.append(f"missing: {_some(missing)}")
    if unexpected := sorted(found.keys() - wanted.keys()):
        problems.append(f"unexpected: {_some(unexpected)}")
    shapes = [
        f"{key} {tuple(found[key].shape)} instead of {tuple(wanted[key].shape)}"
        for key in sorted(found.keys() & wanted.keys())
        if found[key].shape != wanted[key].shape
    ]
    if shapes:
        problems.append(f"of another shape: {_some(shapes)}")
    if problems:
        raise UsageError(f"{path}: not the weights of this model: {'; '.join(problems)}. Check training.model.")


def _some(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _hub_place(model: str) -> tuple[str, str | None, str]:
    """(repository, revision, file) of a timm model's weights on its hub."""
    config: Any = timm.get_pretrained_cfg(model)
    if config is None or not config.hf_hub_id:
        raise ConfigError(
            f"'pretrained': timm has no weights for '{model}' on its hub: give false, or the path of a safetensors file"
        )
    name = config.hf_hub_filename or "model.safetensors"
    if name.lower().endswith(PICKLES):
        raise ConfigError(
            f"'pretrained': timm has '{model}' as a pickle only: give false, or the path of a safetensors file"
        )
    repository, _, revision = config.hf_hub_id.partition("@")
    return repository, revision or None, name


def hub_name(model: str) -> str:
    """The name of timm's weights for a model.

    Raises:
        ConfigError: there are none.
    """
    repository, revision, _ = _hub_place(model)
    return f"{repository}@{revision}" if revision else repository


def hub_file(model: str) -> str:
    """The local path of timm's weights for a model, fetched unless they are in the hub's cache already.

    Raises:
        ConfigError: there are none.
        SetupError: the hub is out of reach (told within seconds).
    """
    repository, revision, name = _hub_place(model)
    cached = try_to_load_from_cache(repository, name, revision=revision)
    if isinstance(cached, str):
        return cached
    try:
        # Asked once and briefly: the download itself would try six times before it gave up.
        get_hf_file_metadata(hf_hub_url(repository, name, revision=revision), timeout=_HUB_SECONDS)
        return hf_hub_download(repository, name, revision=revision)
    except Exception as error:  # the hub's client raises its HTTP library's errors, whichever that is
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SetupError(
            f"pretrained: true needs {repository}/{name} from timm's hub, which cannot be reached ({first}). Give the "
            "path of a safetensors file instead (--set pretrained=PATH), or start from random weights "
            "(--set pretrained=false)."
        ) from error
