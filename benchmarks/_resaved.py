"""The test pictures as they come back from platforms, saved anew: what a detector then says of them.

The original files are changed, at full size, and go the way of any picture that a user asks about. Pillow saves them,
not the trainer's own augmentation, so a detector trained with that is not asked about the very same bits.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from PIL import Image, ImageFilter

from detection.model import Detector, load
from detection.predict import in_order
from evaluation.config import EvaluationConfig
from evaluation.report import figures_of
from evaluation.scores import SCORE_SCHEMA, Scores
from evaluation.slices import of_split
from pipeline.cli import cores, progress

__all__ = ["TREATMENTS", "figures_resaved", "resaved"]

Treatment = Callable[[Image.Image], Image.Image]


def _same(picture: Image.Image) -> Image.Image:
    return picture


def _smaller(factor: float) -> Treatment:
    def treat(picture: Image.Image) -> Image.Image:
        size = (round(picture.width * factor), round(picture.height * factor))
        return picture.resize(size, Image.Resampling.BICUBIC)

    return treat


def _blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(1.0))


TREATMENTS: Final[Mapping[str, tuple[Treatment, Mapping[str, Any]]]] = {
    "JPEG 90": (_same, {"format": "JPEG", "quality": 90}),
    "JPEG 75": (_same, {"format": "JPEG", "quality": 75}),
    "JPEG 50": (_same, {"format": "JPEG", "quality": 50}),
    "WebP 75": (_same, {"format": "WEBP", "quality": 75}),
    "3/4 the size, JPEG 85": (_smaller(0.75), {"format": "JPEG", "quality": 85}),
    "half the size, JPEG 85": (_smaller(0.5), {"format": "JPEG", "quality": 85}),
    "blurred (1 px)": (_blurred, {"format": "PNG"}),
}
"""What is done to a picture, and how it is saved then."""


def figures_resaved(run: Path, raw: str) -> dict[str, dict[str, Any]]:
    """The figures of a run's detector on the test split, by treatment, as a report has them of a split.

    Args:
        run: folder of a whole run; its report says which pictures are the test's.
        raw: folder that the run ingested.
    """
    table = pq.read_table(run / "report" / "scores.parquet", filters=[("split", "==", "test")], schema=SCORE_SCHEMA)
    names = [field.name for field in fields(Scores) if field.name != "probability"]
    columns = {name: np.array(table.column(name).to_pylist()) for name in names}
    detector, found = load(str(run / "model")), {}
    for name in TREATMENTS:
        scored = in_order(partial(_scored, detector, Path(raw), name), columns["path"], cores())
        values = np.array(list(progress(scored, name, total=len(table), unit=" pictures")))
        scores = Scores(**columns, probability=values)
        found[name] = figures_of(scores, of_split(scores, "test"), detector, EvaluationConfig())
    return found


def _scored(detector: Detector, raw: Path, name: str, path: str) -> float:
    return detector.probability(resaved((raw / path).read_bytes(), name))


def resaved(data: bytes, name: str) -> bytes:
    """A picture's file after a treatment, without metadata."""
    treat, options = TREATMENTS[name]
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        treat(picture.convert("RGB")).save(buffer, **options)
    return buffer.getvalue()
