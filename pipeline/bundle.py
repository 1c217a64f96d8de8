"""The bundle: what training hands to everyone who asks about pictures, as `bundle.json` describes it.

A bundle is a folder with `model.safetensors`, `model.onnx` and `bundle.json`, the last being its manifest. This module
must not run a model; `detection` does that from the ONNX file, and needs no torch.

The ONNX model takes `pixels`, uint8 (N, size, size, 3), canonical RGB, and gives `logit`, float32 (N,): normalising is
inside. The probability that a picture is AI-generated is `1 / (1 + exp(-logit / temperature))`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from pipeline.canonical import Canonical
from pipeline.config import build
from pipeline.errors import IntegrityError, UsageError
from pipeline.manifest import SEAL, check_files, read_sealed
from pipeline.storage import Folder

__all__ = ["MANIFEST", "MODEL_ONNX", "MODEL_SAFETENSORS", "Bundle", "probability", "read_bundle"]

MANIFEST: Final = "bundle.json"
MODEL_ONNX: Final = "model.onnx"
MODEL_SAFETENSORS: Final = "model.safetensors"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle.

    Attributes:
        folder: where it is.
        sha256: the seal of `bundle.json`: the model's identity.
        canonical: how a file becomes the model's input.
        threshold: `ai_probability >= threshold` is the verdict `ai`.
        temperature: divides the logit (Guo et al. 2017, "On Calibration of Modern Neural Networks").
        document: all of `bundle.json`.
    """

    folder: Folder
    sha256: str
    canonical: Canonical
    threshold: float
    temperature: float
    document: dict[str, Any]


def read_bundle(uri: str) -> Bundle:
    """Read a bundle and check every byte of it against its manifest.

    Raises:
        UsageError: there is no bundle.
        IntegrityError: a file of it is missing or was changed, or it was made by another version.
    """
    folder = Folder(uri)
    if not folder.exists(MANIFEST):
        raise UsageError(
            f"{uri}: no bundle there ({MANIFEST} is missing). Name a folder that training.run has finished, "
            "for example runs/demo/model after `make demo`."
        )
    document = read_sealed(folder, MANIFEST, "bundle")
    if folder.remote:
        from pipeline.cache import cached  # predict asks for a local bundle as a rule, and should not wait for this

        folder = cached(folder, document["files"])
    check_files(folder, document)
    try:
        return Bundle(
            folder=folder,
            sha256=document[SEAL],
            canonical=build(Canonical, document["canonical"], folder.locate(MANIFEST)),
            threshold=float(document["threshold"]),
            temperature=float(document["temperature"]),
            document=document,
        )
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise IntegrityError(
            f"{folder.locate(MANIFEST)}: not a bundle of this version of Telltale ({error}). Train it again."
        ) from error


def probability(logit: Any, temperature: float) -> Any:
    """The calibrated probability that a picture is AI-generated.

    Args:
        logit: float array (N,), the model's output.
        temperature: positive.

    Returns:
        float64 array (N,).
    """
    scaled = np.asarray(logit, dtype=np.float64) / temperature
    return np.exp(-np.logaddexp(0.0, -scaled))
