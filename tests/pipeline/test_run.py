"""The whole way by `pipeline.run`, on a disk and on S3: every promise about the chain, on real engines."""

from __future__ import annotations

import fcntl
import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.cli import run_command
from pipeline.storage import Folder
from pipeline.verify import CHAIN
from pipeline.verify import main as verify_command
from tests.runs import MANIFESTS, make_workflow, manifests, run, run_command_line, run_killed
from tests.servers import BUCKET

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def workflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_workflow(tmp_path_factory.mktemp("whole way"))


@pytest.fixture(scope="module")
def finished(workflow: Path) -> tuple[Path, float]:
    """A run that nothing disturbed, and the seconds it took."""
    started, run_dir = time.monotonic(), workflow.parent / "run"
    outcome = run(workflow, run_dir)
    assert outcome.returncode == 0, outcome.stderr
    return run_dir, time.monotonic() - started


def _printed(command: list[str], **variables: str) -> str:
    """What a command that ends well says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def _verified(run_dir: str) -> str:
    return _printed([sys.executable, "-m", "pipeline.verify", run_dir])


def test_a_run_leaves_its_folders_and_a_chain_that_holds(finished: tuple[Path, float]) -> None:
    run_dir, _ = finished
    assert {path.name for path in run_dir.iterdir()} == {"dataset", "stats.json", "shards", "model", "report", "logs"}
    assert [line.split()[:2] for line in _verified(str(run_dir)).splitlines()[:-1]] == [
        *(["ok", link.kind] for link in CHAIN),
        ["ok", "raw"],
    ]
    swept = subprocess.run(
        [sys.executable, "-m", "pipeline.sweep", str(run_dir)], capture_output=True, text=True, check=False
    )
    assert (swept.returncode, swept.stdout) == (0, "")


def test_nothing_vanishes_on_the_way(finished: tuple[Path, float]) -> None:
    run_dir, _ = finished
    counts = json.loads((run_dir / "dataset/manifest.json").read_bytes())["counts"]
    assert counts["files"] == counts["rows"] + counts["duplicates"] + counts["rejected"] == 92
    rows = json.loads((run_dir / "shards/manifest.json").read_bytes())["counts"]["rows"]
    splits = {name: split["rows"] for name, split in counts["splits"].items()}
    assert rows == {**splits, "train": 4 * splits["train"]}


def test_no_manifest_holds_a_path_a_host_or_a_time(finished: tuple[Path, float], workflow: Path) -> None:
    run_dir, _ = finished
    for name in MANIFESTS:
        text = (run_dir / name).read_text()
        assert str(workflow.parent) not in text
        assert os.uname().nodename not in text
    onnx = (run_dir / "model/model.onnx").read_bytes()
    assert b"site-packages" not in onnx
    assert str(Path(sys.prefix).parent).encode() not in onnx


def test_a_second_run_does_nothing(finished: tuple[Path, float], workflow: Path) -> None:
    run_dir, _ = finished
    before = {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if "logs" not in path.parts}
    outcome = run(workflow, run_dir)
    assert outcome.returncode == 0, outcome.stderr
    assert {path: path.stat().st_mtime_ns for path in run_dir.rglob("*") if "logs" not in path.parts} == before


def _flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def test_one_flipped_byte_in_any_file_is_named(
    finished: tuple[Path, float], workflow: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every file of the run outside logs/, and raw pictures of each source: first, last and a random byte."""
    run_dir, _ = finished
    raw = [min(folder.iterdir()) for folder in (workflow.parent / "raw pictures #1").glob("*/*")]
    files = [path for path in sorted(run_dir.rglob("*")) if path.is_file() and "logs" not in path.parts]
    assert {path.suffix for path in files} >= {".parquet", ".json", ".onnx", ".safetensors", ".html"}
    draw = random.Random(0)
    for path in files + raw:
        original = path.read_bytes()
        for position in (0, len(original) - 1, draw.randrange(len(original))):
            _flip(path, position)
            code = run_command(verify_command, [str(run_dir)])
            path.write_bytes(original)
            said = capsys.readouterr().out
            assert code == 1, f"{path} at {position}: {said}"
            assert path.name in said, f"{path} at {position}: {said}"
    _verified(str(run_dir))


