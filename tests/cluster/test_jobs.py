"""The users' own commands on real engines and HDFS: the same bytes as on one machine."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from cluster import Cluster
from pipeline.storage import Folder
from tests.cluster.carried import CLUSTER_MODE, SPARK
from tests.cluster.commands import run
from tests.cluster.lake import AUGMENT, INGEST, SETTINGS, Lake
from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(900)

ALWAYS, IN_FULL = pytest.mark.cluster, pytest.mark.cluster_full


@pytest.mark.parametrize(
    "runner",
    [pytest.param("hadoop", marks=ALWAYS), pytest.param("inline", marks=IN_FULL), pytest.param("spark", marks=IN_FULL)],
)
def test_statistics_over_hdfs_are_the_same_bytes(cluster: Cluster, lake: Lake, runner: str) -> None:
    command = (sys.executable, "-m", "mapreduce.stats", "-r", runner, f"{lake.hdfs}/dataset")
    assert run(cluster, *command, "--row-groups-per-task", "1", cwd=ROOT).encode() == lake.stats


@pytest.mark.parametrize(
    "master",
    [
        pytest.param("standalone", marks=IN_FULL),
        pytest.param("yarn client", marks=ALWAYS),
        pytest.param("yarn cluster", marks=IN_FULL),
    ],
)
def test_dataset_and_shards_over_hdfs_are_the_same_bytes(cluster: Cluster, lake: Lake, master: str) -> None:
    options = ["--master", cluster.spark_master] if master == "standalone" else ["--master", "yarn"]
    options += [*SPARK, *(CLUSTER_MODE if master == "yarn cluster" else ())]
    output = f"{lake.hdfs}/{master.replace(' ', '-')}"
    run(cluster, "spark-submit", *options, INGEST, "--input", lake.raw, "--output", f"{output}/dataset", *SETTINGS)
    assert Folder(f"{output}/dataset").read("manifest.json") == (lake.dataset / "manifest.json").read_bytes()
    run(cluster, "spark-submit", *options, AUGMENT, "--input", f"{output}/dataset", "--output", f"{output}/shards")
    assert Folder(f"{output}/shards").read("manifest.json") == (lake.shards / "manifest.json").read_bytes()


@IN_FULL
def test_an_archive_in_hdfs_is_ingested_on_yarn_to_the_same_bytes(cluster: Cluster, lake: Lake, tmp_path: Path) -> None:
    raw, loose = tmp_path / "packed", lake.dataset.parent / "raw größer #1"
    for source in loose.glob("*/*"):
        place = raw / source.relative_to(loose)
        place.mkdir(parents=True)
        with tarfile.open(place / "0.tar", "w") as archive:
            archive.add(source, "pictures")
    here = ["spark-submit", "--master", "local[2]", INGEST, "--input", str(raw), "--output", str(tmp_path / "dataset")]
    run(cluster, *here, *SETTINGS, cwd=ROOT)
    run(cluster, "hdfs", "dfs", "-put", "packed", f"{lake.hdfs}/packed", cwd=tmp_path)
    there = ["--input", f"{lake.hdfs}/packed", "--output", f"{lake.hdfs}/packed-dataset"]
    run(cluster, "spark-submit", "--master", "yarn", *SPARK, INGEST, *there, *SETTINGS, cwd=ROOT)
    assert (
        Folder(f"{lake.hdfs}/packed-dataset").read("manifest.json")
        == (tmp_path / "dataset" / "manifest.json").read_bytes()
    )


@IN_FULL
def test_a_task_without_libraries_fails_with_one_readable_line(cluster: Cluster, lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "empty.tar.gz").write_bytes(_empty_archive())
    done = subprocess.run(
        [sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", f"{lake.hdfs}/dataset"],
        cwd=ROOT,
        env={**cluster.environment(), "TELLTALE_WORKER": str(tmp_path / "empty.tar.gz")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "ModuleNotFoundError: No module named 'mrjob'" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


@IN_FULL
def test_the_counters_reach_the_terminal(cluster: Cluster, lake: Lake) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mapreduce.stats", "-r", "hadoop", f"{lake.hdfs}/dataset"],
        cwd=ROOT, env=cluster.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    rows = json.loads((lake.dataset / "manifest.json").read_bytes())["counts"]["splits"]["train"]["rows"]
    assert f"counters: pictures {rows}," in done.stderr
    assert "the job: http" in done.stderr


def _empty_archive() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz"):
        pass
    return buffer.getvalue()
