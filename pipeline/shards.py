"""Shards: which rows a shard holds, in which order, and how one is made. No engine: `spark_jobs/augment.py` hands the
plans out, and whoever calls `make_shard` with the same plan gets the same bytes.

A shard is a range of `image_id` in one split, as a dataset's part is, so a shard reads only the parts that overlap it,
and all variants of a picture lie in one shard. Within a training shard the rows are sorted by sha256 of
`<image_id>/<variant>`; in the other splits, which hold identities only, by `image_id`.

Memory while a shard is made, beside Python and its libraries (250 MB): its encoded rows and a few row groups, about
one and a half times `shard_mb` together, however many pictures the dataset has.

This module must not decide what a variant is or how it is stored (`pipeline.variants` does).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from pipeline import content
from pipeline.decode import decode_canonical
from pipeline.errors import DataError, ImageError, IntegrityError
from pipeline.manifest import FileEntry
from pipeline.parquet import open_parquet, write_parquet
from pipeline.records import SCHEMA_VERSION, SPLITS
from pipeline.storage import Folder
from pipeline.variants import IDENTITY, encode_lossless, transform

__all__ = ["ShardPlan", "ShardResult", "check_dataset", "make_shard", "plan_shards", "shard_count"]

_LOSSLESS_SHARE: Final = 0.4  # of a variant's raw pixels, for estimates (benchmarks/results/variants.md)
_LEAST_SHARDS: Final = 8  # small data too is spread over cores, and over a loader's workers
_LEAST_ROWS: Final = 256  # but not thinner than a row group
_RANGE: Final = 1 << 64


@dataclass(frozen=True)
class ShardPlan:
    """What it takes to make one shard.

    Attributes:
        split: one of `SPLITS`.
        shard: its number, from 0.
        shards: how many the split has.
        parts: the dataset's files that overlap it.
        variants: of each picture.
        size: side of the canonical square in pixels.
    """

    split: str
    shard: int
    shards: int
    parts: tuple[FileEntry, ...]
    variants: tuple[str, ...]
    size: int

    def holds(self, image_id: str) -> bool:
        """Whether the picture belongs to this shard."""
        return int(image_id[:16], 16) * self.shards // _RANGE == self.shard


@dataclass(frozen=True)
class ShardResult:
    """A finished shard. `file` is None where no picture fell into its range."""

    split: str
    shard: int
    file: FileEntry | None
    pictures: int
    content: str


def check_dataset(manifest: Mapping[str, Any], where: str) -> None:
    """Refuse a dataset that cannot be augmented, before any of it is read.

    Raises:
        IntegrityError: of another schema version.
        DataError: no picture in the training split.
    """
    found = manifest.get("schema_version")
    if found != SCHEMA_VERSION:
        raise IntegrityError(
            f"{where}: record schema version {found}, this Telltale reads version {SCHEMA_VERSION}. "
            "Make the dataset again with this version (spark_jobs/ingest.py)."
        )
    if not manifest["counts"]["splits"].get("train", {}).get("rows"):
        raise DataError(
            f"{where}: the training split is empty: nothing to augment. Give ingest more pictures, or a larger share "
            "of them to train."
        )


def shard_count(rows: int, identity_bytes: int, variants: Sequence[str], size: int, shard_mb: int) -> int:
    """How many shards a split gets: as many as keep each near `shard_mb`, and enough to share the work.

    Args:
        rows: pictures of the split.
        identity_bytes: of their stored originals, all together.
        variants: of each picture.
        size: side of the canonical square in pixels.
        shard_mb: aim, in units of 2**20 bytes.
    """
    made = sum(name != IDENTITY for name in variants)
    estimate = identity_bytes * (IDENTITY in variants) + made * rows * int(size * size * 3 * _LOSSLESS_SHARE)
    by_size = -(-estimate // (shard_mb << 20))
    return max(1, by_size, min(_LEAST_SHARDS, rows * len(variants) // _LEAST_ROWS))


def plan_shards(manifest: Mapping[str, Any], variants: Sequence[str], shard_mb: int) -> list[ShardPlan]:
    """All shards of a dataset, those of the training split first: a pure function of its manifest and the settings.

    Args:
        manifest: a dataset's.
        variants: of each training picture; the other splits get identities only.
        shard_mb: aim for a shard's size, in units of 2**20 bytes.
    """
    config, counts = manifest["config"], manifest["counts"]["splits"]
    size = int(config["canonical"]["geometry"]["size"])
    plans: list[ShardPlan] = []
    for split in SPLITS:
        rows = int(counts.get(split, {}).get("rows", 0))
        files = _parts(manifest, split)
        if not rows:
            continue
        names = tuple(variants) if split == "train" else (IDENTITY,)
        total = shard_count(rows, sum(entry.bytes for entry in files.values()), names, size, shard_mb)
        parts = -(-rows // int(config["rows_per_part"]))
        for shard in range(total):
            wanted = _overlap(shard, total, parts)
            chosen = tuple(files[number] for number in wanted if number in files)
            plans.append(ShardPlan(split, shard, total, chosen, names, size))
    return plans


def _parts(manifest: Mapping[str, Any], split: str) -> dict[int, FileEntry]:
    """The split's files by part number."""
    prefix = f"{split}-"
    return {
        int(entry["path"][len(prefix) :].split("-")[0]): FileEntry(**entry)
        for entry in manifest["files"]
        if entry["path"].startswith(prefix)
    }


