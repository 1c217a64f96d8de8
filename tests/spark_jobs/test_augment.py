"""Augmentation by real Spark: the same shards whoever makes them, and nothing half-made ever published."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline import content
from pipeline.cli import run_command
from pipeline.decode import decode_canonical
from pipeline.manifest import check_files, leftovers, read_sealed
from pipeline.parquet import open_parquet
from pipeline.shards import make_shard, plan_shards
from pipeline.storage import Folder
from spark_jobs import augment
from tests.conftest import ROOT
from tests.datasets import make_dataset
from tests.runs import kill_tree
from tests.spark_jobs.conftest import set_property

VARIANTS = ("identity", "hflip", "vflip", "rot90", "rot180", "rot270", "transpose", "rotate15")
SETTINGS = ("--set", f"variants=[{', '.join(VARIANTS)}]")
SCRIPT = str(ROOT / "spark_jobs" / "augment.py")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset of two training parts in it, enough for three shards; its name is an awkward one."""
    folder = tmp_path_factory.mktemp("a place") / "50% of #1, 'größer'"
    make_dataset(folder / "dataset", {"train": 48, "val": 4, "test": 3, "ood": 2}, rows_per_part=50)
    return folder


@pytest.fixture(scope="module")
def shards(place: Path) -> Path:
    """The shards as `spark-submit --master local[2]` makes them."""
    outcome = _submit(place / "dataset", place / "shards", "--master", "local[2]")
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return place / "shards"


def _command(dataset: Path, output: Path, *options: str) -> list[str]:
    return ["spark-submit", *options, SCRIPT, "--input", str(dataset), "--output", str(output), *SETTINGS]


def _submit(dataset: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_command(dataset, output, *options), capture_output=True, text=True, check=False)


def _augment(dataset: Path, output: Path, *options: str) -> int:
    arguments = ["--input", str(dataset), "--output", str(output), *SETTINGS, *options]
    return run_command(augment.main, arguments)


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_bytes())


def test_manifest_accounts_for_every_row(place: Path, shards: Path) -> None:
    manifest, dataset = read_sealed(Folder(str(shards)), "manifest.json", "shards"), _read(place / "dataset")
    assert manifest["counts"] == {
        "rows": {"train": 96 * len(VARIANTS), "val": 8, "test": 6, "ood": 4},
        "pictures": {"train": 96, "val": 8, "test": 6, "ood": 4},
        "variants": list(VARIANTS),
    }
    assert manifest["parents"] == {"dataset": dataset["sha256"]}
    assert manifest["canonical"] == dataset["config"]["canonical"]
    assert sum(entry["rows"] for entry in manifest["files"]) == 96 * len(VARIANTS) + 18
    assert [entry["path"].rsplit("-", 1)[0] for entry in manifest["files"]] == [
        "ood-00000",
        "test-00000",
        *(f"train-{shard:05d}" for shard in range(3)),
        "val-00000",
    ]
    check_files(Folder(str(shards)), manifest)
    assert leftovers(Folder(str(shards)), [entry["path"] for entry in manifest["files"]]) == ["manifest.json"]


def test_content_hash_is_that_of_the_rows_as_read(shards: Path) -> None:
    folder, manifest = Folder(str(shards)), _read(shards)
    order = {"train": 0, "val": 1, "test": 2, "ood": 3}
    paths = sorted((e["path"] for e in manifest["files"]), key=lambda path: (order[path.split("-")[0]], path))
    parts = []
    for path in paths:
        with open_parquet(folder, path) as file:
            rows = file.read().to_pylist()
        parts.append(content.combine(content.row_digest(row, decode_canonical(row["image"])) for row in rows))
    assert manifest["content_sha256"] == content.combine(bytes.fromhex(part) for part in parts)


