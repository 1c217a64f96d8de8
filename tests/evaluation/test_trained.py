"""A really trained network, instead of the stand-in: the same parity, from training to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import detection
from detection.cli import main as telltale
from evaluation.run import main
from pipeline.canonical import canonical_pixels
from tests.training.runs import make_run, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a small convolutional network, trained for one epoch, and its report."""
    folder = make_run(tmp_path_factory.mktemp("trained") / "run", {"train": 24, "val": 8, "test": 8, "ood": 4})
    assert train(folder, epochs=1) == 0
    main(["--bundle", str(folder / "model"), "--dataset", str(folder / "dataset"), "--output", str(folder / "report")])
    return folder


def test_predict_says_of_a_file_what_the_report_says_of_its_row(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row["path"]: row for row in pq.read_table(run / "report/scores.parquet").to_pylist()}
    assert telltale(["predict", "--json", "--bundle", str(run / "model"), str(run / "raw")]) == 0
    answers = {
        Path(answer["path"]).relative_to(run / "raw").as_posix(): answer
        for answer in map(json.loads, capsys.readouterr().out.splitlines())
    }
    assert len(rows) == 40
    for path, row in rows.items():
        assert answers[path]["ai_probability"] == pytest.approx(row["ai_probability"], abs=1e-6)
        assert answers[path]["verdict"] == row["verdict"]
    assert len({row["ai_probability"] for row in rows.values()}) > 30


def test_a_convolutional_network_scores_a_picture_the_same_in_any_company(run: Path) -> None:
    files = sorted((run / "raw/real").rglob("*.jpg"))[:7]
    one_core, two_cores = (detection.load(str(run / "model"), threads) for threads in (1, 2))
    setting = one_core.bundle.canonical
    pixels = np.stack([canonical_pixels(path.read_bytes(), setting) for path in files])
    together = one_core.probabilities(pixels)
    alone = np.concatenate([one_core.probabilities(pixels[i : i + 1]) for i in range(7)])
    assert np.array_equal(together, alone)
    assert np.array_equal(one_core.probabilities(pixels[::-1])[::-1], alone)
    assert np.max(np.abs(two_cores.probabilities(pixels) - alone)) < 1e-6


def test_the_report_names_the_parents_that_training_recorded(run: Path) -> None:
    chain = json.loads((run / "report/report.json").read_bytes())["chain"]
    assert chain["same_dataset"] is True
    assert chain["stats"] == json.loads((run / "stats.json").read_bytes())["sha256"]
    assert chain["shards"] == json.loads((run / "shards/manifest.json").read_bytes())["sha256"]
