"""A bundle's model, run by ONNX Runtime: canonical pixels in, a probability out.

This module must not read pictures from a disk, and must not import torch.

Each picture is a run of its own. On EfficientNet-B1 at 256 px a batch of 16 is no quicker a picture than 16 runs of
one (it is slower: the activations leave the cache), and like this a result cannot depend on which pictures it was
asked together with, nor on the number of cores. Cores are used by running pictures side by side: a session may be
used from many threads at once.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import onnxruntime

from pipeline.bundle import MODEL_ONNX, Bundle, probability, read_bundle
from pipeline.canonical import canonical_pixels
from pipeline.errors import IntegrityError

__all__ = ["Detector", "Verdict", "load"]

Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
Verdict = Literal["ai", "real"]

_ERRORS_ONLY = 3  # ONNX Runtime's log level; its warnings mean nothing to who asks about a picture


class Detector:
    """A loaded bundle. Safe to use from many threads at once.

    Attributes:
        bundle: the checked bundle: canonical setting, threshold, temperature, sha256.
    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Load the bundle's ONNX model.

        Args:
            bundle: from `pipeline.bundle.read_bundle`, which has checked its bytes.
            threads: cores that share the work of one picture; 1 is best when pictures run side by side.

        Raises:
            IntegrityError: the model cannot be loaded, or is not of the shape that a bundle promises.
        """
        self.bundle = bundle
        self._session = _session(bundle, threads)

    @property
    def name(self) -> str:
        """The architecture, e.g. `efficientnet_b1`."""
        return str(self.bundle.document.get("architecture", {}).get("name", "unknown"))

    def logits(self, pixels: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        """The model's raw outputs.

        Args:
            pixels: canonical RGB, uint8 (N, size, size, 3).

        Returns:
            float32 (N,); each depends on its own picture only.
        """
        runs = [self._session.run(["logit"], {"pixels": pixels[i : i + 1]})[0] for i in range(len(pixels))]
        return np.concatenate(runs) if runs else np.empty(0, np.float32)

    def probabilities(self, pixels: Pixels) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """The calibrated probability that each picture is AI-generated.

        Args:
            pixels: canonical RGB, uint8 (N, size, size, 3).

        Returns:
            float64 (N,), in [0, 1].
        """
        result: np.ndarray[tuple[int], np.dtype[np.float64]]
        result = probability(self.logits(pixels), self.bundle.temperature)
        return result

    def probability(self, data: bytes) -> float:
        """The calibrated probability that a picture is AI-generated.

        Args:
            data: the original file's bytes.

        Raises:
            ImageError: the file cannot be used.
        """
        return float(self.probabilities(canonical_pixels(data, self.bundle.canonical)[None])[0])

    def verdict(self, ai_probability: float) -> Verdict:
        """`ai` from the bundle's threshold on, else `real`."""
        return "ai" if ai_probability >= self.bundle.threshold else "real"


def load(uri: str, threads: int = 1) -> Detector:
    """Read a bundle, check every byte of it, and load its model.

    Raises:
        UsageError: there is no bundle.
        IntegrityError: a file of it is missing or was changed, or it was made by another version.
    """
    return Detector(read_bundle(uri), threads)


def _session(bundle: Bundle, threads: int) -> Any:
    where = bundle.folder.locate(MODEL_ONNX)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # All optimisations: they cost 50 ms when loading B1, and each picture then takes a third of the time.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    try:
        session = onnxruntime.InferenceSession(
            bundle.folder.read(MODEL_ONNX), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # ONNX Runtime's exceptions have no common base of their own
        raise IntegrityError(
            f"{where}: ONNX Runtime {onnxruntime.__version__} cannot load it ({error}). Train the bundle again."
        ) from error
    _check_shape(session, bundle, where)
    return session


def _check_shape(session: Any, bundle: Bundle, where: str) -> None:
    size = bundle.canonical.geometry.size
    inputs = [(item.name, item.type, list(item.shape[1:])) for item in session.get_inputs()]
    outputs = [(item.name, item.type) for item in session.get_outputs()]
    if inputs != [("pixels", "tensor(uint8)", [size, size, 3])] or outputs != [("logit", "tensor(float)")]:
        raise IntegrityError(
            f"{where}: takes {inputs} and gives {outputs}; a bundle's model takes 'pixels', uint8 "
            f"(N, {size}, {size}, 3), and gives 'logit', float32 (N,). Train the bundle again."
        )
