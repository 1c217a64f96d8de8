"""What killed attempts left is found and removed, and nothing else ever is."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.cli import run_command
from pipeline.sweep import main
from tests.training.runs import make_run

LEFT = (
    "_staging/0123",
    "dataset/_staging/4567",
    "dataset/train-00000-0123456789abcdef.parquet",
    "shards/train-00000-0123456789abcdef.parquet",
    "model/model.onnx",
)
"""Of a run without a bundle: the model's file belongs to no manifest."""

OTHERS = ("raw/ai/a.png", "raw/list.csv", "logs/metrics.jsonl", "notes.txt", "elsewhere/dataset/x.parquet", ".hidden")


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    """A dataset and shards beside their raw pictures, as on a lake, with what was left and what is the user's."""
    lake = make_run(tmp_path / "lake", {"train": 4, "val": 2})
    for name in (*LEFT, *OTHERS):
        (lake / name).parent.mkdir(parents=True, exist_ok=True)
        (lake / name).write_bytes(b"x")
    return lake


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_what_is_left_behind_is_listed(lake: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(lake)
    assert run_command(main, [str(lake)]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(LEFT)
    assert files(lake) == before


def test_only_that_is_removed(lake: Path) -> None:
    before = files(lake)
    assert run_command(main, [str(lake), "--delete"]) == 0
    assert files(lake) - {"logs/lock"} == before - set(LEFT)
