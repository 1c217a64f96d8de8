"""The tables of `benchmarks.faces`."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks._common import without_folders
from benchmarks._resaved import TREATMENTS, resaved
from benchmarks.faces import cell, rows, sets_of

FIGURES: dict[str, Any] = {
    "n_real": 10,
    "n_ai": 0,
    "auc": None,
    "tpr_at_1pct_fpr": 0.5,
    "tpr_at_0_5pct_fpr": 0.25,
    "ci95": {"auc": None, "tpr_at_1pct_fpr": [0.4, 0.6], "tpr_at_0_5pct_fpr": None},
}


def test_a_figure_comes_with_its_interval_and_an_undefined_one_is_a_dash() -> None:
    assert [cell(FIGURES, name) for name in ("auc", "tpr_at_1pct_fpr", "tpr_at_0_5pct_fpr")] == [
        "–",
        "0.500 [0.400, 0.600]",
        "0.250",
    ]


def test_both_splits_come_first_and_every_source_has_a_row() -> None:
    report = {
        "splits": {"test": FIGURES, "ood": {**FIGURES, "n_ai": 3}},
        "by_source": {"z": {**FIGURES, "split": "ood"}, "a": {**FIGURES, "split": "test"}},
    }
    found = rows(sets_of(report), "plain")
    assert [row[0] for row in found] == ["test", "ood", "a (test)", "z (ood)"]
    assert {row[1] for row in found} == {"plain"}
    assert [row[3] for row in found] == ["0", "3", "0", "0"]
    assert {len(row) for row in found} == {7}


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_picture_saved_anew_is_another_file_of_the_size_that_is_promised(name: str) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = resaved(buffer.getvalue(), name)
    share = {"3/4": 0.75, "half": 0.5}.get(name.split()[0], 1.0)
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.size == (round(64 * share), round(48 * share))
        assert picture.format == {"WebP": "WEBP", "blurred": "PNG"}.get(name.split()[0], "JPEG")
        assert share < 1.0 or not np.array_equal(np.asarray(picture), pixels)


def test_where_files_lie_on_a_machine_stays_out_of_a_result() -> None:
    words = ["--input", "/data/my faces", "--set", "training.pretrained=/w/x.safetensors", "--runs", "runs/a", "--n=3"]
    assert [without_folders(word) for word in words] == [
        *("--input", "my faces", "--set", "training.pretrained=x.safetensors", "--runs", "runs/a", "--n=3")
    ]
