"""Many distinct 256-pixel pictures of the demo's photographs and of their re-synthesis, made once and kept.

A real picture is two tiles of photographs laid over one another, each at a scale, place, light and turn of its own; an
AI-generated one is the same of re-synthesised photographs. The same number gives the same bytes on one type of CPU, and
no two numbers give the same picture.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from benchmarks._common import cut

__all__ = ["SPLITS", "matched_lake"]

SIDE = 256
SPLITS = ("train", "val", "test")
_QUALITY = (75, 98)
_LONGEST = 640
_SOURCES = ("real/photograph", "ai/autoencoder_pixelshuffle")
_ENDING = "jpg"

Pixels = NDArray[np.uint8]


def matched_lake(folder: Path, rows: Sequence[int]) -> Path:
    """Pictures under `folder`, those made that are missing.

    Args:
        folder: where they lie, as `<label>/<source>/<number>.jpg`.
        rows: how many, half of them real, in training, validation and test.

    Returns:
        the list of them, for ingest's `list` layout, with their splits.
    """
    for place in _SOURCES:
        (folder / place).mkdir(parents=True, exist_ok=True)
    _resyntheses(folder)
    count = sum(rows)
    missing = [number for number in range(count) if not (folder / _path(number)).exists()]
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(partial(_write, folder), missing, chunksize=64))
    listed = folder / f"{'-'.join(map(str, rows))}.csv"
    with listed.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "source", "split"])
        writer.writerows(_rows(rows))
    return listed


def _rows(rows: Sequence[int]) -> Iterator[list[str]]:
    number = 0
    for split, count in zip(SPLITS, rows, strict=True):
        for _ in range(count):
            label, source, _name = _path(number).split("/")
            yield [_path(number), label, source, split]
            number += 1


def _path(number: int) -> str:
    return f"{_SOURCES[number % 2]}/{number:06d}.{_ENDING}"


def _write(folder: Path, number: int) -> None:
    target = folder / _path(number)
    unfinished = target.with_suffix(".part")
    quality = int(np.random.default_rng([number, 2]).integers(*_QUALITY))
    pixels = _picture(number, _photographs() if number % 2 == 0 else _resyntheses(folder))
    unfinished.write_bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420"))
    unfinished.rename(target)


def _picture(number: int, photographs: Sequence[Image.Image]) -> Pixels:
    rng = np.random.default_rng([number, 1])
    layers = []
    for layer in range(2):
        turned = np.rot90(cut(photographs, 2 * number + layer, SIDE, SIDE), int(rng.integers(4)))
        layers.append(turned[:, ::-1] if rng.integers(2) else turned)
    weight = rng.uniform(0.4, 0.6)
    pixels = weight * layers[0].astype(np.float32) + (1 - weight) * layers[1]
    return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


@lru_cache
def _photographs() -> tuple[Image.Image, ...]:
    from training.photographs import load_photographs

    return tuple(Image.fromarray(photograph.pixels) for photograph in load_photographs(_LONGEST))


@lru_cache
def _resyntheses(folder: Path) -> tuple[Image.Image, ...]:
    """Every photograph re-synthesised; made by the first call in the first process, read from a file by the others."""
    kept = folder / "resyntheses.npz"
    if not kept.exists():
        from training.demo_config import AutoEncoderConfig
        from training.resynthesis import resynthesise, train_auto_encoder

        plan = AutoEncoderConfig()
        pictures = [np.asarray(photograph) for photograph in _photographs()]
        model = train_auto_encoder("pixelshuffle", pictures, plan)
        made = [resynthesise(model, pixels, plan.noise, seed) for seed, pixels in enumerate(pictures)]
        unfinished = kept.with_suffix(".part.npz")
        np.savez(unfinished, *made)
        unfinished.rename(kept)
    with np.load(kept) as arrays:
        return tuple(Image.fromarray(arrays[name]) for name in arrays.files)
