"""The comparison as one HTML file with nothing to load besides: the table's cells, and its AUCs as dots with whiskers.

This module must not judge or compute figures; it only turns a `Table` into a page.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from training.compare_runs import Figure, Row
from training.compare_table import Table

__all__ = ["MADE_BY", "Mark", "Plot", "plot_of", "render"]

MADE_BY: Final = 'name="generator" content="telltale training.compare"'
"""What tells a page of ours, which may be replaced, from any other file; the template has it."""
_TEMPLATE: Final = "compare.html.jinja"
_WIDTH, _EDGE = 200.0, 8.0  # of the plot in px: all of it, and what stays free at each side for the marks
_SPLITS: Final = (("test", "test_auc"), ("ood", "ood_auc"))


@dataclass(frozen=True)
class Mark:
    """An AUC on the plot: places in px; `low` and `high` are None where there is no interval."""

    split: str
    said: str
    at: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Plot:
    """The marks of each row on one axis.

    Attributes:
        width: px.
        ticks: (place in px, what is written there), from left to right.
        rows: the marks by row.
    """

    width: float
    ticks: list[tuple[float, str]]
    rows: list[list[Mark]]


def render(table: Table) -> bytes:
    """The page, UTF-8."""
    environment = Environment(
        loader=PackageLoader("training"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE).render(
        table=table, plot=plot_of(table.rows), after=table.titles.index("ood AUC")
    )
    return page.encode()


def plot_of(rows: Sequence[Row]) -> Plot | None:
    """Test and ood AUC of all rows on an axis from below the lowest to 1; None if there are none."""
    figures = [row.figures[key] for row in rows for _, key in _SPLITS if key in row.figures]
    if not figures:
        return None
    left = _left(min(end for figure in figures for end in (figure.value, *(figure.ends or ()))))

    def place(value: float) -> float:
        return round(_EDGE + (value - left) / (1 - left) * (_WIDTH - 2 * _EDGE), 1)

    def mark(split: str, figure: Figure) -> Mark:
        said, at = f"{split} {figure.value:.4f}", place(figure.value)
        if figure.ends is None:
            return Mark(split, said, at, None, None)
        low, high = figure.ends
        return Mark(split, f"{said}, 95 % interval {low:.4f} to {high:.4f}", at, place(low), place(high))

    middle = (left + 1) / 2
    return Plot(
        width=_WIDTH,
        ticks=[(place(value), f"{value:.4f}".rstrip("0").rstrip(".")) for value in (left, middle, 1.0)],
        rows=[[mark(split, row.figures[key]) for split, key in _SPLITS if key in row.figures] for row in rows],
    )


def _left(lowest: float) -> float:
    """Where the axis begins: a round number below the lowest, near enough that differences are seen."""
    step = next((step for step in (0.01, 0.02, 0.05, 0.1) if lowest >= 1 - 5 * step), 0.2)
    return max(0.0, round(math.floor(lowest / step - 1e-9) * step, 2))
