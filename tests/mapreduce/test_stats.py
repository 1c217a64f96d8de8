"""The statistics of a dataset: what stats.json says, and that nothing about how it was computed shows in it."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce import stats
from mapreduce.runners import run_job
from mapreduce.stats import Results
from mapreduce.stats_config import StatsConfig
from mapreduce.stats_units import find_work
from pipeline.decode import decode_canonical
from pipeline.manifest import SEAL, canonical_json, file_entries, read_sealed, seal, unseal
from pipeline.parquet import open_parquet, write_parquet
from pipeline.statistics import summarise
from pipeline.storage import Folder
from tests.datasets import make_dataset

SOURCES = {"real": ("canon", "nikon"), "ai": ("gan", "vae")}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """600 training pictures of four sources, in three parts of two or so row groups; and others, which do not count."""
    folder = tmp_path_factory.mktemp("stats") / "dataset"
    make_dataset(folder, {"train": 440, "val": 4, "ood": 2}, sources=SOURCES, rows_per_part=300)
    return folder


@pytest.fixture(scope="module")
def expected(dataset: Path) -> bytes:
    """The bytes of the dataset's stats.json, by the inline runner."""
    target = dataset.parent / "expected.json"
    stats.main(["-r", "inline", str(dataset), "--output", str(target)])
    return target.read_bytes()


def run(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "mapreduce.stats", *arguments], capture_output=True, **options)


def training_pixels(folder: Path, wanted: Callable[[dict[str, Any]], bool] = lambda row: True) -> Any:
    """All pixels of the training split in [0, 1], float64 (N, 3), read without any of the code under test."""
    pixels = []
    for part in sorted(folder.glob("train-*.parquet")):
        with open_parquet(Folder(str(folder)), part.name) as file:
            rows = file.read().to_pylist()
        pixels += [decode_canonical(row["image"]).reshape(-1, 3) for row in rows if wanted(row)]
    return np.concatenate(pixels).astype(np.float64) / 255


def test_statistics_equal_numpys_float64_over_all_pixels(dataset: Path, expected: bytes) -> None:
    found = json.loads(expected)
    pixels = training_pixels(dataset)
    assert found["mean"] == pytest.approx(pixels.mean(axis=0).tolist(), abs=1e-12)
    assert found["std"] == pytest.approx(pixels.std(axis=0).tolist(), abs=1e-12)
    assert (found["pictures"], found["pixels"]) == (880, len(pixels))


@pytest.mark.parametrize(
    ("group", "name", "column", "value"),
    [("by_label", "real", "label", 0), ("by_label", "ai", "label", 1), ("by_source", "nikon", "source", "nikon")],
)
def test_statistics_of_a_label_and_a_source(
    dataset: Path, expected: bytes, group: str, name: str, column: str, value: Any
) -> None:
    found = json.loads(expected)[group][name]
    pixels = training_pixels(dataset, lambda row: bool(row[column] == value))
    assert found["mean"] == pytest.approx(pixels.mean(axis=0).tolist(), abs=1e-12)
    assert found["std"] == pytest.approx(pixels.std(axis=0).tolist(), abs=1e-12)
    assert found["pixels"] == len(pixels)


def test_the_document_is_sealed_and_names_its_parent(dataset: Path, expected: bytes) -> None:
    document = unseal(expected, "stats.json", "stats")
    assert document["parents"] == {"dataset": read_sealed(Folder(str(dataset)), "manifest.json", "dataset")[SEAL]}
    assert sorted(document["by_source"]) == ["canon", "gan", "nikon", "vae"]
    assert np.array(document["histogram"]).sum(axis=1).tolist() == [document["pixels"]] * 3
    assert document["config"] == {}


@pytest.mark.parametrize(
    ("runner", "per_task"), [("local", "1"), ("local", "64"), pytest.param("spark", "1", marks=pytest.mark.slow)]
)
def test_any_runner_and_split_size_print_the_same_bytes_and_only_them(
    dataset: Path, expected: bytes, runner: str, per_task: str
) -> None:
    done = run(["-r", runner, str(dataset), "--row-groups-per-task", per_task])
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == expected
    assert b"counters: pictures 880, pixels 901,120, rejects 0, bytes " in done.stderr
    assert len(done.stderr.splitlines()) == 2  # what is done, and the counters: mrjob and Spark keep quiet


@pytest.mark.parametrize("per_task", [1, 2, 1000])
@pytest.mark.parametrize("tasks", [1, 3, 16])
def test_any_order_and_number_of_tasks_give_the_same_sums(
    dataset: Path, expected: bytes, per_task: int, tasks: int
) -> None:
    lines = list(find_work(str(dataset), StatsConfig(row_groups_per_task=per_task)).lines)
    random.Random(tasks).shuffle(lines)
    results = Results()
    run_job(stats._load_job, lines, "inline", ["--num-cores", str(tasks)], results.take)
    found = summarise(results.tallies)
    assert found == {key: value for key, value in json.loads(expected).items() if key in found}