def _killed_and_run_again(workflow: Path, finished: tuple[Path, float], run_dir: Path, *shares: float) -> int:
    """Kill a run after shares of the undisturbed run's time, run it to its end; returns how often it was at work."""
    undisturbed, seconds = finished
    killed = sum(run_killed(workflow, run_dir, share * seconds) for share in shares)
    outcome, told = run(workflow, run_dir), f"killed after {shares} of {seconds:.1f} s"
    assert outcome.returncode == 0, f"{told}: {outcome.stderr}"
    assert manifests(run_dir) == manifests(undisturbed), told
    print(f"{told}: the same manifests")
    return killed


def test_a_run_killed_twice_ends_with_the_same_manifests(
    workflow: Path, finished: tuple[Path, float], tmp_path: Path
) -> None:
    """At a random moment of its first half, and after that of what was left."""
    first = random.uniform(0.0, 0.45)
    shares = (first, random.uniform(0.0, 0.9 - first))
    # A second that finds it finished is no harm: the machine was busier when the time was taken.
    assert _killed_and_run_again(workflow, finished, tmp_path / "run", *shares) >= 1


@pytest.mark.kill_full
def test_twenty_killed_runs_end_with_the_same_manifests(
    workflow: Path, finished: tuple[Path, float], tmp_path: Path
) -> None:
    """Random moments, one in each of so many equal parts of the undisturbed run's time, so that all stages are hit."""
    shares = [0.9 * (number + random.random()) / 20 for number in range(20)]
    killed = [
        _killed_and_run_again(workflow, finished, tmp_path / f"run {number}", share)
        for number, share in enumerate(shares, 1)
    ]
    assert sum(killed) >= 10  # the others had finished: the machine was busier when the time was taken


def test_a_changed_setting_redoes_what_depends_on_it_and_no_more(workflow: Path, finished: tuple[Path, float]) -> None:
    run_dir, _ = finished
    before = manifests(run_dir)
    outcome = run(workflow, run_dir, "--set", "evaluation.bootstrap_samples=110")
    assert outcome.returncode == 0, outcome.stderr
    after = manifests(run_dir)
    assert [name for name in MANIFESTS if before[name] != after[name]] == ["report/report.json"]
    assert run(workflow, run_dir).returncode == 0
    assert manifests(run_dir) == before


def test_two_runs_at_once_in_one_folder_are_refused(workflow: Path, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    with (tmp_path / "logs" / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = run(workflow, tmp_path)
    assert outcome.returncode == 2
    assert "another pipeline.run is at work there" in outcome.stderr


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("training.epoch=1", "did you mean 'epochs'"),
        ("ingest.split.fraction=1", "did you mean 'split.fractions'"),
        ("augment.variants=[identity, flop]", "flop"),
        ("evaluation.bootstrap_samples=many", "bootstrap_samples"),
        ("train.epochs=1", "unknown key 'train'"),
        ("training=1", "name a key of the section"),
    ],
)
def test_a_wrong_setting_is_refused_before_any_work(workflow: Path, tmp_path: Path, item: str, message: str) -> None:
    outcome = run(workflow, tmp_path / "run", "--set", item)
    assert outcome.returncode == 2, outcome.stderr
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not (tmp_path / "run").exists()


