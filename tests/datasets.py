"""A small valid dataset, made in-process: what ingest would write, without Spark.

The tests of every stage that reads a dataset (statistics, augmentation, training, evaluation) use it; the product
never does.  The originals are written too, so that whatever starts from an original file can be tested.

    from tests.datasets import make_dataset
    manifest = make_dataset(tmp_path / "dataset")  # 16 + 8 + 8 + 4 pictures of each label
    manifest = make_dataset(tmp_path / "dataset", {"train": 200, "val": 40}, size=64)
    manifest = make_dataset(folder, sources={"real": ("canon", "nikon"), "ai": ("gan", "vae")}, pairs=True)

AI-generated pictures carry the checkerboard that a transposed convolution leaves, so that a tiny model can
learn the classes; `trace=0` makes them indistinguishable.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline import content
from pipeline.canonical import Canonical, canonicalise
from pipeline.config import as_dict
from pipeline.decode import decode_canonical
from pipeline.geometry import Geometry
from pipeline.manifest import canonical_json, file_entries, library_versions, publish, seal
from pipeline.parquet import write_parquet
from pipeline.records import LABELS, REJECT_SCHEMA, SCHEMA_VERSION, SPLITS
from pipeline.storage import Folder
from tests.pictures import photo

PICTURES: Mapping[str, int] = {"train": 16, "val": 8, "test": 8, "ood": 4}
SOURCES: Mapping[str, Sequence[str]] = {"real": ("camera",), "ai": ("generator",)}
OOD_SOURCES: Mapping[str, Sequence[str]] = {"real": ("other_camera",), "ai": ("other_generator",)}


Scene = Callable[[int, int, int], NDArray[np.uint8]]
"""(seed, width, height) to pixels, uint8 (height, width, 3)."""


@dataclass(frozen=True)
class _Plan:
    size: int
    trace: int
    group_size: int
    pairs: bool
    seed: int
    scenes: Scene


def make_dataset(
    folder: Path,
    pictures: Mapping[str, int] = PICTURES,
    *,
    size: int = 32,
    sources: Mapping[str, Sequence[str]] = SOURCES,
    ood_sources: Mapping[str, Sequence[str]] = OOD_SOURCES,
    group_size: int = 1,
    pairs: bool = False,
    trace: int = 10,
    seed: int = 0,
    rows_per_part: int = 2048,
    raw: Path | None = None,
    changes: Mapping[str, Any] | None = None,
    scenes: Scene = photo,
) -> dict[str, Any]:
    """Write a finished dataset and return its manifest.

    pictures: how many of *each label* in each split; a split left out stays empty.
    size: side of the canonical square, a multiple of 16, at least 32.
    sources, ood_sources: by label, the sources that the pictures of a split go to in turn.
    group_size: that many consecutive pictures of a split and label are near-duplicates of one another.
    pairs: the k-th AI picture of a split is the k-th real one with the trace, and shares its group.
    trace: amplitude of the AI pictures' checkerboard, in grey levels.
    raw: where the originals go; beside `folder`, in `raw/`, by default.
    changes: members of the manifest to replace before it is sealed, for tests of what readers refuse.
    scenes: what the pictures show before the trace is laid over.
    """
    plan = _Plan(size, trace, group_size, pairs, seed, scenes)
    raw = raw or folder.parent / "raw"
    canonical = Canonical(geometry=Geometry(mode="native", size=size))
    rows: list[dict[str, Any]] = []
    inputs: list[dict[str, Any]] = []
    for split in SPLITS:
        for label, name in enumerate(LABELS):
            names = (ood_sources if split == "ood" else sources)[name]
            for number in range(pictures.get(split, 0)):
                source = names[number % len(names)]
                suffix, data = _original(plan, split, label, number)
                path = f"{name}/{source}/{split}-{number:05d}{suffix}"
                (raw / path).parent.mkdir(parents=True, exist_ok=True)
                (raw / path).write_bytes(data)
                inputs.append({"path": path, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
                rows.append(
                    {
                        **canonicalise(data, canonical, training=split == "train").columns(),
                        "label": label,
                        "source": source,
                        "split": split,
                        "group_id": _group(plan, split, label, number),
                        "variant": "identity",
                        "path": path,
                    }
                )
    return _write(Folder(str(folder)), raw, canonical, rows, inputs, rows_per_part, changes or {})


def _scene(plan: _Plan, split: str, label: int, number: int) -> str:
    return f"{plan.seed}/{split}/{'' if plan.pairs else label}/{number // plan.group_size}"


def _group(plan: _Plan, split: str, label: int, number: int) -> str:
    return hashlib.sha256(_scene(plan, split, label, number).encode()).hexdigest()


def _original(plan: _Plan, split: str, label: int, number: int) -> tuple[str, bytes]:
    """A file's suffix and bytes: real ones are JPEG, AI-generated ones PNG."""
    digest = hashlib.sha256(_scene(plan, split, label, number).encode()).digest()
    pixels = plan.scenes(int.from_bytes(digest[:4], "big"), plan.size, plan.size).astype(np.int16)
    pixels += number % plan.group_size  # near-duplicates differ in brightness
    if label:
        pixels += plan.trace * checkerboard(plan.size)
    image, buffer = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), io.BytesIO()
    if label:
        image.save(buffer, format="PNG")
    else:
        image.save(buffer, format="JPEG", quality=95)
    return (".png" if label else ".jpg"), buffer.getvalue()


