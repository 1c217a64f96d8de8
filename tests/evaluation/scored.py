"""Made-up scores, for tests of figures."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def scored(count: int, seed: int, distance: float = 1.5) -> tuple[Array, Array]:
    """Labels, int8 (count,), and scores that tell them apart with overlap, float64 (count,); some scores are equal."""
    generator = np.random.default_rng(seed)
    labels = (generator.random(count) < 0.5).astype(np.int8)
    logits = generator.normal(size=count) + distance * (labels - 0.5)
    return labels, np.round(1 / (1 + np.exp(-logits)), 2)