def test_an_environment_in_a_folder_with_a_blank_works(workflow: Path, tmp_path: Path) -> None:
    home = tmp_path / "my programs" / "env"
    home.parent.mkdir()
    home.symlink_to(sys.prefix)
    _, *words = run_command_line(workflow, tmp_path / "run", "--until", "ingest")
    environment = {**os.environ, "PATH": f"{home}/bin{os.pathsep}{os.environ['PATH']}"}
    outcome = subprocess.run(
        [f"{home}/bin/python", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert outcome.returncode == 0, outcome.stderr
    assert (tmp_path / "run/dataset/manifest.json").is_file()


@pytest.mark.parametrize(("version", "message"), [(None, "Java not found"), ("11.0.2", "Java 11")])
def test_missing_and_old_java_are_told_plainly(
    workflow: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, message: str
) -> None:
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    if version:
        java.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
        java.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    outcome = run(workflow, tmp_path / "run")
    assert outcome.returncode == 1
    assert message in outcome.stderr
    assert "openjdk-17" in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_the_commands_are_shown_without_running_any(workflow: Path, tmp_path: Path) -> None:
    outcome = run(workflow, tmp_path / "run", "--dry-run")
    assert outcome.returncode == 0
    assert [
        word
        for word in ("ingest.py", "mapreduce.stats", "augment.py", "training.run", "evaluation.run")
        if word in outcome.stdout
    ]
    assert not (tmp_path / "run").exists()


@contextmanager
def _out_of_reach(folder: Path) -> Iterator[None]:
    away = folder.rename(folder.with_name("out of reach"))
    try:
        yield
    finally:
        away.rename(folder)


@pytest.mark.timeout(600)
def test_a_whole_run_on_s3_gives_the_same_manifests_as_on_a_disk(
    s3: str, workflow: Path, finished: tuple[Path, float], tmp_path: Path
) -> None:
    """Every stage with s3: inputs and outputs, typed as a person would."""
    local, raw, lake = finished[0], workflow.parent / "raw pictures #1", f"s3://{BUCKET}/{tmp_path.name}"
    pictures = Folder(f"{lake}/raw pictures #1")
    for path in sorted(path for path in raw.rglob("*") if path.is_file()):
        pictures.put(path.relative_to(raw).as_posix(), path.read_bytes())

    away, run_dir = Folder(f"{lake}/run"), tmp_path / "away"
    printed = run(workflow, run_dir, "--dry-run", "--set", f'input="{pictures.uri}"').stdout
    with _out_of_reach(raw):  # so that nothing can come from the disk
        for line in printed.splitlines():
            line = line.replace(str(run_dir / "logs"), str(tmp_path / "logs")).replace(str(run_dir), away.uri)
            _printed(shlex.split(line), TELLTALE_CACHE=str(tmp_path / "cache"))
            assert "up to date" in _printed(shlex.split(line), TELLTALE_CACHE=str(tmp_path / "cache"))
    assert {name: away.read(name) for name in MANIFESTS} == manifests(local)
    assert "all holds" in _verified(away.uri)

    away.put("dataset/_staging/left", b"x")
    away.put("shards/train-00000-0123456789abcdef.parquet", b"x")
    assert "2 files removed" in _printed([sys.executable, "-m", "pipeline.sweep", away.uri, "--delete"])
    assert "all holds" in _verified(away.uri)

    telltale = str(Path(sys.executable).with_name("telltale"))
    asked = [telltale, "predict", "--bundle", away.locate("model"), "--json", f"{pictures.uri}/ai"]
    assert _printed(asked).count('"verdict"') == len(list(Folder(f"{pictures.uri}/ai").list()))


@pytest.mark.timeout(300)
def test_a_store_that_is_down_fails_a_stage_and_rejects_nothing(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    words = ["spark-submit", "--master", "local[1]", "spark_jobs/ingest.py"]
    words += ["--input", f"s3://{BUCKET}/x", "--output", str(tmp_path / "dataset")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    told = done.stdout + done.stderr  # spark-submit sends both of Python's to its own standard output
    assert "the store does not answer" in told
    assert "Traceback" not in told
    assert not (tmp_path / "dataset").exists()
