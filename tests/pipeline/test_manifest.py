"""Manifests: canonical, sealed, created last and once; an output folder is continued, kept or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import IntegrityError, OutputExistsError, StorageError
from pipeline.manifest import (
    SEAL,
    FileEntry,
    canonical_json,
    check_files,
    file_entries,
    output_state,
    publish,
    read_sealed,
    seal,
    unseal,
)
from pipeline.storage import Folder

BODY: dict[str, Any] = {"kind": "dataset", "stage_version": 1, "config": {"b": 1, "a": [1.5, None, "é"]}, "files": []}


def test_the_seal_does_not_depend_on_the_order_of_keys() -> None:
    assert seal(BODY) == seal(dict(reversed(list(BODY.items()))))
    assert canonical_json(seal(BODY)) == canonical_json(json.loads(canonical_json(seal(BODY))))


def test_every_flipped_byte_of_a_manifest_is_noticed() -> None:
    data = canonical_json(seal(BODY))
    assert unseal(data, "m", "dataset")[SEAL] == seal(BODY)[SEAL]
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1
        with pytest.raises(IntegrityError, match=r"here\.json"):
            unseal(bytes(changed), "here.json", "dataset")


@pytest.mark.parametrize("extra", [b" ", b"\n"])
def test_bytes_beside_the_canonical_ones_are_noticed(extra: bytes) -> None:
    with pytest.raises(IntegrityError):
        unseal(canonical_json(seal(BODY)) + extra, "m", "dataset")


def test_publishing_the_same_work_twice_is_success_and_other_work_is_refused(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    first = publish(folder, "manifest.json", BODY)
    assert publish(folder, "manifest.json", BODY) == first
    with pytest.raises(OutputExistsError):
        publish(folder, "manifest.json", {**BODY, "stage_version": 2})
    assert read_sealed(folder, "manifest.json", "dataset") == first


def test_a_missing_manifest_says_that_the_stage_did_not_finish(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="not a finished dataset"):
        read_sealed(Folder(str(tmp_path)), "manifest.json", "dataset")


def _publish_with_file(folder: Folder) -> dict[str, Any]:
    folder.put("part.parquet", b"rows")
    entry = FileEntry("part.parquet", 4, folder.sha256("part.parquet")[0], rows=1)
    return publish(folder, "manifest.json", {**BODY, "files": file_entries([entry])})


@pytest.mark.parametrize("damage", [b"rowz", b"rows+", None])
def test_a_changed_or_missing_data_file_is_named(tmp_path: Path, damage: bytes | None) -> None:
    folder = Folder(str(tmp_path))
    document = _publish_with_file(folder)
    check_files(folder, document)
    folder.remove("part.parquet") if damage is None else folder.put("part.parquet", damage)
    with pytest.raises(IntegrityError, match=r"part\.parquet"):
        check_files(folder, document)


def test_an_empty_or_unfinished_output_is_continued(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path / "out"))
    assert output_state(folder, "manifest.json", "dataset", {}, (".parquet",)) == "go"
    folder.put("train-00000-aa.parquet", b"half")
    folder.put("_staging/abc", b"half")
    assert output_state(folder, "manifest.json", "dataset", {}, (".parquet",)) == "go"
    assert folder.exists("train-00000-aa.parquet")


def test_the_same_work_is_done_and_other_work_is_refused_or_replaced(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    _publish_with_file(folder)
    same: dict[str, Any] = {"config": BODY["config"]}
    other: dict[str, Any] = {"config": {}}
    assert output_state(folder, "manifest.json", "dataset", same, (".parquet",)) == "done"
    with pytest.raises(OutputExistsError, match="'config' differs"):
        output_state(folder, "manifest.json", "dataset", other, (".parquet",))
    assert output_state(folder, "manifest.json", "dataset", other, (".parquet",), update=True) == "go"
    assert not folder.exists("manifest.json")


def test_a_damaged_result_is_refused_and_replaced_by_update(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    _publish_with_file(folder)
    folder.put("part.parquet", b"rowz")
    with pytest.raises(OutputExistsError, match="damaged"):
        output_state(folder, "manifest.json", "dataset", {}, (".parquet",))
    assert output_state(folder, "manifest.json", "dataset", {}, (".parquet",), update=True) == "go"


def test_foreign_files_are_refused_even_by_update(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.put("thesis.docx", b"mine")
    for update in (False, True):
        with pytest.raises(OutputExistsError, match=r"thesis\.docx"):
            output_state(folder, "manifest.json", "dataset", {}, (".parquet",), update=update)
    assert folder.read("thesis.docx") == b"mine"
    assert output_state(folder, "manifest.json", "dataset", {}, (".parquet",), overwrite=True) == "go"
    assert not folder.exists()


def test_update_refuses_foreign_files_beside_a_finished_result_too(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    _publish_with_file(folder)
    folder.put("thesis.docx", b"mine")
    with pytest.raises(OutputExistsError, match=r"'config' differs.*thesis\.docx"):
        output_state(folder, "manifest.json", "dataset", {"config": {}}, (".parquet",), update=True)
    assert folder.read("thesis.docx") == b"mine"
