"""Training and evaluation from HDFS: the bytes of a run on a disk."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cluster import Cluster
from pipeline.storage import Folder
from tests.cluster.commands import run
from tests.conftest import ROOT
from tests.training.runs import make_run, sets

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

RESULTS = ("model/bundle.json", "model/model.safetensors", "report/report.json")


def test_a_bundle_and_its_report_are_the_same_bytes(cluster: Cluster, tmp_path: Path) -> None:
    local = make_run(tmp_path / "run", {"train": 12, "val": 6, "test": 6})
    lake = f"{cluster.default_fs}/tmp/trained"
    run(cluster, "hdfs", "dfs", "-mkdir", "-p", lake)
    run(cluster, "hdfs", "dfs", "-put", "dataset", "shards", "stats.json", lake, cwd=local)
    for place, logs in ((str(local), tmp_path / "logs"), (lake, tmp_path / "logs of the lake")):
        shards = ["--shards", f"{place}/shards", "--stats", f"{place}/stats.json"]
        model = ["--output", f"{place}/model", "--logs", str(logs)]
        _python(cluster, "training.run", *shards, *model, *sets(epochs=1))
        bundle = ["--bundle", f"{place}/model", "--dataset", f"{place}/dataset"]
        _python(cluster, "evaluation.run", *bundle, "--output", f"{place}/report", "--set", "bootstrap_samples=100")
    for name in RESULTS:
        assert Folder(lake).read(name) == (local / name).read_bytes()


def _python(cluster: Cluster, module: str, *options: str) -> None:
    run(cluster, sys.executable, "-m", module, *options, cwd=ROOT)