def _overlap(shard: int, shards: int, parts: int) -> range:
    """The numbers of the parts whose range of ids meets that of a shard."""
    first = -(-shard * _RANGE // shards)
    last = -(-(shard + 1) * _RANGE // shards) - 1
    return range(first * parts // _RANGE, last * parts // _RANGE + 1)


def make_shard(dataset: Folder, output: Folder, plan: ShardPlan) -> ShardResult:
    """Read a shard's pictures, make their variants, and publish the shard's file.

    Args:
        dataset: where the parts are.
        output: where the shard goes.
        plan: from `plan_shards`.

    Raises:
        IntegrityError: a part is not what the manifest says, or a row of it is damaged.
        StorageError: a part cannot be read, or the shard not written (disk full).
    """
    rows: list[tuple[bytes, dict[str, Any], bytes]] = []
    pictures = 0
    for entry in plan.parts:
        _check_part(dataset, entry)
        for row in _rows_of(dataset, entry.path, plan):
            pictures += 1
            rows.extend(_variants_of(row, plan, dataset.locate(entry.path)))
    if not rows:
        return ShardResult(plan.split, plan.shard, None, 0, "")
    rows.sort(key=lambda item: item[0])
    file = write_parquet(output, f"{plan.split}-{plan.shard:05d}", (row for _, row, _ in rows))
    digest = content.combine(digest for _, _, digest in rows)
    return ShardResult(plan.split, plan.shard, file, pictures, digest)


def _check_part(dataset: Folder, entry: FileEntry) -> None:
    """Hash a part before a shard is made from it. (A part that overlaps several shards is hashed for each: hashing
    takes a hundredth of the time that the variants of its pictures take.)
    """
    found, size = dataset.sha256(entry.path)
    if (found, size) != (entry.sha256, entry.bytes):
        raise IntegrityError(
            f"{dataset.locate(entry.path)}: changed: sha256 {found[:16]}…, {size} bytes; the dataset's manifest says "
            f"{entry.sha256[:16]}…, {entry.bytes} bytes. Make the dataset again (spark_jobs/ingest.py)."
        )


def _rows_of(dataset: Folder, path: str, plan: ShardPlan) -> Iterator[dict[str, Any]]:
    """The rows of a part that belong to a shard; row groups without any are not read."""
    with open_parquet(dataset, path) as file:
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["image_id"]).column(0).to_pylist()
            mine = [plan.holds(image_id) for image_id in ids]
            if any(mine):
                yield from file.read_row_group(group).filter(pa.array(mine)).to_pylist()


def _variants_of(row: dict[str, Any], plan: ShardPlan, where: str) -> Iterator[tuple[bytes, dict[str, Any], bytes]]:
    """(place, row, digest) of each variant of a picture."""
    try:
        pixels = decode_canonical(row["image"])
    except ImageError as error:
        raise IntegrityError(f"{where}: picture {row['image_id']}: {error}. Make the dataset again.") from error
    if pixels.shape != (plan.size, plan.size, 3):
        raise IntegrityError(
            f"{where}: picture {row['image_id']} is {pixels.shape[1]} x {pixels.shape[0]} pixels, the manifest says "
            f"{plan.size} x {plan.size}. Make the dataset again."
        )
    for name in plan.variants:
        changed = pixels if name == IDENTITY else transform(name)(pixels)
        image = row["image"] if name == IDENTITY else encode_lossless(changed)
        variant = {**row, "image": image, "variant": name}
        yield _place(plan.split, row["image_id"], name), variant, content.row_digest(variant, np.asarray(changed))


def _place(split: str, image_id: str, variant: str) -> bytes:
    """What the rows of a shard are sorted by."""
    if split != "train":
        return bytes.fromhex(image_id)
    return hashlib.sha256(f"{image_id}/{variant}".encode()).digest()
