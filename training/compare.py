"""`python -m training.compare runs/*`: models by metrics by cost, with intervals, in one table.

    python -m training.compare runs/a runs/b                         a GitHub table on standard output
    python -m training.compare runs/* --output compare.html          and a page
    python -m training.compare runs/* --json                         JSON instead of the table

This module writes out what `compare_runs` has read and `compare_table` has judged; it must not judge itself.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from tabulate import tabulate

from pipeline.cli import run_command, say
from pipeline.errors import OutputExistsError, UsageError
from pipeline.storage import split_uri
from training.compare_runs import Figure, Row, Unusable, read_runs
from training.compare_table import Cell, Table, make_table

__all__ = ["as_json", "as_markdown", "main"]

_LEFT: Final = ("run", "data", "model")  # columns of words; the others are numbers


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare runs; returns 0.

    Raises:
        UsageError: none of the folders is a run with a finished bundle.
        OutputExistsError: the page would replace something else.
    """
    options = _parser().parse_args(arguments)
    rows, unusable = read_runs(options.runs)
    if not rows:
        raise UsageError(_none_usable(unusable))
    table = make_table(rows, unusable)
    if options.output:
        _write_page(options.output, table)
    print(as_json(table) if options.json else as_markdown(table))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.compare", description="Compare trained runs: metrics with intervals, and cost."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, with model/ and, if made, report/")
    parser.add_argument("--output", metavar="FILE", help="write a page as well, e.g. compare.html")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    return parser


def _none_usable(unusable: Sequence[Unusable]) -> str:
    if len(unusable) == 1:
        return f"{unusable[0].run}: {unusable[0].problem} Name the folder of a run that training.run has finished."
    told = "".join(f"\n  {item.run}: {item.problem}" for item in unusable)
    return f"nothing to compare: none of these is a run that training.run has finished.{told}"


def as_markdown(table: Table) -> str:
    """The table as GitHub shows it, with what must be known below."""
    grid = tabulate(
        [[_markdown(*pair) for pair in zip(table.titles, line, strict=True)] for line in table.cells],
        headers=table.titles,
        tablefmt="github",
        colalign=["left" if title in _LEFT else "right" for title in table.titles],
        disable_numparse=True,
    )
    parts = [grid, f"{table.verdict.title}. {table.verdict.sentence}", _bullets(table.notes)]
    if table.remarks:
        parts.append(_bullets(f"{run}: {remark}" for run, remarks in table.remarks for remark in remarks))
    if table.unusable:
        parts.append("Not in the table:\n\n" + _bullets(f"{item.run}: {item.problem}" for item in table.unusable))
    return "\n\n".join(parts)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _markdown(title: str, cell: Cell) -> str:
    value = re.sub(r"([\\|*<`])", r"\\\1", cell.value) if title in _LEFT else cell.value
    text = f"{value} [{cell.range}]" if cell.range else value
    return f"**{text}**" if cell.best else text


def as_json(table: Table) -> str:
    """The same for programs; `best` names the measures in which a run's cell is bold."""
    shown = {
        "verdict": asdict(table.verdict),
        "runs": [_run(row, cells, table) for row, cells in zip(table.rows, table.cells, strict=True)],
        "notes": table.notes,
        "unusable": [asdict(item) for item in table.unusable],
    }
    return json.dumps(shown, indent=2, ensure_ascii=False)


def _run(row: Row, cells: Sequence[Cell], table: Table) -> dict[str, Any]:
    best = [title for title, cell in zip(table.titles, cells, strict=True) if cell.best]
    evaluation = None
    if row.evaluation:
        evaluation = {"dataset": row.evaluation.dataset, "settings": json.loads(row.evaluation.settings)}
    return {
        **asdict(row),
        "val_auc": row.val_auc and _figure(row.val_auc),
        "figures": {key: _figure(figure) for key, figure in row.figures.items()},
        "evaluation": evaluation,
        "best": best,
        "mark": table.marks.get(row.run),
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": figure.value, "ci95": list(figure.ends) if figure.ends else None}


def _write_page(target: str, table: Table) -> None:
    from training.compare_page import MADE_BY, render  # jinja2 only where there is a page

    folder, name = split_uri(target)
    if folder.is_folder(name):
        raise UsageError(f"{target}: is a folder. Name a file, for example {folder.locate(name + '/compare.html')}.")
    if folder.exists(name) and MADE_BY.encode() not in folder.read(name):
        raise OutputExistsError(f"{target}: holds something that this command did not write. Choose another name.")
    folder.put(name, render(table))
    say(f"{target}: written")


if __name__ == "__main__":
    raise SystemExit(run_command(main))
