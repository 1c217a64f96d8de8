"""Shards: every row exactly once, in the place its id says, and nothing made from damaged parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import content
from pipeline.decode import decode_canonical
from pipeline.errors import DataError, IntegrityError, StorageError
from pipeline.parquet import write_parquet
from pipeline.records import SCHEMA
from pipeline.shards import ShardPlan, _overlap, check_dataset, make_shard, plan_shards, shard_count
from pipeline.storage import Folder
from pipeline.variants import transform
from tests.datasets import make_dataset

VARIANTS = ("identity", "hflip", "rot90", "rotate15")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Folder, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("shards") / "dataset"
    return Folder(str(folder)), make_dataset(folder, {"train": 80, "val": 6, "ood": 5}, rows_per_part=60)


def _rows(folder: Folder, path: str) -> list[dict[str, Any]]:
    with folder.open(path) as stream:
        return pq.read_table(stream).to_pylist()


def test_shards_hold_every_variant_of_every_picture_once(
    dataset: tuple[Folder, dict[str, Any]], tmp_path: Path
) -> None:
    folder, manifest = dataset
    originals = {
        row["image_id"]: row
        for entry in manifest["files"]
        if not entry["path"].startswith("rejects")
        for row in _rows(folder, entry["path"])
    }
    plans, found = plan_shards(manifest, VARIANTS, 1), Counter[tuple[str, str]]()
    assert Counter(plan.split for plan in plans) == {"train": 2, "val": 1, "ood": 1}
    for plan in plans:
        result = make_shard(folder, Folder(str(tmp_path)), plan)
        assert result.file is not None
        assert result.file.path.startswith(f"{plan.split}-{plan.shard:05d}-{result.file.sha256[:16]}")
        rows = _rows(Folder(str(tmp_path)), result.file.path)
        assert result.file.rows == len(rows) == result.pictures * len(plan.variants)
        digests = []
        for row in rows:
            original = originals[row["image_id"]]
            pixels = transform(row["variant"])(decode_canonical(original["image"]))
            np.testing.assert_array_equal(decode_canonical(row["image"]), pixels)
            if row["variant"] == "identity":
                assert row["image"] == original["image"]
            assert {**row, "image": 0, "variant": 0} == {**original, "image": 0, "variant": 0}
            assert plan.holds(row["image_id"])
            found[row["image_id"], row["variant"]] += 1
            digests.append(content.row_digest(row, pixels))
        assert result.content == content.combine(digests)
    expected = {
        (image_id, name)
        for image_id, row in originals.items()
        for name in (VARIANTS if row["split"] == "train" else ("identity",))
    }
    assert set(found) == expected
    assert set(found.values()) == {1}


def test_places_follow_from_ids(dataset: tuple[Folder, dict[str, Any]], tmp_path: Path) -> None:
    folder, manifest = dataset
    for plan in plan_shards(manifest, VARIANTS, 1):
        file = make_shard(folder, Folder(str(tmp_path)), plan).file
        assert file is not None
        rows = [(row["image_id"], row["variant"]) for row in _rows(Folder(str(tmp_path)), file.path)]
        if plan.split == "train":
            assert rows == sorted(rows, key=lambda row: hashlib.sha256(f"{row[0]}/{row[1]}".encode()).hexdigest())
            assert rows != sorted(rows)
        else:
            assert rows == sorted(rows)


def test_row_groups_hold_256_rows_and_pictures_no_statistics(
    dataset: tuple[Folder, dict[str, Any]], tmp_path: Path
) -> None:
    folder, manifest = dataset
    file = make_shard(folder, Folder(str(tmp_path)), plan_shards(manifest, VARIANTS, 1)[0]).file
    assert file is not None
    meta = pq.read_metadata(tmp_path / file.path)
    assert [meta.row_group(i).num_rows for i in range(meta.num_row_groups)][:-1] == [256] * (meta.num_row_groups - 1)
    image = meta.row_group(0).column(SCHEMA.names.index("image"))
    assert (image.statistics, image.compression) == (None, "UNCOMPRESSED")
    assert "RLE_DICTIONARY" not in image.encodings


@given(st.integers(1, 50), st.integers(1, 50), st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_a_shard_reads_exactly_the_parts_that_overlap_it(shards: int, parts: int, ids: list[int]) -> None:
    edges = [(k << 64) // shards + shift for k in range(shards + 1) for shift in (-1, 0, 1)]
    for number in [*ids, *(edge for edge in edges if 0 <= edge < 1 << 64)]:
        shard, part = number * shards >> 64, number * parts >> 64
        assert part in _overlap(shard, shards, parts)
    assert sum(len(_overlap(shard, shards, parts)) for shard in range(shards)) <= shards + parts - 1


@pytest.mark.parametrize(
    ("rows", "identity_bytes", "variants", "size", "shard_mb", "expected"),
    [
        (1, 1_000, ("identity",), 32, 256, 1),
        (100, 10**6, ("identity", "hflip", "rot90", "rot270"), 64, 256, 1),
        (1_000, 2 * 10**7, ("identity", "hflip", "rot90", "rot270"), 256, 256, 8),  # for the sake of cores
        (20_000, 4 * 10**8, ("identity", "hflip", "rot90", "rot270"), 256, 256, 20),
        (20_000, 4 * 10**8, ("identity", "hflip", "rot90", "rot270"), 256, 500, 10),
        (20_000, 4 * 10**8, ("identity",), 256, 100, 8),
        (200_000, 4 * 10**9, ("identity",), 256, 100, 39),
        (3, 3 * 10**6, ("hflip",), 1024, 1, 4),
    ],
)
def test_number_of_shards_follows_from_the_data(
    rows: int, identity_bytes: int, variants: tuple[str, ...], size: int, shard_mb: int, expected: int
) -> None:
    assert shard_count(rows, identity_bytes, variants, size, shard_mb) == expected


def test_a_shard_without_pictures_writes_nothing(dataset: tuple[Folder, dict[str, Any]], tmp_path: Path) -> None:
    folder, manifest = dataset
    plan = plan_shards(manifest, VARIANTS, 1)[0]
    empty = ShardPlan("train", 5, 1 << 40, plan.parts, plan.variants, plan.size)
    assert make_shard(folder, Folder(str(tmp_path)), empty).file is None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("position", [0, 20, -30, -1])
def test_a_part_with_one_changed_byte_is_named(tmp_path: Path, position: int) -> None:
    manifest = make_dataset(tmp_path / "dataset", {"train": 4})
    part = next(tmp_path.glob("dataset/train-*"))
    data = bytearray(part.read_bytes())
    data[position] ^= 1
    part.write_bytes(data)
    with pytest.raises(IntegrityError, match=part.name):
        _make_all(tmp_path, manifest)
    assert list((tmp_path / "out").glob("*")) == []


def test_a_cut_part_and_a_missing_part_are_named(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "dataset", {"train": 4})
    part = next(tmp_path.glob("dataset/train-*"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(IntegrityError, match=part.name):
        _make_all(tmp_path, manifest)
    part.unlink()
    with pytest.raises(StorageError, match=part.name):
        _make_all(tmp_path, manifest)


@pytest.mark.parametrize("damage", ["not a picture", "another size"])
def test_a_damaged_picture_is_named(tmp_path: Path, damage: str) -> None:
    """The manifest vouches for the part, so whoever wrote it wrote a wrong row."""
    manifest = make_dataset(tmp_path / "dataset", {"train": 2})
    other = make_dataset(tmp_path / "other", {"train": 2}, size=48, seed=1)
    folder = Folder(str(tmp_path / "dataset"))
    (entry,) = (entry for entry in manifest["files"] if entry["path"].startswith("train-"))
    (larger,) = (entry for entry in other["files"] if entry["path"].startswith("train-"))
    rows = _rows(folder, entry["path"])
    rows[0]["image"] = (
        b"GIF89a" if damage == "not a picture" else _rows(Folder(str(tmp_path / "other")), larger["path"])[0]["image"]
    )
    file = write_parquet(folder, "train-00000", rows)
    entry.update(path=file.path, bytes=file.bytes, sha256=file.sha256)
    with pytest.raises(IntegrityError, match=rows[0]["image_id"]):
        _make_all(tmp_path, manifest)


def test_another_schema_version_and_an_empty_training_split_are_refused(tmp_path: Path) -> None:
    manifest = make_dataset(tmp_path / "dataset", {"val": 1})
    with pytest.raises(DataError, match="training split is empty"):
        check_dataset(manifest, "dataset/manifest.json")
    with pytest.raises(IntegrityError, match=r"version 99.*version 1"):
        check_dataset({**manifest, "schema_version": 99}, "dataset/manifest.json")


def _make_all(tmp_path: Path, manifest: dict[str, Any]) -> None:
    for plan in plan_shards(manifest, VARIANTS, 256):
        make_shard(Folder(str(tmp_path / "dataset")), Folder(str(tmp_path / "out")), plan)
