"""Parquet files of records: the same rows give the same bytes; other versions and damage are refused by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import IntegrityError
from pipeline.parquet import ROW_GROUP_ROWS, open_parquet, read_row_group, write_parquet
from pipeline.records import REJECT_SCHEMA, SCHEMA
from pipeline.storage import Folder


def _row(number: int) -> dict[str, Any]:
    return {
        "image": number.to_bytes(4, "big") * 10,
        "label": number % 2,
        "source": "ffhq",
        "split": "train",
        "image_id": f"{number:064x}",
        "group_id": f"{number:016x}",
        "variant": "identity",
        "quality": 90,
        "path": f"real/ffhq/{number}.jpg",
        "format": "JPEG",
        "width": 256,
        "height": 256,
        "bytes": 1000 + number,
        "quantization": [[number % 100] * 64] if number % 3 else None,
        "has_exif": False,
    }


def test_rows_come_back_and_the_name_is_the_content(tmp_path: Path) -> None:
    folder, count = Folder(str(tmp_path)), 2 * ROW_GROUP_ROWS + 7
    entry = write_parquet(folder, "train-00000", (_row(n) for n in range(count)))
    assert entry.path == f"train-00000-{entry.sha256[:16]}.parquet"
    assert (entry.sha256, entry.bytes) == folder.sha256(entry.path)
    assert entry.rows == count
    with open_parquet(folder, entry.path) as file:
        assert [file.metadata.row_group(i).num_rows for i in range(3)] == [ROW_GROUP_ROWS, ROW_GROUP_ROWS, 7]
        image = file.metadata.row_group(0).column(SCHEMA.names.index("image"))
        assert image.statistics is None
        assert not image.has_dictionary_page
        assert image.compression == "UNCOMPRESSED"
        rows = file.read().to_pylist()
    assert rows == [_row(n) for n in range(count)]
    assert read_row_group(folder, entry.path, 2, ["label"]).num_rows == 7


def test_the_same_rows_give_the_same_bytes_however_they_arrive(tmp_path: Path) -> None:
    rows = [_row(n) for n in range(300)]
    first = write_parquet(Folder(str(tmp_path / "a")), "train-00000", rows)
    assert write_parquet(Folder(str(tmp_path / "b")), "train-00000", iter(rows)) == first


def test_a_failure_among_the_rows_publishes_nothing(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield _row(1)
        raise RuntimeError("a picture failed")

    with pytest.raises(RuntimeError, match="a picture failed"):
        write_parquet(Folder(str(tmp_path)), "train-00000", rows())
    assert list(Folder(str(tmp_path)).list(hidden=True)) == []


def test_another_schema_version_is_refused_by_number(tmp_path: Path) -> None:
    old = SCHEMA.with_metadata({b"telltale.schema_version": b"0"})
    pq.write_table(pa.Table.from_pylist([_row(1)], schema=old), tmp_path / "old.parquet")
    with pytest.raises(IntegrityError, match=r"old\.parquet: record schema version 0, this Telltale reads version 1"):
        read_row_group(Folder(str(tmp_path)), "old.parquet", 0)


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    entry = write_parquet(Folder(str(tmp_path)), "train-00000", [_row(1)])
    with pytest.raises(IntegrityError, match="column 'reason' is missing"):
        read_row_group(Folder(str(tmp_path)), entry.path, 0, schema=REJECT_SCHEMA)


@pytest.mark.parametrize("keep", [0, 3, 200, -5])
def test_a_cut_file_is_named(tmp_path: Path, keep: int) -> None:
    folder = Folder(str(tmp_path))
    entry = write_parquet(folder, "train-00000", [_row(n) for n in range(10)])
    folder.put(entry.path, folder.read(entry.path)[:keep])
    with pytest.raises(IntegrityError, match="train-00000"):
        read_row_group(folder, entry.path, 0)