def test_shards_are_those_made_without_spark(place: Path, shards: Path, tmp_path: Path) -> None:
    plans = plan_shards(_read(place / "dataset"), VARIANTS, 256)
    made = [make_shard(Folder(str(place / "dataset")), Folder(str(tmp_path)), plan).file for plan in plans]
    found = {(entry["path"], entry["sha256"]) for entry in _read(shards)["files"]}
    assert {(file.path, file.sha256) for file in made if file} == found


@pytest.mark.parametrize(
    "properties",
    [
        {"spark.master": "local[1]"},
        {"spark.master": "local[4]"},
        {"spark.master": "local[2]", "spark.default.parallelism": "13", "spark.sql.shuffle.partitions": "3"},
    ],
    ids=lambda properties: " ".join(properties.values()),
)
def test_same_manifest_for_any_number_of_workers_and_partitions(
    place: Path, shards: Path, tmp_path: Path, properties: dict[str, str]
) -> None:
    for name, value in properties.items():
        set_property(name, value)
    try:
        assert _augment(place / "dataset", tmp_path / "again") == 0
    finally:
        for name in properties:
            set_property(name, None)
    assert (tmp_path / "again/manifest.json").read_bytes() == (shards / "manifest.json").read_bytes()


def test_after_a_kill_the_same_command_gives_the_same_manifest(
    place: Path, shards: Path, tmp_path: Path, master: None
) -> None:
    output = tmp_path / "killed"
    process = subprocess.Popen(
        _command(place / "dataset", output, "--master", "local[1]"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not list(output.glob("train-*")):
        time.sleep(0.005)
    kill_tree(process.pid)
    process.wait()
    assert list(output.glob("train-*")), "it never began"
    assert not (output / "manifest.json").exists(), "it was done before it was killed"
    assert _augment(place / "dataset", output) == 0
    assert (output / "manifest.json").read_bytes() == (shards / "manifest.json").read_bytes()
    named = {entry["path"] for entry in _read(output)["files"]}
    assert {path.name for path in output.glob("*.parquet")} == named


def test_done_work_is_left_alone(place: Path, shards: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in shards.iterdir()}
    assert _augment(place / "dataset", shards) == 0
    assert capsys.readouterr().err == f"{shards}: up to date\n"
    assert {path: path.stat().st_mtime_ns for path in shards.iterdir()} == before


def test_another_result_is_refused_and_replaced_only_when_told(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], master: None
) -> None:
    output = tmp_path / "shards"
    make_dataset(tmp_path / "dataset", {"train": 3})
    assert _augment(tmp_path / "dataset", output, "--set", "variants=[identity]") == 0
    first = _read(output)
    assert _augment(tmp_path / "dataset", output) == 1
    assert "'config' differs" in capsys.readouterr().err
    assert _augment(place / "dataset", output, "--set", "variants=[identity]") == 1
    assert "'parents' differs" in capsys.readouterr().err
    assert _read(output) == first
    assert _augment(tmp_path / "dataset", output, "--update") == 0
    assert _read(output)["counts"]["variants"] == list(VARIANTS)
    assert {path.name for path in output.glob("*.parquet")} == {entry["path"] for entry in _read(output)["files"]}


def test_foreign_files_in_the_output_are_refused(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "diary.txt").write_text("mine")
    for option in ([], ["--update"]):
        assert _augment(place / "dataset", tmp_path, *option) == 1
        assert "'diary.txt'" in capsys.readouterr().err
    assert (tmp_path / "diary.txt").read_text() == "mine"


@pytest.mark.parametrize("where", [".", "shards", ".."])
def test_an_output_that_overlaps_the_dataset_is_refused(
    tmp_path: Path, where: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "run/dataset", {"train": 2})
    before = sorted(tmp_path.rglob("*"))
    assert _augment(tmp_path / "run/dataset", tmp_path / "run/dataset" / where, "--overwrite") == 2
    assert "overlaps the dataset" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_shard_is_made_again(tmp_path: Path, master: None, capsys: pytest.CaptureFixture[str]) -> None:
    make_dataset(tmp_path / "dataset", {"train": 3})
    output = tmp_path / "shards"
    assert _augment(tmp_path / "dataset", output) == 0
    whole = (output / "manifest.json").read_bytes()
    shard = next(output.glob("train-*"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    assert _augment(tmp_path / "dataset", output) == 1
    assert shard.name in capsys.readouterr().err
    assert _augment(tmp_path / "dataset", output, "--update") == 0
    assert (output / "manifest.json").read_bytes() == whole
    check_files(Folder(str(output)), _read(output))


def test_a_corrupt_part_is_named_and_nothing_is_published(
    tmp_path: Path, master: None, capsys: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "dataset", {"train": 3, "val": 2})
    part = next(tmp_path.glob("dataset/val-*"))
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    assert _augment(tmp_path / "dataset", tmp_path / "shards") == 1
    error = capsys.readouterr().err
    assert part.name in error
    assert "Traceback" not in error
    assert not (tmp_path / "shards/manifest.json").exists()


def test_a_manifest_that_counts_other_rows_is_refused(
    tmp_path: Path, master: None, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = make_dataset(tmp_path / "first/dataset", {"train": 3})["counts"]
    counts["splits"]["train"]["rows"] += 1
    make_dataset(tmp_path / "dataset", {"train": 3}, changes={"counts": counts})
    assert _augment(tmp_path / "dataset", tmp_path / "shards") == 1
    assert "6 pictures and 48 rows came out, but the dataset's manifest says 7 pictures" in capsys.readouterr().err
    assert not (tmp_path / "shards/manifest.json").exists()


@pytest.mark.parametrize(
    ("pictures", "changes", "message"),
    [
        ({"train": 2}, {"schema_version": 99}, "record schema version 99"),
        ({"val": 2}, {}, "the training split is empty"),
        ({"train": 2}, {"kind": "shards"}, "not a Telltale dataset"),
    ],
)
def test_a_dataset_that_cannot_be_used_is_refused(
    tmp_path: Path,
    pictures: dict[str, int],
    changes: dict[str, Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_dataset(tmp_path / "dataset", pictures, changes=changes)
    assert _augment(tmp_path / "dataset", tmp_path / "shards") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "shards").exists()


def test_a_missing_dataset_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _augment(tmp_path / "nowhere", tmp_path / "shards") == 1
    assert "nowhere/manifest.json: missing" in capsys.readouterr().err


def test_a_wrong_variant_is_bad_usage(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert _augment(place / "dataset", tmp_path / "shards", "--set", "variants=[identity, hflop]") == 2
    assert "did you mean 'hflip'" in capsys.readouterr().err


def test_a_full_disk_is_named_and_the_same_command_continues(
    place: Path, shards: Path, tiny_disk: Path, capsys: pytest.CaptureFixture[str], master: None
) -> None:
    assert sum(path.stat().st_size for path in shards.iterdir()) > 1 << 20
    assert _augment(place / "dataset", tiny_disk / "shards") == 1
    error = capsys.readouterr().err
    assert "the disk is full" in error
    assert "Traceback" not in error
    assert not (tiny_disk / "shards/manifest.json").exists()
    subprocess.run(["mount", "-o", "remount,size=16m", str(tiny_disk)], check=True)
    assert _augment(place / "dataset", tiny_disk / "shards") == 0
    assert (tiny_disk / "shards/manifest.json").read_bytes() == (shards / "manifest.json").read_bytes()


def test_the_real_command_fails_with_one_line(tmp_path: Path) -> None:
    outcome = _submit(tmp_path / "nowhere", tmp_path / "shards", "--master", "local[1]")
    assert outcome.returncode == 1
    printed = outcome.stdout + outcome.stderr  # spark-submit passes a script's standard error on as standard output
    assert f"error: {tmp_path}/nowhere/manifest.json: missing" in printed
    assert "Traceback" not in printed


def test_without_java_the_message_says_what_to_install(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JAVA_HOME", os.fspath(tmp_path))
    assert _augment(place / "dataset", tmp_path / "shards") == 1
    assert "Install Java 17" in capsys.readouterr().err
