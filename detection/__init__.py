"""A bundle in, a verdict out, without torch: library and command line. Imports `pipeline` only.

    import detection
    detector = detection.load("runs/demo/model")
    detector.probability(open("photo.jpg", "rb").read())      # 0.93: the probability that it is AI-generated

The names are looked up when first used, so that `telltale --version` does not wait for ONNX Runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pipeline  # noqa: F401  -- first: it keeps ONNX Runtime from reporting usage

if TYPE_CHECKING:
    from detection.model import Detector, load

__all__ = ["Detector", "load"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from detection import model

    return getattr(model, name)
