"""Finished shards and statistics of many distinct pictures, for training to read; made once and kept under
.cache/benchmarks/.

The pictures are those of `_lake`, cut to the side asked for and harmonised as ingest does; the variants are stored as
augment stores them. The rows lie in the order that augment gives them within a shard. Statistics are constants.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._lake import SIDE, picture
from benchmarks._processes import ROOT
from pipeline.canonical import Canonical
from pipeline.config import as_dict
from pipeline.decode import decode_canonical
from pipeline.geometry import Geometry
from pipeline.harmonise import Harmonise, draw_quality, harmonise
from pipeline.manifest import FileEntry, file_entries, library_versions, publish
from pipeline.parquet import write_parquet
from pipeline.records import SCHEMA_VERSION
from pipeline.shards import shard_count
from pipeline.storage import Folder
from pipeline.variants import IDENTITY, encode_lossless, transform

__all__ = ["CACHE", "VARIANTS", "Plan", "make_run"]

CACHE = ROOT / ".cache" / "benchmarks"
VARIANTS = (IDENTITY, "hflip", "rot90", "rot270")
"""Augment's own."""
_SHARD_MB = 64
_JPEG_SHARE = 0.12  # of a picture's raw pixels
_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What to make.

    Attributes:
        pictures: of the training split, every second one of them AI-generated.
        side: of the square, a multiple of 16, at most 256.
        variants: of each training picture.
        val: pictures of the validation split.
    """

    pictures: int
    side: int = SIDE
    variants: tuple[str, ...] = (IDENTITY,)
    val: int = 64

    def __post_init__(self) -> None:
        if self.pictures < 2 or self.val < 2 or self.side > SIDE:
            raise ValueError(f"a split needs two pictures, of at most {SIDE} px: {self}")

    @property
    def rows(self) -> int:
        """Training rows."""
        return self.pictures * len(self.variants)

    @property
    def name(self) -> str:
        """Of the folder."""
        return f"{self.pictures}+{self.val}-{'-'.join(self.variants)}-{self.side}px-v{_VERSION}"

    @property
    def shards(self) -> int:
        """Files of the training split, as many as augment makes."""
        jpegs = int(self.pictures * self.side**2 * 3 * _JPEG_SHARE)
        return shard_count(self.pictures, jpegs, self.variants, self.side, _SHARD_MB)


def make_run(plan: Plan, home: Path = CACHE / "shards") -> Path:
    """The folder `home`/`plan.name` with shards/ and stats.json, made if it is not there."""
    run = home / plan.name
    if (run / "shards" / "manifest.json").exists():
        return run
    jobs = [("train", number, plan.shards) for number in range(plan.shards)] + [("val", 0, 1)]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        entries = list(pool.map(partial(_shard, str(run / "shards"), plan), jobs))
    dataset = {"dataset": hashlib.sha256(plan.name.encode()).hexdigest()}
    stats = {"kind": "stats", "stage_version": 1, "parents": dataset, "mean": [0.5] * 3, "std": [0.25] * 3}
    publish(Folder(str(run)), "stats.json", stats)
    body = {
        "kind": "shards",
        "stage_version": 1,
        "schema_version": SCHEMA_VERSION,
        "config": {"variants": list(plan.variants)},
        "libraries": library_versions("pyarrow"),
        "parents": dataset,
        "canonical": as_dict(Canonical(geometry=Geometry(mode="native", size=plan.side))),
        "files": file_entries(entries),
    }
    publish(Folder(str(run / "shards")), "manifest.json", body)
    return run


def _shard(folder: str, plan: Plan, job: tuple[str, int, int]) -> FileEntry:
    """One file: every so many-th picture of a split, with its variants."""
    split, shard, shards = job
    numbers = range(plan.pictures) if split == "train" else range(plan.pictures, plan.pictures + plan.val)
    names = plan.variants if split == "train" else (IDENTITY,)
    rows = [row for number in numbers[shard::shards] for row in _rows(number, plan.side, split, names)]
    rows.sort(key=lambda row: hashlib.sha256(f"{row['image_id']}/{row['variant']}".encode()).digest())
    return write_parquet(Folder(folder), f"{split}-{shard:05d}", rows)


def _rows(number: int, side: int, split: str, variants: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    pixels = np.ascontiguousarray(picture(number)[:side, :side])
    image_id = hashlib.sha256(pixels.tobytes()).hexdigest()
    setting = Harmonise()
    quality = draw_quality(image_id, setting) if split == "train" else setting.quality
    stored = harmonise(pixels, quality, setting)
    for variant in variants:
        image = stored if variant == IDENTITY else encode_lossless(transform(variant)(decode_canonical(stored)))
        yield {
            "image": image,
            "label": number % 2,
            "source": "generator" if number % 2 else "camera",
            "split": split,
            "image_id": image_id,
            "group_id": image_id,
            "variant": variant,
            "quality": quality,
            "path": f"{number:06d}.png",
            "format": "PNG",
            "width": side,
            "height": side,
            "bytes": pixels.nbytes,
            "quantization": None,
            "has_exif": False,
        }