def test_counters_agree_with_what_was_counted(dataset: Path, expected: bytes) -> None:
    lines = find_work(str(dataset), StatsConfig()).lines
    counters = run_job(stats._load_job, lines, "inline", [], Results().take)
    document = json.loads(expected)
    assert {name: counters[name] for name in ("pictures", "pixels")} == {
        name: document[name] for name in ("pictures", "pixels")
    }
    with open_parquet(Folder(str(dataset)), next(dataset.glob("train-00000-*")).name) as file:
        assert counters["bytes"] > sum(len(row["image"]) for row in file.read(columns=["image"]).to_pylist())


def test_a_class_may_be_missing(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    manifest = make_dataset(tmp_path, {"train": 3})
    folder, (part,) = Folder(str(tmp_path)), [entry for entry in manifest["files"] if entry["rows"]]
    with open_parquet(folder, part["path"]) as file:
        real = [row for row in file.read().to_pylist() if row["label"] == 0]
    manifest["files"] = file_entries([write_parquet(folder, "train-00000", real)])
    manifest["counts"]["splits"]["train"]["rows"] = 3
    folder.put("manifest.json", canonical_json(seal(manifest)))
    stats.main(["-r", "inline", str(tmp_path)])
    assert list(json.loads(capsysbinary.readouterr().out)["by_label"]) == ["real"]


def test_the_same_work_is_done_once(
    dataset: Path, expected: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "runs" / "x" / "stats.json"
    command = ["-r", "inline", str(dataset), "--output", str(target)]
    stats.main(command)
    before = target.stat()
    stats.main(command)
    assert "up to date" in capsys.readouterr().err
    after = target.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert target.read_bytes() == expected
    assert [path.name for path in target.parent.iterdir()] == ["stats.json"]


@pytest.mark.parametrize("option", ["--update", "--overwrite"])
@pytest.mark.parametrize("change", ["other work", "damaged"])
def test_an_earlier_result_is_replaced_when_asked(
    dataset: Path, expected: bytes, tmp_path: Path, option: str, change: str
) -> None:
    target = tmp_path / "stats.json"
    if change == "damaged":
        target.write_bytes(expected.replace(b'"pictures":880', b'"pictures":881'))
    else:
        make_dataset(tmp_path / "other", {"train": 2})
        stats.main(["-r", "inline", str(tmp_path / "other"), "--output", str(target)])
    stats.main(["-r", "inline", str(dataset), "--output", str(target), option])
    assert target.read_bytes() == expected


AWKWARD = ["a b", "x#y%20z", 'it\'s "quoted"', "line\nbreak", "été-図", "{a,b}*[c]?"]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_folder_names_work(tmp_path: Path, name: str) -> None:
    manifest = make_dataset(tmp_path / name / "dataset", {"train": 3})
    target = tmp_path / name / f"{name}.json"
    stats.main(["-r", "inline", str(tmp_path / name / "dataset"), "--output", str(target)])
    assert json.loads(target.read_bytes())["parents"] == {"dataset": manifest[SEAL]}


@pytest.mark.parametrize("runner", ["inline", "local", pytest.param("spark", marks=pytest.mark.slow)])
def test_awkward_names_cross_process_borders_and_no_temporary_file_is_left(tmp_path: Path, runner: str) -> None:
    folder, temporary = tmp_path / "".join(AWKWARD), tmp_path / "for now"
    manifest = make_dataset(folder, {"train": 3})
    temporary.mkdir()
    done = run(["-r", runner, str(folder)], env={**os.environ, "TMPDIR": str(temporary)})
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["parents"] == {"dataset": manifest[SEAL]}
    assert [path for path in temporary.iterdir() if not path.name.startswith("hsperfdata")] == []


def test_a_file_uri_names_the_same_dataset(dataset: Path, expected: bytes, tmp_path: Path) -> None:
    stats.main(["-r", "inline", dataset.as_uri(), "--output", (tmp_path / "stats.json").as_uri()])
    assert (tmp_path / "stats.json").read_bytes() == expected


def test_a_relative_path_works_from_any_folder(
    dataset: Path, expected: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset.parent)
    stats.main(["-r", "inline", dataset.name, "--output", "relative.json"])
    assert (dataset.parent / "relative.json").read_bytes() == expected


def test_mrjobs_own_configuration_is_not_read(dataset: Path, expected: bytes, tmp_path: Path) -> None:
    (tmp_path / ".mrjob.conf").write_text("runners: {inline: {no_such_option: 1}, local: {python_bin: /bin/false}}")
    environment = {"HOME": str(tmp_path), "MRJOB_CONF": str(tmp_path / ".mrjob.conf"), "PATH": "/usr/bin:/bin"}
    done = run(["-r", "local", str(dataset)], env=environment, cwd=Path(__file__).parents[2])
    assert done.stdout == expected, done.stderr.decode()
