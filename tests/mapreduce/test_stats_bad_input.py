"""What goes wrong with statistics is said in one line, with the right exit code, and leaves nothing half-written."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mapreduce import stats
from mapreduce.stats_config import SECTION, StatsConfig
from pipeline.cli import run_command, show_config
from pipeline.manifest import canonical_json, seal
from tests.datasets import make_dataset

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A dataset whose training split has two parts."""
    make_dataset(tmp_path / "dataset", {"train": 12, "val": 2}, rows_per_part=12)
    return tmp_path / "dataset"


def command(*arguments: str, **options: Any) -> tuple[int, bytes, str]:
    done = subprocess.run([sys.executable, "-m", "mapreduce.stats", *arguments], capture_output=True, **options)
    return done.returncode, done.stdout, done.stderr.decode()


def inline(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(stats.main, ["-r", "inline", *arguments])
    printed = capfd.readouterr()
    return code, printed.out, printed.err


def part(dataset: Path) -> Path:
    return sorted(dataset.glob("train-00001-*.parquet"))[0]


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def reseal(dataset: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((dataset / "manifest.json").read_bytes())
    change(document)
    (dataset / "manifest.json").write_bytes(canonical_json(seal(document)))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "flipped": lambda path: flip(path, path.stat().st_size // 2),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_part_is_named(dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], damage: str) -> None:
    DAMAGE[damage](part(dataset))
    code, out, said = inline(capfd, str(dataset), "--output", str(tmp_path / "stats.json"))
    assert (code, out) == (1, "")
    assert part_name(dataset) in said
    assert "Make this stage again" in said
    assert "Traceback" not in said
    assert not (tmp_path / "stats.json").exists()


def part_name(dataset: Path) -> str:
    manifest = json.loads((dataset / "manifest.json").read_bytes())
    return str(next(entry["path"] for entry in manifest["files"] if entry["path"].startswith("train-00001-")))


@pytest.mark.parametrize("runner", ["local", pytest.param("spark", marks=pytest.mark.slow)])
def test_a_damaged_part_is_named_across_process_borders(dataset: Path, runner: str) -> None:
    flip(part(dataset), 500)
    code, out, said = command("-r", runner, str(dataset))
    assert (code, out) == (1, b"")
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert part(dataset).name in error
    assert "changed: sha256" in error
    assert "Traceback" not in said


def test_a_picture_that_does_not_decode_is_named(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The part's hash is right, so this dataset was written wrong."""
    import hashlib

    path = part(dataset)
    data = path.read_bytes()
    start = data.index(b"\xff\xd8\xff")
    path.write_bytes(data[:start] + b"\x00" + data[start + 1 :])

    def accept(document: dict[str, Any]) -> None:
        for entry in document["files"]:
            if entry["path"] == path.name:
                entry["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()

    reseal(dataset, accept)
    code, _, said = inline(capfd, str(dataset))
    assert code == 1
    assert f"{path.name}: row group 0, row 0: its picture does not decode" in said


def test_a_part_that_lacks_rows_is_noticed(dataset: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def exaggerate(document: dict[str, Any]) -> None:
        document["counts"]["splits"]["train"]["rows"] += 1
        next(entry for entry in document["files"] if entry["path"].startswith("train-"))["rows"] += 1

    reseal(dataset, exaggerate)
    code, _, said = inline(capfd, str(dataset))
    assert code == 1
    assert "25 pictures were handed out, but 24 counted" in said


MANIFESTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "flipped": (lambda path: flip(path, 300), "the file was changed"),
    "not JSON": (lambda path: path.write_bytes(b"{"), "not valid JSON"),
    "of shards": (
        lambda path: path.write_bytes(canonical_json(seal({"kind": "shards"}))),
        "not a Telltale dataset manifest",
    ),
    "missing": (lambda path: path.unlink(), "not a finished dataset"),
}


@pytest.mark.parametrize("case", MANIFESTS)
def test_a_manifest_that_cannot_be_trusted_is_refused(
    dataset: Path, capfd: pytest.CaptureFixture[str], case: str
) -> None:
    spoil, message = MANIFESTS[case]
    spoil(dataset / "manifest.json")
    code, out, said = inline(capfd, str(dataset))
    assert (code, out) == (2 if case == "missing" else 1, "")
    assert message in said
    assert str(dataset) in said


def test_another_schema_version_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_dataset(tmp_path / "old", {"train": 2}, changes={"schema_version": 99})
    code, _, said = inline(capfd, str(tmp_path / "old"))
    assert code == 1
    assert "record schema version 99, this Telltale reads version 1. Make the dataset again" in said


def test_an_empty_training_split_has_no_statistics(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_dataset(tmp_path / "empty", {"val": 2})
    code, _, said = inline(capfd, str(tmp_path / "empty"))
    assert code == 1
    assert "training split is empty" in said


def test_a_missing_input_is_bad_usage(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, said = inline(capfd, str(tmp_path / "nowhere"))
    assert code == 2
    assert "nowhere: no such file or folder" in said


def test_an_empty_folder_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "nothing").mkdir()
    code, _, said = inline(capfd, str(tmp_path / "nothing"))
    assert code == 1
    assert "no pictures there" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "row_group_per_task=3"], "did you mean 'row_groups_per_task'"),
        (["--set", "row_groups_per_task=0"], "row_groups_per_task"),
        (["--set", "row_groups_per_task"], "key.subkey=value"),
        (["--config", "nowhere.yaml"], "nowhere.yaml: no such configuration file"),
        (["--mrjob=--no-such-option"], "--mrjob: "),
        (["--mrjob", "'"], "--mrjob: "),
        (["--output", "ftp://bucket/stats.json"], "scheme 'ftp'"),
    ],
)
def test_bad_options_are_bad_usage(
    dataset: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    code, out, said = inline(capfd, str(dataset), *arguments)
    assert (code, out) == (2, "")
    assert message in said


@pytest.mark.parametrize("option", ["row_group_per_task=3", "canonical.geometry.size=33"])
def test_the_settings_can_be_checked_alone(capfd: pytest.CaptureFixture[str], option: str) -> None:
    assert show_config(StatsConfig, SECTION, ["--set", option]) == 2
    assert option.partition("=")[0] in capfd.readouterr().err
    assert show_config(StatsConfig, SECTION, []) == 0


@pytest.mark.parametrize("content", [b"", b"notes", canonical_json(seal({"kind": "shards"}))])
@pytest.mark.parametrize("option", [None, "--update"])
def test_a_foreign_output_is_refused(
    dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], content: bytes, option: str | None
) -> None:
    target = tmp_path / "stats.json"
    target.write_bytes(content)
    code, _, said = inline(capfd, str(dataset), "--output", str(target), *([option] if option else []))
    assert code == 1
    assert "give --overwrite to replace it" in said
    assert target.read_bytes() == content


def test_an_earlier_result_of_other_work_is_kept_unless_asked(
    dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    make_dataset(tmp_path / "other", {"train": 2})
    target = tmp_path / "stats.json"
    assert inline(capfd, str(tmp_path / "other"), "--output", str(target))[0] == 0
    before = target.read_bytes()
    code, _, said = inline(capfd, str(dataset), "--output", str(target))
    assert code == 1
    assert "holds the result of other work: 'parents' differs" in said
    assert target.read_bytes() == before


def test_a_folder_as_output_is_refused(dataset: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, _, said = inline(capfd, str(dataset), "--output", str(tmp_path), "--overwrite")
    assert code == 1
    assert "is a folder" in said
    assert dataset.is_dir()


def test_a_full_disk_publishes_nothing(dataset: Path, tiny_disk: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(1_000_000))
    with (tiny_disk / "more").open("wb", buffering=0) as more:  # up to the last byte
        try:
            while more.write(bytes(512)):
                pass
        except OSError:
            pass
    code, _, said = inline(capfd, str(dataset), "--output", str(tiny_disk / "stats.json"))
    assert code == 1
    assert "the disk is full. Free space and run the same command again" in said
    assert not (tiny_disk / "stats.json").exists()
    (tiny_disk / "ballast").unlink()
    assert inline(capfd, str(dataset), "--output", str(tiny_disk / "stats.json"))[0] == 0


@pytest.mark.parametrize(("runner", "size"), [("inline", 100), ("inline", 3000), ("local", 3000)])
def test_files_that_cannot_grow_are_one_line(dataset: Path, tmp_path: Path, runner: str, size: int) -> None:
    """The work list runs into the limit, or what the tasks write."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    code, _, said = command("-r", runner, str(dataset), "--output", str(tmp_path / "stats.json"), preexec_fn=limit)
    assert code == 1
    assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1
    assert "Traceback" not in said
    assert "defect" not in said
    assert not (tmp_path / "stats.json").exists()


def test_standard_output_that_is_full_is_said(dataset: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mapreduce.stats", "-r", "inline", str(dataset)], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert b"error: standard output: cannot write: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize(("java", "message"), [(None, "Java not found"), ('openjdk version "11.0.2"', "is Java 11")])
def test_spark_without_the_right_java_is_one_line(
    dataset: Path, tmp_path: Path, java: str | None, message: str
) -> None:
    if java:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "java").write_text(f"#!/bin/sh\necho '{java}' >&2\n")
        (tmp_path / "bin" / "java").chmod(0o755)
    code, out, said = command("-r", "spark", str(dataset), env={**os.environ, "JAVA_HOME": str(tmp_path)})
    assert (code, out) == (1, b"")
    assert message in said.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-r", "local", "--mrjob", "--python-bin /bin/false"], "the local job failed: a process returned non-zero"),
        (
            ["-r", "hadoop", "--mrjob", "--hadoop-bin no-such-hadoop"],
            "runner hadoop needs the program 'no-such-hadoop'",
        ),
        pytest.param(
            ["-r", "spark", "--mrjob", "--spark-master 'local[no number]'"],
            "the spark job failed: ",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_an_engine_that_fails_is_one_line(dataset: Path, options: list[str], message: str) -> None:
    code, out, said = command(*options, str(dataset))
    assert (code, out) == (1, b"")
    assert said.splitlines()[-1].startswith(f"error: {message}")
    assert "Traceback" not in said
    assert len(said.splitlines()) == 2


def test_a_missing_package_says_how_to_install_it(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "mrjob").mkdir()  # stands before the real one, as a place without it would
    (tmp_path / "mrjob" / "__init__.py").write_text("raise ModuleNotFoundError('No module', name='mrjob')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code, _, said = command("-r", "inline", str(dataset), env=environment, cwd=ROOT)
    assert code == 1
    assert "pip install 'telltale[hadoop]'" in said
