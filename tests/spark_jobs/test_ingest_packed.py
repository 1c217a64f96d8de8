"""Ingest of tar archives and Parquet files: the rows that loose files give, and a chain that holds."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cli import run_command
from pipeline.parquet import open_parquet
from pipeline.records import REJECT_SCHEMA
from pipeline.storage import Folder
from pipeline.verify import check_raw
from spark_jobs import ingest
from tests.datasets import make_dataset

SETTINGS = ("--set", "canonical.geometry.mode=native", "--set", "canonical.geometry.size=32")


def _rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Every row without its path, by image id."""
    document = json.loads((folder / "manifest.json").read_bytes())
    rows: dict[str, dict[str, Any]] = {}
    for entry in document["files"]:
        if entry["path"] != "rejects.parquet":
            with open_parquet(Folder(str(folder)), entry["path"]) as file:
                rows |= {row["image_id"]: {**row, "path": None} for row in file.read().to_pylist()}
    return rows


def _pack(loose: Path, packed: Path) -> None:
    """The real pictures in a tar archive, the generated ones in a Parquet file."""
    (packed / "real/camera").mkdir(parents=True)
    (packed / "ai/generator").mkdir(parents=True)
    with tarfile.open(packed / "real/camera/0.tar", "w") as archive:
        archive.add(loose / "real/camera", "pictures")
        cut = next((loose / "real/camera").iterdir()).read_bytes()[:-40]
        member = tarfile.TarInfo("cut.jpg")
        member.size = len(cut)
        archive.addfile(member, io.BytesIO(cut))
    pictures = [path.read_bytes() for path in sorted((loose / "ai/generator").iterdir())]
    pq.write_table(pa.table({"image": pictures}), packed / "ai/generator/0.parquet", row_group_size=5)


def test_packed_pictures_become_the_rows_of_loose_ones(tmp_path: Path, master: None) -> None:
    make_dataset(tmp_path / "unused", {"train": 12}, raw=tmp_path / "loose")
    _pack(tmp_path / "loose", tmp_path / "packed")
    for name in ("loose", "packed"):
        words = ["--input", str(tmp_path / name), "--output", str(tmp_path / f"{name}-dataset"), *SETTINGS]
        assert run_command(ingest.main, words) == 0
    assert _rows(tmp_path / "packed-dataset") == _rows(tmp_path / "loose-dataset")
    document = json.loads((tmp_path / "packed-dataset/manifest.json").read_bytes())
    assert (document["counts"]["files"], document["counts"]["rejected"]) == (25, 1)
    dataset = Folder(str(tmp_path / "packed-dataset"))
    assert check_raw(dataset, document) == 25
    with open_parquet(dataset, "rejects.parquet", REJECT_SCHEMA) as file:
        assert [row["path"] for row in file.read().to_pylist()] == ["real/camera/0.tar/cut.jpg"]
