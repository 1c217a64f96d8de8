"""Rows in order, which of them may be compared, which is best and how sure that is: the table before it is written out.

Pure: rows in, cells and sentences out. This module must not read files or know of Markdown and HTML.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from training.compare_runs import MEASURES, Evaluation, Figure, Measure, Row, Unusable

__all__ = ["Cell", "Table", "Verdict", "leader", "make_table", "marks", "ordered", "verdict"]

NOTHING: Final = "–"


@dataclass(frozen=True)
class Cell:
    """What a cell says: a value, the range beside it, and whether it is the best of its column beyond doubt."""

    value: str
    range: str = ""
    best: bool = False


@dataclass(frozen=True)
class Verdict:
    """Which run is ahead, if one is: a few words, and a sentence."""

    title: str
    sentence: str


@dataclass(frozen=True)
class Table:
    """The whole comparison.

    Attributes:
        rows: best first.
        titles, cells: by column; by row and column.
        notes: on the columns.
        remarks: (run, what a reader must know of it) of the runs where there is something.
        unusable: folders without a row.
        marks: by run, where rows may not be compared.
    """

    rows: list[Row]
    titles: list[str]
    cells: list[list[Cell]]
    verdict: Verdict
    notes: list[str]
    remarks: list[tuple[str, tuple[str, ...]]]
    unusable: list[Unusable]
    marks: dict[str, str]


def make_table(rows: Sequence[Row], unusable: Sequence[Unusable]) -> Table:
    """Everything that is shown, whatever it is shown on."""
    rows = ordered(rows)
    found, explained = marks(rows)
    measures = [measure for measure in MEASURES if any(measure.key in row.figures for row in rows) or _always(measure)]
    columns = _columns(rows, measures, found)
    return Table(
        rows=rows,
        titles=[title for title, _ in columns],
        cells=[[cell(row) for _, cell in columns] for row in rows],
        verdict=verdict(rows),
        notes=[*explained, *_notes(rows, measures)],
        remarks=[(row.run, row.remarks) for row in rows if row.remarks],
        unusable=list(unusable),
        marks=found,
    )


def ordered(rows: Sequence[Row]) -> list[Row]:
    """By test AUC, best first; those without one last, by validation AUC; what is equal by name."""

    def place(row: Row) -> tuple[bool, float, float, str]:
        test = row.figures.get("test_auc")
        return (test is None, -test.value if test else 0.0, -row.val_auc.value if row.val_auc else 0.0, row.run)

    return sorted(rows, key=place)


def leader(rows: Sequence[Row], measure: Measure) -> str | None:
    """The run that is best by a measure, if its interval overlaps none of the others'.

    An interval without a width only says that no resample differed, so it leads nothing.

    Args:
        rows: of one evaluation.
        measure: what is looked at; rows without it do not take part.
    """
    figures = [(row.run, row.figures[measure.key]) for row in rows if measure.key in row.figures]
    if len(figures) < 2:
        return None
    sign = 1 if measure.more_is_better else -1
    (run, best), *others = sorted(figures, key=lambda item: -sign * item[1].value)
    if best.ends is None or best.ends[0] == best.ends[1]:
        return None
    return run if all(other.ends and not _overlap(best.ends, other.ends) for _, other in others) else None


def verdict(rows: Sequence[Row]) -> Verdict:
    """Which run is ahead by test AUC, in words."""
    measured = [row for row in ordered(rows) if "test_auc" in row.figures]
    if not measured:
        return Verdict("No test figures yet", "No run has a test AUC; the notes say what to do.")
    if len({row.evaluation for row in measured}) > 1:
        return Verdict(
            "Different data: no ranking",
            "Runs were evaluated on different pictures or in different ways: test figures compare only between those "
            "with the same number in the column “data”.",
        )
    best, *others = measured
    figure = best.figures["test_auc"]
    said = _with_range(_cell(figure))
    if not others:
        return Verdict(
            f"Only {best.run} has test figures", f"Its test AUC is {said}; there is none to compare it with."
        )
    caveat = ""
    if len({row.dataset for row in measured}) > 1:
        caveat = " They were trained on different datasets: whether one of those holds test pictures is not known here."
    if leader(measured, MEASURES[0]) == best.run:
        sentence = f"Its test AUC is {said}; no other run’s interval overlaps its own."
        return Verdict(f"{best.run} is ahead", sentence + caveat)
    sentence = f"{best.run} has the highest test AUC, {said}, but {_doubt(figure, others)}"
    return Verdict("No run is clearly ahead", sentence + caveat)


def _doubt(best: Figure, others: Sequence[Row]) -> str:
    """Why the highest test AUC proves nothing."""
    figures = {row.run: row.figures["test_auc"] for row in others}
    if best.ends is None or any(figure.ends is None for figure in figures.values()):
        return "not every test AUC has an interval."
    near = [run for run, figure in figures.items() if figure.ends and _overlap(best.ends, figure.ends)]
    if near:
        return f"its interval overlaps that of {', '.join(near)}: these pictures do not tell them apart."
    return "its interval has no width: the test pictures are too few, or too easy, to say how sure that is."


def _overlap(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def marks(rows: Sequence[Row]) -> tuple[dict[str, str], list[str]]:
    """A mark for each run where not all may be compared, else none, and what the marks mean.

    A letter is the dataset that a run was trained on, a number how it was evaluated.
    """
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    ways = list(dict.fromkeys(row.evaluation for row in rows if row.evaluation))
    if len(datasets) <= 1 and len(ways) <= 1:
        return {}, []
    letters = {dataset: _letter(at) for at, dataset in enumerate(datasets)}
    numbers = {way: str(at) for at, way in enumerate(ways, 1)}
    found = {row.run: letters[row.dataset] + (numbers[row.evaluation] if row.evaluation else "") for row in rows}
    explained = []
    if len(numbers) > 1:
        explained.append(
            "Different numbers under “data”: test figures of different pictures, or counted in different ways: do not "
            "compare across them."
        )
    if len(letters) > 1:
        explained.append(
            "Different letters under “data”: trained and validated on different pictures: do not compare validation "
            "AUC across them, and test figures only if no run was trained on any of the test pictures."
        )
    explained += [f"{letter}: trained on dataset {dataset[:16]}." for dataset, letter in letters.items()]
    explained += [f"{number}: {_way(way, ways)}." for way, number in numbers.items()]
    return found, explained


def _letter(number: int) -> str:
    """A to Z, then AA, AB and so on."""
    above, last = divmod(number, 26)
    return (_letter(above - 1) if above else "") + chr(ord("A") + last)


def _way(way: Evaluation, ways: Sequence[Evaluation]) -> str:
    """How figures were measured, as far as not all were measured like that."""
    settings = [json.loads(other.settings) for other in ways]
    mine: Mapping[str, Any] = json.loads(way.settings)
    differing = [key for key in sorted(mine) if any(other.get(key) != mine[key] for other in settings)]
    how = "".join(f", {key.replace('_', ' ')} {_plain(mine[key])}" for key in differing)
    return f"evaluated on dataset {way.dataset[:16]}{how}"


def _plain(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _columns(
    rows: Sequence[Row], measures: Sequence[Measure], found: Mapping[str, str]
) -> list[tuple[str, Callable[[Row], Cell]]]:
    """(title, row to cell) of every column."""
    leaders = {measure.key: _leaders(rows, measure) for measure in measures}

    def measured(measure: Measure) -> Callable[[Row], Cell]:
        return lambda row: _cell(row.figures.get(measure.key), measure.percent, row.run in leaders[measure.key])

    return [
        ("run", lambda row: Cell(row.run)),
        *([("data", lambda row: Cell(found[row.run]))] if found else []),
        ("model", lambda row: Cell(row.model)),
        ("parameters", lambda row: _optional(row.parameters, _count)),
        ("best epoch", lambda row: Cell(f"{row.best_epoch or NOTHING} / {row.epochs or NOTHING}")),
        ("val AUC", lambda row: _cell(row.val_auc)),
        *((measure.title, measured(measure)) for measure in measures),
        ("pictures", lambda row: _optional(row.cost and row.cost.pictures, lambda value: f"{value:,}")),
        ("hours", lambda row: _optional(row.cost and row.cost.hours, _hours)),
        ("pictures/s", lambda row: _optional(row.cost and row.cost.rate, _rate)),
        ("ONNX, MB", lambda row: Cell(f"{row.onnx_bytes / 1e6:.1f}")),
    ]


def _leaders(rows: Sequence[Row], measure: Measure) -> set[str | None]:
    """The leader of each evaluation."""
    ways = {row.evaluation for row in rows}
    return {leader([row for row in rows if row.evaluation == way], measure) for way in ways}


def _always(measure: Measure) -> bool:
    """Whether a measure has a column even if no report has it."""
    return measure.key != "tpr_05"


def _cell(figure: Figure | None, percent: bool = False, best: bool = False) -> Cell:
    if figure is None:
        return Cell(NOTHING)

    def text(value: float) -> str:
        return f"{100 * value:.1f}" if percent else f"{value:.4f}"

    ends = f"{text(figure.ends[0])}, {text(figure.ends[1])}" if figure.ends else ""
    return Cell(text(figure.value) + (" %" if percent else ""), ends, best)


def _with_range(cell: Cell) -> str:
    return f"{cell.value} [{cell.range}]" if cell.range else cell.value


def _optional(value: Any, text: Callable[[Any], str]) -> Cell:
    return Cell(NOTHING if value is None else text(value))


def _count(number: int) -> str:
    return f"{number / 1e6:.2f} M" if number >= 1e6 else f"{number / 1e3:.1f} k"


def _hours(hours: float) -> str:
    return f"{hours:.2f}" if hours >= 0.01 else "< 0.01"


def _rate(rate: float) -> str:
    return f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}"


def _notes(rows: Sequence[Row], measures: Sequence[Measure]) -> list[str]:
    shown = [measure for measure in measures if any(measure.key in row.figures for row in rows)]
    bare = [one.title for one in shown if not any(row.figures[one.key].ends for row in rows if one.key in row.figures)]
    found = []
    if shown:
        found.append(
            "Beside a figure: its 95 % interval, from the report, over whole groups of pictures. Bold: the best of "
            "its column, only where its interval has a width and overlaps no other’s; of two runs whose intervals "
            "overlap, one may still be better."
            + (f" The reports have no interval for {', '.join(bare)}, so there nothing is bold." if bare else "")
        )
        found.append("TPR, ECE and Brier are those of test; for ECE and Brier less is better.")
    found.append("Validation AUC flatters: training chose its epoch, temperature and threshold on it.")
    found.append(
        "Pictures: seen in training, those of every epoch. Hours and pictures a second: of training steps and "
        "the checkpoints between them, on the machine that each run was on; validation and the time between a stop and "
        "its resume do not count."
    )
    devices = sorted({f"{row.ranks} x {row.device}" for row in rows if row.cost})
    if len(devices) > 1:
        found.append(f"Trained on different devices ({', '.join(devices)}): hours and rates do not compare.")
    return found
