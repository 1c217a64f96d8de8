"""Made-up rows of a comparison, and the printed table read back."""

from __future__ import annotations

import re
from typing import Any

from training.compare import as_markdown
from training.compare_cost import Cost
from training.compare_runs import MEASURES, Evaluation, Figure, Row
from training.compare_table import make_table

AUC, ECE = MEASURES[0], next(measure for measure in MEASURES if measure.key == "ece")
A, B, WIDE = (0.95, 0.94, 0.96), (0.92, 0.91, 0.93), (0.92, 0.90, 0.95)
"""Test AUCs with their intervals: A's is above B's, WIDE's overlaps both."""


def cells(out: str) -> dict[str, dict[str, str]]:
    """The Markdown table: by run and column."""
    lines = [line for line in out.splitlines() if line.startswith("|")]
    titles, _, *rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0]: dict(zip(titles, row, strict=True)) for row in rows}


def row(run: str, auc: tuple[float, float | None, float | None] | None = None, **changes: Any) -> Row:
    """A made-up row; `auc` is (value, low, high) on the test pictures of the dataset it was trained on."""
    dataset = changes.get("dataset", "d" * 64)
    values: dict[str, Any] = {
        "model": "resnet50",
        "dataset": dataset,
        "device": "cpu",
        "ranks": 1,
        "parameters": 23_510_081,
        "best_epoch": 3,
        "epochs": 5,
        "val_auc": Figure(0.97),
        "onnx_bytes": 94_000_000,
        "cost": Cost(80_000, 1.5, 14.8),
        "figures": {"test_auc": Figure(*auc)} if auc else {},
        "evaluation": Evaluation(dataset, '{"seed":0}') if auc else None,
    }
    return Row(run, **{**values, **changes})


def shown(*rows: Row) -> str:
    return as_markdown(make_table(rows, []))