def checkerboard(size: int) -> NDArray[np.int16]:
    """int16 (size, size, 1) of +1 and -1 in turn."""
    lines = np.arange(size)
    return (1 - 2 * ((lines[:, None] + lines[None, :]) % 2)).astype(np.int16)[..., None]


def _write(
    folder: Folder,
    raw: Path,
    canonical: Canonical,
    rows: list[dict[str, Any]],
    inputs: list[dict[str, Any]],
    rows_per_part: int,
    changes: Mapping[str, Any],
) -> dict[str, Any]:
    files = [write_parquet(folder, "rejects", [], REJECT_SCHEMA, name="rejects.parquet")]
    digests: list[bytes] = []
    for split in SPLITS:
        mine = [row for row in rows if row["split"] == split]
        count = -(-len(mine) // rows_per_part)
        for part in range(count):
            chosen = [row for row in mine if int(row["image_id"][:16], 16) * count >> 64 == part]
            chosen.sort(key=lambda row: row["image_id"])
            files.append(write_parquet(folder, f"{split}-{part:05d}", chosen))
            of_rows = [content.row_digest(row, decode_canonical(row["image"])) for row in chosen]
            digests.append(bytes.fromhex(content.combine(of_rows)))
    folder.put("locations.json", canonical_json(seal({"kind": "locations", "raw": str(raw.absolute())})))
    body = {
        "kind": "dataset",
        "stage_version": 1,
        "schema_version": SCHEMA_VERSION,
        "config": {"canonical": as_dict(canonical), "rows_per_part": rows_per_part},
        "libraries": library_versions("numpy", "pillow", "pillow-heif", "pyarrow", "simplejpeg"),
        "parents": {"raw": content.raw_sha256((item["path"], item["sha256"]) for item in inputs)},
        "inputs": sorted(inputs, key=lambda item: str(item["path"])),
        "files": file_entries(files),
        "content_sha256": content.combine(digests),
        "counts": _counts(rows, len(inputs)),
        **changes,
    }
    return publish(folder, "manifest.json", body)


def _counts(rows: list[dict[str, Any]], files: int) -> dict[str, Any]:
    labels: dict[str, set[int]] = {}
    for row in rows:
        labels.setdefault(row["group_id"], set()).add(row["label"])
    splits = {}
    for split in SPLITS:
        mine = [row for row in rows if row["split"] == split]
        sources: dict[str, int] = {}
        for row in mine:
            sources[row["source"]] = sources.get(row["source"], 0) + 1
        splits[split] = {
            "rows": len(mine),
            "groups": len({row["group_id"] for row in mine}),
            **{name: sum(row["label"] == label for row in mine) for label, name in enumerate(LABELS)},
            "sources": sources,
        }
    return {
        "files": files,
        "rows": len(rows),
        "duplicates": 0,
        "rejected": 0,
        "groups": len(labels),
        "cross_label_groups": sum(len(found) > 1 for found in labels.values()),
        "moved_groups": 0,
        "splits": splits,
    }
