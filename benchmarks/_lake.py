"""Many distinct 256-pixel pictures on disk, made once and kept under .cache/benchmarks/.

A picture is two tiles of photographs laid over one another, each turned or mirrored at random: with only six
photographs, single tiles would soon come out as near-duplicates. Every second one is "AI-generated" and carries a faint
grid, as decoders with transposed convolutions leave it. Every fourth is a PNG, the others are JPEG; both classes have
the same share of each.
"""

from __future__ import annotations

import csv
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from benchmarks._common import tile

__all__ = ["SIDE", "lake", "picture", "picture_path", "put_lake"]

SIDE = 256
_TRACE = 3  # grey levels
_QUALITY = (75, 98)


def picture(number: int) -> NDArray[np.uint8]:
    """The pixels of a picture, uint8 (256, 256, 3); the same for the same number on every machine."""
    rng = np.random.default_rng([number, 1])
    layers = [_turned(tile(2 * number + layer, SIDE, SIDE), int(rng.integers(8))) for layer in range(2)]
    weight = rng.uniform(0.4, 0.6)
    pixels = weight * layers[0].astype(np.float32) + (1 - weight) * layers[1]
    if number % 2:
        pixels[::2, ::2] += _TRACE
        pixels[1::2, 1::2] -= _TRACE
    return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255), np.uint8)


def picture_path(number: int) -> str:
    """Where a picture lies, relative to the list: `<label>/<source>/<number>.<ending>`."""
    place = "ai/generator" if number % 2 else "real/camera"
    return f"{place}/{number:06d}.{'png' if number // 2 % 4 == 3 else 'jpg'}"


def lake(folder: Path, count: int) -> Path:
    """The first `count` pictures under `folder`, those made that are missing.

    Returns:
        the list of them, for ingest's `list` layout.
    """
    for place in ("ai/generator", "real/camera"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    missing = [number for number in range(count) if not (folder / picture_path(number)).exists()]
    if missing:
        with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            list(pool.map(partial(_write, folder), missing, chunksize=64))
    return _write_list(folder / f"first-{count}.csv", [picture_path(number) for number in range(count)])


def put_lake(folder: Path, home: str, environment: Mapping[str, str]) -> float:
    """Copy a folder of many pictures, with its lists, into the folder `home` on HDFS.

    Args:
        folder: on this machine.
        home: a URI; it is made.
        environment: a cluster's, with `hdfs` on its path.

    Returns:
        seconds.
    """
    started = time.perf_counter()
    subprocess.run(["hdfs", "dfs", "-mkdir", "-p", home], env=environment, check=True)
    command = ["hdfs", "dfs", "-put", "-d", "-t", "16", str(folder), f"{home}/"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def _turned(pixels: NDArray[np.uint8], way: int) -> NDArray[np.uint8]:
    turned = np.rot90(pixels, way % 4)
    return turned[:, ::-1] if way >= 4 else turned


def _write(folder: Path, number: int) -> None:
    path = folder / picture_path(number)
    pixels = picture(number)
    unfinished = path.with_suffix(f".part{path.suffix}")
    if path.suffix == ".png":
        Image.fromarray(pixels).save(unfinished, "PNG", compress_level=1)
    else:
        quality = int(np.random.default_rng([number, 2]).integers(*_QUALITY))
        unfinished.write_bytes(simplejpeg.encode_jpeg(pixels, quality=quality, colorsubsampling="420"))
    unfinished.rename(path)


def _write_list(path: Path, pictures: Sequence[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label", "source"])
        writer.writerows([name, *name.split("/")[:2]] for name in pictures)
    return path
