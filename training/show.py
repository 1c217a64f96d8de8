"""`python -m training.show`: a grid of training pictures, as stored and as each epoch sees them, for people to look at.

    python -m training.show --config F --run-dir runs/x --output grid.png [--rows N] [--epochs K]
    python -m training.show --config F --shards DIR --stats FILE --output grid.png

A row a picture, real and AI in turn; a column an epoch. The pictures come from the trainer's own loader. This module
must not change them, and nothing in the workflow reads the grid.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from pipeline.cli import add_config_options, run_command, say
from pipeline.config import load
from pipeline.errors import TelltaleError, UsageError
from pipeline.parquet import read_row_group
from pipeline.records import LABELS
from pipeline.storage import split_uri
from training.config import SECTION, TrainingConfig
from training.inputs import Inputs, read_inputs
from training.places import add_input_options, place_of

__all__ = ["main"]

_CELL: Final = 256  # pixels: smaller pictures are enlarged by a whole number to about this
_GAP, _LINE, _TEXT, _HEAD = 12, 17, 13, 17  # between cells; a line of text; sizes of the letters
_PAPER, _INK, _FAINT = "#ffffff", "#1c1c1c", "#767676"
_COLOURS: Final = ("#1b6e3c", "#b3261e")  # of the labels' names: real, ai


@dataclass(frozen=True)
class _Cell:
    """A picture of the grid, with the lines below it."""

    pixels: NDArray[np.uint8]
    lines: Sequence[str]
    colour: str = _INK


@dataclass(frozen=True)
class _Row:
    """Where a picture lies in the split, and what it is."""

    number: int
    label: int
    source: str


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.show", description="Draw training pictures as stored and as each epoch sees them."
    )
    add_config_options(parser)
    add_input_options(parser, "has shards/ and stats.json")
    parser.add_argument("--output", metavar="FILE", required=True, help="the grid, a PNG; one of that name is replaced")
    parser.add_argument("--rows", metavar="N", type=int, default=8, help="pictures (default: 8)")
    parser.add_argument("--epochs", metavar="K", type=int, default=4, help="epochs from the first on (default: 4)")
    return parser.parse_args(arguments)


def _inputs(args: argparse.Namespace, config: TrainingConfig) -> Inputs:
    for key in ("rows", "epochs"):
        if getattr(args, key) < 1:
            raise UsageError(f"--{key} must be at least 1, got {getattr(args, key)}.")
    shards, stats = place_of(args, "shards", "shards"), place_of(args, "stats", "stats.json")
    return read_inputs(shards, stats, config.check_shards, config.cache_gb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the grid; returns 0."""
    args = _arguments(arguments)
    config = load(TrainingConfig, args.config, args.sets, section=SECTION)
    inputs = _inputs(args, config)
    if not config.robust.on:
        say(
            "training.robust is off, so every epoch sees the pictures as stored. Turn something on, for example with "
            "--set robust.jpeg.probability=0.5"
        )
    rows = _first_rows(inputs, args.rows)
    buffer = io.BytesIO()
    _sheet(_cells(inputs, config, rows, args.epochs), _heads(args.epochs)).save(buffer, "PNG")
    folder, name = split_uri(args.output)
    folder.put(name, buffer.getvalue())
    say(f"{args.output}: {len(rows)} pictures, {args.epochs} epochs, seed {config.seed}")
    return 0


def _first_rows(inputs: Inputs, count: int) -> list[_Row]:
    """The first training rows of each label, in turn; fewer if there are not so many."""
    found: tuple[list[_Row], ...] = tuple([] for _ in LABELS)
    start = 0
    for group in inputs.train.groups:
        table = read_row_group(inputs.folder, group.path, group.number, ("label", "source"))
        labels, sources = (table.column(name).to_pylist() for name in ("label", "source"))
        for at, (label, source) in enumerate(zip(labels, sources, strict=True)):
            found[label].append(_Row(start + at, label, source))
        if min(map(len, found)) * len(LABELS) >= count:
            break
        start += group.rows
    return list(chain.from_iterable(zip(*found, strict=False)))[:count]


def _cells(inputs: Inputs, config: TrainingConfig, rows: Sequence[_Row], epochs: int) -> list[list[_Cell]]:
    """A row of cells for each picture: as stored, then as each epoch sees it."""
    from training.robust import draw
    from training.rows import EpochRows, ShardRows  # torch takes seconds to import

    numbers = [row.number for row in rows]
    size, window = inputs.canonical.geometry.size, config.shuffle_row_groups
    shards = ShardRows(inputs.folder, inputs.train, size, window, config.robust, config.seed)
    stored = _whole(shards.__getitems__(numbers))
    cells = [
        [_Cell(pixels, _stored_lines(row, sample), _COLOURS[row.label])]
        for row, pixels, sample in zip(rows, stored.pixels.numpy(), stored.ids, strict=True)
    ]
    for epoch in range(epochs):
        batch = _whole(shards.__getitems__(EpochRows(numbers, epoch)))
        for line, pixels, sample in zip(cells, batch.pixels.numpy(), batch.ids, strict=True):
            done = [str(operation) for operation in draw(config.robust, config.seed, epoch, sample)]
            line.append(_Cell(pixels, done) if done else _Cell(pixels, ["as stored"], _FAINT))
    return cells


def _whole(batch: Any) -> Any:
    """A batch; the loader hands errors over as values."""
    if isinstance(batch, TelltaleError):
        raise batch
    return batch


def _stored_lines(row: _Row, sample: str) -> list[str]:
    image_id, _, variant = sample.partition("/")
    return [f"{LABELS[row.label]}: {row.source}", f"{variant}, {image_id[:8]}"]


def _heads(epochs: int) -> list[str]:
    return ["as stored", *(f"epoch {epoch + 1}" for epoch in range(epochs))]


def _sheet(cells: Sequence[Sequence[_Cell]], heads: Sequence[str]) -> Image.Image:
    """The grid: a row is as high as its longest caption needs."""
    text, head = ImageFont.load_default(_TEXT), ImageFont.load_default(_HEAD)
    times = max(1, round(_CELL / len(cells[0][0].pixels)))
    side = times * len(cells[0][0].pixels)
    wrapped = [[[part for line in cell.lines for part in _wrap(line, text, side)] for cell in row] for row in cells]
    heights = [side + _LINE * max(map(len, captions)) + 2 * _GAP for captions in wrapped]
    top = _HEAD + 2 * _GAP
    sheet = Image.new("RGB", (_GAP + len(heads) * (side + _GAP), top + sum(heights)), _PAPER)
    ink = ImageDraw.Draw(sheet)
    for column, name in enumerate(heads):
        ink.text((_GAP + column * (side + _GAP), _GAP), name, fill=_INK, font=head)
    for row, captions, height in zip(cells, wrapped, heights, strict=True):
        for column, (cell, lines) in enumerate(zip(row, captions, strict=True)):
            left = _GAP + column * (side + _GAP)
            sheet.paste(Image.fromarray(cell.pixels).resize((side, side), Image.Resampling.NEAREST), (left, top))
            for number, line in enumerate(lines):
                place = (left, top + side + 4 + number * _LINE)
                ink.text(place, line, fill=cell.colour, font=text)
        top += height
    return sheet


def _wrap(line: str, font: Any, width: int) -> list[str]:
    """A line as lines that fit, broken at blanks."""
    lines, words = [""], line.split()
    for word in words:
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


if __name__ == "__main__":
    raise SystemExit(run_command(main))
