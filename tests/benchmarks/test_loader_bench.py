"""What the benchmark of loaders concludes from its runs, and the shards and the resume that it measures."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks._loader_contenders import BATCH, LOADERS, OURS, rows_of
from benchmarks._loader_figures import best_other, of_reference, orders
from benchmarks._loader_job import digest, marks_of
from benchmarks._loader_resume import resume
from benchmarks._train_shards import Plan, make_run
from benchmarks.loader import faults
from pipeline.decode import decode_canonical


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures, twenty rows."""
    return make_run(Plan(10, 32, ("identity", "hflip"), val=4), tmp_path_factory.mktemp("shards"))


def test_every_round_has_every_job_in_an_order_of_its_own() -> None:
    jobs = list(range(12))
    found = orders(jobs, 5)
    assert all(sorted(order) == jobs for order in found)
    assert len({tuple(order) for order in found}) == 5
    assert found == orders(jobs, 5) != orders(jobs, 5, seed=1)


def test_ratio_is_to_the_best_of_the_others() -> None:
    rates = {OURS: [100.0, 90.0, 10.0], "slow": [30.0, 40.0, 500.0], "quick": [60.0, 45.0, 45.0]}
    assert best_other(rates, OURS) == ("quick", 2.0)
    assert of_reference([9.0, 20.0, 5.0], [10.0, 10.0, 10.0]) == 0.9


def test_digest_does_not_see_the_order_but_every_other_difference() -> None:
    marks = [("a", 0, "x"), ("b", 1, "y"), ("c", 0, "z")]
    others = [marks[:2], [*marks, marks[0]], [*marks[:2], ("c", 0, "y")], [*marks[:2], ("c", 1, "z")]]
    assert digest(marks) == digest(marks[::-1])
    assert digest(marks) not in [digest(other) for other in others]


def test_marks_refuse_what_is_not_a_batch_of_bytes() -> None:
    pixels = torch.zeros(2, 8, 8, 3, dtype=torch.uint8)
    assert [mark[:2] for mark in marks_of([(pixels, [0, 1], ["a", "b"])])] == [("a", 0), ("b", 1)]
    for wrong in (pixels.float(), pixels[..., :1], pixels[0], torch.zeros(BATCH + 1, 8, 8, 3, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="a batch of torch"):
            marks_of([(wrong, [0] * len(wrong), ["a"] * len(wrong))])
    with pytest.raises(ValueError, match="zip"):
        marks_of([(pixels, [0], ["a"])])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"digests": ["d", "e"], "rows": [2, 3]}, "epoch 1: other pictures (3 rows, 2 expected)"),
        ({"first": [["a", "b"], ["b", "a"]]}, "not shuffled"),
        ({"first": [["b", "a"], ["b", "a"]]}, "the same order in both epochs"),
    ],
)
def test_faults(changes: dict[str, Any], said: str) -> None:
    expected = {"digest": "d", "rows": 2, "stored": ["a", "b"]}
    seen = {"digests": ["d", "d"], "rows": [2, 2], "first": [["b", "a"], ["c", "a"]]} | changes
    assert "; ".join(faults(expected, seen)) == said


def test_shards_hold_every_variant_of_every_picture_once(run: Path) -> None:
    rows = list(rows_of(run))
    assert Counter(row["id"].partition("/")[2] for row in rows) == {"identity": 10, "hflip": 10}
    assert len({row["id"] for row in rows}) == 20
    assert Counter(row["label"] for row in rows) == {0: 10, 1: 10}
    pixels = {row["id"]: decode_canonical(row["image"]) for row in rows}
    for name in (name for name in pixels if name.endswith("identity")):
        assert (pixels[name] == pixels[name.replace("identity", "hflip")][:, ::-1]).all()


def test_shards_are_made_once(run: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert make_run(Plan(10, 32, ("identity", "hflip"), val=4), run.parent) == run
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()} == before


def test_our_loader_delivers_the_rows_of_the_shards(run: Path) -> None:
    epochs = LOADERS[OURS].epochs(run, 0)
    first, second = (marks_of(epochs(number)) for number in range(2))
    assert digest(first) == digest(second)
    assert first != second
    assert {(name, label) for name, label, _ in first} == {(row["id"], row["label"]) for row in rows_of(run)}


def test_resume_reads_one_batch_of_a_made_up_large_split(run: Path) -> None:
    found = resume(run, 1001, 0, 0.5)
    assert found["rows"] == 1020  # whole row groups of twenty
    assert found["pictures"] == BATCH
    assert resume(run, 1001, 0, 1.0)["pictures"] == 1020 % BATCH
