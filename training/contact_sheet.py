"""A contact sheet for people to look at: photographs beside their re-syntheses and what was lost.

A column a picture, a row a photograph: its middle at full resolution, the same of each re-synthesis, and the absolute
difference to the photograph, eight times enlarged. Nothing in the workflow reads it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.storage import split_uri
from training.photographs import Photograph

__all__ = ["write_contact_sheet"]

Pixels = NDArray[np.uint8]

_WIDTH, _HEIGHT, _MARGIN, _GAIN = 320, 240, 16, 8


def write_contact_sheet(
    path: str, photographs: Sequence[Photograph], columns: Sequence[Sequence[Pixels]], names: Sequence[str]
) -> None:
    """Write the sheet as PNG.

    Args:
        path: file to write; one of that name is replaced.
        photographs: one a row.
        columns: for each generator, its re-syntheses of the photographs, in their order.
        names: the generators' names, for the captions.

    Raises:
        StorageError: the file cannot be written.
    """
    captions = ["photograph", *(text for name in names for text in (name, f"difference x{_GAIN}"))]
    size = (len(captions) * _WIDTH, _MARGIN + len(photographs) * _HEIGHT)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for number, caption in enumerate(captions):
        draw.text((number * _WIDTH + 4, 2), caption, fill="black")
    for row, photograph in enumerate(photographs):
        shown = [photograph.pixels]
        for column in columns:
            shown += [column[row], _difference(photograph.pixels, column[row])]
        for number, pixels in enumerate(shown):
            sheet.paste(_middle(pixels), (number * _WIDTH, _MARGIN + row * _HEIGHT))
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    folder, name = split_uri(path)
    folder.put(name, buffer.getvalue())


def _difference(first: Pixels, second: Pixels) -> Pixels:
    return np.clip(_GAIN * np.abs(first.astype(np.int16) - second), 0, 255).astype(np.uint8)


def _middle(pixels: Pixels) -> Image.Image:
    top, left = (max(0, (side - want) // 2) for side, want in zip(pixels.shape[:2], (_HEIGHT, _WIDTH), strict=True))
    return Image.fromarray(np.ascontiguousarray(pixels[top : top + _HEIGHT, left : left + _WIDTH]))
