"""What a run is: the settings, parents and libraries that decide every bit of its bundle.

A bundle that says the same is up to date; a checkpoint that says the same may be continued. This module must not import
torch, so that a run with nothing to do says so at once.
"""

from __future__ import annotations

from typing import Any, Final

from pipeline.bundle import MANIFEST
from pipeline.errors import UsageError
from pipeline.manifest import library_versions, output_state
from pipeline.storage import Folder, split_uri
from training.config import PICKLES, TrainingConfig, result_fields
from training.inputs import Inputs

__all__ = ["STAGE_VERSION", "difference", "identity_of", "is_done", "weights_sha256"]

STAGE_VERSION: Final = 3  # raise by hand when the result of the same input changes


def identity_of(config: TrainingConfig, inputs: Inputs) -> dict[str, Any]:
    """The members of `bundle.json` that a bundle of the same work would have.

    Raises:
        UsageError: the initial weights are not there, or are a pickle.
        ConfigError: timm has no weights for the model.
    """
    return {
        "stage_version": STAGE_VERSION,
        "config": {**result_fields(config), "pretrained": _initial(config)},
        "parents": {"dataset": inputs.dataset, "stats": inputs.stats, "shards": inputs.shards},
        "libraries": _libraries(),
    }


def is_done(output: Folder, identity: dict[str, Any], overwrite: bool, update: bool) -> bool:
    """Whether the bundle is there already; what stands in its way is removed or refused.

    Raises:
        OutputExistsError: the output holds something else.
    """
    ours = (".safetensors", ".onnx")
    return output_state(output, MANIFEST, "bundle", identity, ours, overwrite, update) == "done"


def weights_sha256(path: str) -> str:
    """The sha256 of a local safetensors file, before it is loaded.

    Raises:
        UsageError: there is no such file, or it is a pickle.
    """
    if path.lower().endswith(PICKLES):
        raise UsageError(
            f"{path}: looks like a pickle, which can run code when it is loaded, so Telltale does not. Convert a file "
            'that you trust, once, and give the result as training.pretrained: python -c "import torch, '
            "safetensors.torch as s; w = torch.load('IN.pth', map_location='cpu', weights_only=True); "
            "w = w.get('state_dict', w); s.save_file({k: v.contiguous() for k, v in w.items()}, 'OUT.safetensors')\""
        )
    folder, name = split_uri(path)
    if not folder.is_file(name):
        raise UsageError(
            f"{path}: no such weights file. Give training.pretrained the path of a safetensors file, or true or false."
        )
    return folder.sha256(name)[0]


def _initial(config: TrainingConfig) -> Any:
    """The initial weights as a manifest names them: false, timm's name, or a file's hash; never a path."""
    if config.pretrained is True:
        from training.weights import hub_name  # timm, and with it torch, only where it is needed

        return hub_name(config.model)
    return {"sha256": weights_sha256(config.pretrained)} if config.pretrained else False


def _libraries() -> dict[str, str]:
    """The libraries that set the model's bits."""
    return library_versions(
        "numpy",
        "onnx",
        "onnxscript",
        "pillow",
        "safetensors",
        "scikit-learn",
        "scipy",
        "simplejpeg",
        "timm",
        "torch",
        "torchvision",
    )


def difference(theirs: dict[str, Any], ours: dict[str, Any]) -> str | None:
    """What differs between two identities, or None."""
    for key in ours["parents"]:
        if theirs.get("parents", {}).get(key) != ours["parents"][key]:
            return f"it comes from {key} {theirs.get('parents', {}).get(key)}, this run from {ours['parents'][key]}"
    before, now = theirs.get("config", {}), ours["config"]
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        return ", ".join(f"training.{key} was {before.get(key)!r} and is {now.get(key)!r}" for key in changed)
    if theirs.get("libraries") != ours["libraries"]:
        return "other versions of the libraries made it"
    return None if theirs.get("stage_version") == ours["stage_version"] else "another version of Telltale made it"
