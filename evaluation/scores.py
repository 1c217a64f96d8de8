"""Score a dataset's rows with a bundle: what the detector says of each, and what it really is.

Pictures pass through one at a time; only scores and names are held. This module must not judge how good they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from detection.model import Detector
from detection.predict import in_order
from pipeline.cli import cores, progress
from pipeline.decode import decode_canonical
from pipeline.errors import DataError, ImageError, IntegrityError
from pipeline.manifest import FileEntry, check_files
from pipeline.parquet import open_parquet, read_row_group, write_parquet
from pipeline.records import SCHEMA
from pipeline.storage import Folder

__all__ = ["SCORE_SCHEMA", "Scores", "part_names", "pictures_of", "score", "write_scores"]

SCORE_SCHEMA: Final[pa.Schema] = pa.schema(
    [
        pa.field("path", pa.string(), nullable=False),  # of the original, relative to the raw folder
        pa.field("split", pa.string(), nullable=False),
        pa.field("label", pa.int8(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("group_id", pa.string(), nullable=False),
        pa.field("ai_probability", pa.float64(), nullable=False),
        pa.field("verdict", pa.string(), nullable=False),  # ai or real
    ],
    metadata=SCHEMA.metadata,
)

_NAMES = ("path", "split", "source", "image_id", "group_id")


@dataclass(frozen=True)
class Scores:
    """The scored rows, one entry of each array a row, in the dataset's order.

    Attributes:
        path, split, source, image_id, group_id: str objects.
        label: int8, 0 real or 1 AI-generated.
        probability: float64 in [0, 1], the calibrated probability of AI-generated.
    """

    path: np.ndarray[Any, Any]
    split: np.ndarray[Any, Any]
    source: np.ndarray[Any, Any]
    image_id: np.ndarray[Any, Any]
    group_id: np.ndarray[Any, Any]
    label: np.ndarray[Any, np.dtype[np.int8]]
    probability: np.ndarray[Any, np.dtype[np.float64]]

    def __len__(self) -> int:
        return len(self.label)


def part_names(document: Mapping[str, Any], split: str) -> list[str]:
    """The names of a split's Parquet parts, in order."""
    return [entry["path"] for entry in document["files"] if entry["path"].startswith(f"{split}-")]


def score(
    detector: Detector, dataset: Folder, document: Mapping[str, Any], splits: Sequence[str], workers: int | None = None
) -> Scores:
    """Score every row of the splits.

    Args:
        detector: a loaded bundle.
        dataset: the dataset's folder.
        document: its manifest.
        splits: which splits, in order.
        workers: threads; by default one a core. The result does not depend on it.

    Raises:
        IntegrityError: naming the part that is missing, changed or damaged.
        DataError: no rows at all.
    """
    parts = [name for split in splits for name in part_names(document, split)]
    check_files(dataset, {"files": [entry for entry in document["files"] if entry["path"] in set(parts)]})
    total = sum(entry["rows"] for entry in document["files"] if entry["path"] in set(parts))
    if not total:
        raise DataError(f"{dataset.uri}: no rows in {', '.join(splits)}: nothing to evaluate. Look at its counts.")
    rows = in_order(lambda row: _scored(detector, row), _rows(dataset, parts), workers or cores())
    done = list(progress(rows, "evaluate", total=total, unit=" pictures"))
    columns = {name: np.array([row[name] for row in done], dtype=object) for name in _NAMES}
    return Scores(
        **columns,
        label=np.array([row["label"] for row in done], dtype=np.int8),
        probability=np.array([row["ai_probability"] for row in done], dtype=np.float64),
    )


def _rows(dataset: Folder, parts: Sequence[str]) -> Iterator[dict[str, Any]]:
    for part in parts:
        with open_parquet(dataset, part) as file:
            groups = file.metadata.num_row_groups
        for group in range(groups):
            table = read_row_group(dataset, part, group, ["image", "label", *_NAMES])
            yield from ({**row, "where": dataset.locate(part)} for row in table.to_pylist())


def _scored(detector: Detector, row: dict[str, Any]) -> dict[str, Any]:
    size = detector.bundle.canonical.geometry.size
    try:
        pixels = decode_canonical(row.pop("image"))
    except ImageError as error:
        raise IntegrityError(f"{row['where']}: the row of {row['path']}: {error}. Make the dataset again.") from error
    if pixels.shape != (size, size, 3):
        raise IntegrityError(f"{row['where']}: the row of {row['path']} is not {size} px. Make the dataset again.")
    del row["where"]
    row["ai_probability"] = float(detector.probabilities(pixels[None])[0])
    return row


def write_scores(folder: Folder, detector: Detector, scores: Scores) -> FileEntry:
    """Publish the scores as `scores.parquet`, in the order they have."""
    rows = (
        {
            **{name: str(getattr(scores, name)[i]) for name in _NAMES},
            "label": int(scores.label[i]),
            "ai_probability": float(scores.probability[i]),
            "verdict": detector.verdict(float(scores.probability[i])),
        }
        for i in range(len(scores))
    )
    return write_parquet(folder, "scores", rows, SCORE_SCHEMA, name="scores.parquet")


def pictures_of(
    dataset: Folder, document: Mapping[str, Any], splits: Sequence[str], wanted: set[str]
) -> dict[str, bytes]:
    """The stored canonical pictures of some image ids (image_id → encoded bytes), for showing a few of them."""
    found: dict[str, bytes] = {}
    for part in (name for split in splits for name in part_names(document, split)):
        with open_parquet(dataset, part) as file:
            groups = file.metadata.num_row_groups
        for group in range(groups):
            if len(found) == len(wanted):
                return found
            ids = read_row_group(dataset, part, group, ["image_id"]).column(0).to_pylist()
            if not wanted.intersection(ids):
                continue
            images = read_row_group(dataset, part, group, ["image"]).column(0)
            found |= {key: images[i].as_py() for i, key in enumerate(ids) if key in wanted}
    return found
