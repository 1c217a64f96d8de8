"""What training refuses to read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import DataError, IntegrityError, TelltaleError, UsageError
from tests.training.runs import make_run, make_stats, publish_shards
from training.inputs import Inputs, read_inputs


def read(run: Path, check: bool = True) -> Inputs:
    return read_inputs(str(run / "shards"), str(run / "stats.json"), check)


def change_manifest(run: Path, keep: Callable[[dict[str, Any]], bool] = bool, **changes: Any) -> None:
    path = run / "shards" / "manifest.json"
    document = json.loads(path.read_bytes())
    path.unlink()
    publish_shards(run, document["parents"]["dataset"], [], document["canonical"])
    body = {**json.loads(path.read_bytes()), "files": [f for f in document["files"] if keep(f)], **changes}
    from pipeline.manifest import publish
    from pipeline.storage import Folder

    publish(Folder(str(run / "shards")), "manifest.json", body, overwrite=True)


def test_inputs_say_what_they_are(prepared: Path) -> None:
    inputs = read(prepared)
    manifest = json.loads((prepared / "shards" / "manifest.json").read_bytes())
    assert (inputs.shards, inputs.dataset) == (manifest["sha256"], manifest["parents"]["dataset"])
    assert (inputs.train.rows, inputs.val.rows) == (160, 34)
    assert inputs.train.labels == {"real": 80, "ai": 80}
    assert inputs.canonical.geometry.size == 32


def test_stats_of_another_dataset_are_refused_with_both_hashes(fresh: Path) -> None:
    make_stats(fresh, "f" * 64)
    with pytest.raises(IntegrityError) as caught:
        read(fresh)
    dataset = json.loads((fresh / "dataset" / "manifest.json").read_bytes())["sha256"]
    assert "f" * 64 in str(caught.value)
    assert dataset in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "message"),
    [
        ({"val": 4}, "train split is empty"),
        ({"train": 4}, "val split is empty"),
    ],
)
def test_an_empty_split_is_refused(tmp_path: Path, pictures: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(make_run(tmp_path / "run", pictures))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_only_is_refused(tmp_path: Path, split: str, label: int) -> None:
    run = make_run(tmp_path / "run", {"train": 3, "val": 3}, only={split: label})
    with pytest.raises(DataError, match=rf"the {split} split has no {('real', 'ai')[1 - label]} picture"):
        read(run)


@pytest.mark.parametrize("missing", ["shards/manifest.json", "stats.json"])
def test_what_is_not_there_is_named_with_the_command_that_makes_it(fresh: Path, missing: str) -> None:
    (fresh / missing).unlink()
    with pytest.raises(UsageError, match=r"Run (spark_jobs/augment.py|python -m mapreduce.stats) first"):
        read(fresh)


@pytest.mark.parametrize("name", ["train-00000", "val-00000"])
def test_a_changed_byte_names_its_file(fresh: Path, name: str, flip_byte: Callable[[Path, int], None]) -> None:
    (path,) = (fresh / "shards").glob(f"{name}-*")
    flip_byte(path, path.stat().st_size // 2)
    with pytest.raises(IntegrityError, match=path.name):
        read(fresh)


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_a_cut_or_missing_shard_names_its_file(fresh: Path, check: bool, damage: str) -> None:
    (path,) = (fresh / "shards").glob("train-00001-*")
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-1])
    else:
        path.unlink()
    with pytest.raises(IntegrityError, match=path.name):
        read(fresh, check)


@pytest.mark.parametrize("name", ["shards/manifest.json", "stats.json"])
def test_a_changed_manifest_is_refused(fresh: Path, name: str, flip_byte: Callable[[Path, int], None]) -> None:
    flip_byte(fresh / name, 30)
    with pytest.raises(IntegrityError, match=Path(name).name):
        read(fresh)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 99}, "record schema version 99"),
        ({"canonical": {"geometry": {"sise": 32}}}, "did you mean 'geometry.size'"),
    ],
)
def test_shards_of_another_version_are_refused(fresh: Path, changes: dict[str, Any], message: str) -> None:
    change_manifest(fresh, **changes)
    with pytest.raises(TelltaleError, match=message):
        read(fresh)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"std": [0.1, 0.0, 0.1]}, "standard deviation is zero"),
        ({"mean": [0.1]}, "'mean' does not hold three numbers"),
        ({"std": None}, "'std' does not hold three numbers"),
    ],
)
def test_statistics_that_cannot_normalise_are_refused(fresh: Path, changes: dict[str, Any], message: str) -> None:
    dataset = json.loads((fresh / "dataset" / "manifest.json").read_bytes())["sha256"]
    make_stats(fresh, dataset, **changes)
    with pytest.raises(TelltaleError, match=message):
        read(fresh)
