"""Every stage with s3: inputs and outputs, typed as a person would: the same bytes as on a disk."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage import Folder
from tests.runs import MANIFESTS, make_workflow, manifests, run
from tests.servers import BUCKET


def _copy(source: Path, target: Folder) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_file():
            target.put(path.relative_to(source).as_posix(), path.read_bytes())


def _run(command: list[str], **variables: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **variables})
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_whole_run_on_s3_gives_the_same_manifests_as_on_a_disk(s3: str, tmp_path: Path) -> None:
    workflow, local = make_workflow(tmp_path), tmp_path / "local"
    done = run(workflow, local)
    assert done.returncode == 0, done.stderr
    raw, lake = tmp_path / "raw pictures #1", f"s3://{BUCKET}/{tmp_path.name}"
    _copy(raw, Folder(f"{lake}/raw pictures #1"))
    raw.rename(tmp_path / "out of reach")  # so that nothing can come from the disk

    printed = run(workflow, tmp_path / "away", "--dry-run", "--set", f'input="{lake}/raw pictures #1"')
    cache = str(tmp_path / "cache")
    for line in printed.stdout.splitlines():
        words = [
            word if word.endswith("/logs") else word.replace(str(tmp_path / "away"), f"{lake}/run")
            for word in shlex.split(line)
        ]
        _run(words, TELLTALE_CACHE=cache)
        assert "up to date" in _run(words, TELLTALE_CACHE=cache)

    away = Folder(f"{lake}/run")
    assert {name: away.read(name) for name in MANIFESTS} == manifests(local)
    assert "all holds" in _run([sys.executable, "-m", "pipeline.verify", away.uri])

    away.put("dataset/_staging/left", b"x")
    away.put("shards/train-00000-0123456789abcdef.parquet", b"x")
    swept = _run([sys.executable, "-m", "pipeline.sweep", away.uri, "--delete"])
    assert "2 files removed" in swept
    assert "all holds" in _run([sys.executable, "-m", "pipeline.verify", away.uri])

    telltale = str(Path(sys.executable).with_name("telltale"))
    asked = [telltale, "predict", "--bundle", away.locate("model"), "--json", f"{lake}/raw pictures #1/ai"]
    assert _run(asked).count('"verdict"') == len(list(Folder(f"{lake}/raw pictures #1/ai").list()))


@pytest.mark.slow
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
