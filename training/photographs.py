"""The demo's photographs: colour pictures that come inside installed packages, so that nothing has to be downloaded.

Photographs only: drawings, grey pictures and synthetic patterns of the same packages are left out, and so are the
pictures that scikit-image would fetch. This file must not change a pixel beyond making large photographs smaller.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.decode import decode
from pipeline.errors import ImageError, SetupError

__all__ = ["PHOTOGRAPHS", "Photograph", "load_photographs", "locate"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Source:
    """Where one photograph is: its scene, the split of that scene, and the file inside a package.

    Attributes:
        scene: what it shows; pictures of one scene share it, and so one group.
        split: the split of the whole scene.
        package: the distribution to install.
        module: the package as it is imported.
        file: path inside the package, with `/`.
    """

    scene: str
    split: Literal["train", "val", "test"]
    package: str
    module: str
    file: str


@dataclass(frozen=True)
class Photograph:
    """A photograph in memory.

    Attributes:
        source: where it came from.
        sha256: of the file in the package.
        scale: of the picture, beside the photograph at its size in the demo.
        pixels: uint8 RGB (height, width, 3).
    """

    source: Source
    sha256: str
    scale: float
    pixels: Pixels

    @property
    def name(self) -> str:
        """The file's name without its ending, with the scale in percent unless it is 1; no two share one."""
        stem = Path(self.source.file).stem
        return stem if self.scale == 1 else f"{stem}-{round(100 * self.scale)}"


def _skimage(scene: str, split: Literal["train", "val", "test"], file: str) -> Source:
    return Source(scene, split, "scikit-image", "skimage", f"data/{file}")


def _sklearn(scene: str, split: Literal["train", "val", "test"], file: str) -> Source:
    return Source(scene, split, "scikit-learn", "sklearn", f"datasets/images/{file}")


PHOTOGRAPHS: Final = (
    _skimage("motorcycle", "train", "motorcycle_left.png"),
    _skimage("motorcycle", "train", "motorcycle_right.png"),  # a stereo pair: one scene
    _skimage("galaxies", "train", "hubble_deep_field.jpg"),
    _skimage("tissue", "train", "ihc.png"),
    _skimage("retina", "train", "retina.jpg"),
    _sklearn("flower", "train", "flower.jpg"),
    Source("hopper", "train", "matplotlib", "matplotlib", "mpl-data/sample_data/grace_hopper.jpg"),
    _skimage("cat", "val", "chelsea.png"),
    _skimage("rocket", "val", "rocket.jpg"),
    _skimage("astronaut", "test", "astronaut.png"),
    _skimage("coffee", "test", "coffee.png"),
    _sklearn("pagoda", "test", "china.jpg"),
)
"""Test scenes: a person, a table, a building. Validation scenes: an animal, a night."""


def locate(source: Source) -> Path:
    """The photograph's file in the installed package.

    Raises:
        SetupError: the package is not installed, or this version of it no longer has the file.
    """
    found = importlib.util.find_spec(source.module)
    if found is None or not found.submodule_search_locations:
        raise SetupError(
            f"the demo's photograph '{source.file}' comes with {source.package}, which is not installed: "
            f"install the extra with `pip install 'telltale[train]'`."
        )
    path = Path(next(iter(found.submodule_search_locations))) / source.file
    if not path.is_file():
        raise SetupError(
            f"{path}: missing: this installation of {source.package} lacks the demo's photograph '{source.file}'. "
            f"Reinstall the pinned version: `pip install --force-reinstall -c constraints.txt {source.package}`."
        )
    return path


def load_photographs(longest_side: int, train_scales: Sequence[float] = (1.0,)) -> Iterator[Photograph]:
    """Every photograph, made smaller where a side is longer than `longest_side` (Lanczos), never larger.

    Making the large ones smaller gives all of them detail of about the same scale, and bounds memory.

    Args:
        longest_side: in pixels.
        train_scales: a photograph of the training split comes once at each of these scales, the others at 1.

    Raises:
        SetupError: a package or a file is missing, or the file is damaged.
    """
    for source in PHOTOGRAPHS:
        path = locate(source)
        data = path.read_bytes()
        try:
            pixels, _ = decode(data)
        except ImageError as error:
            raise SetupError(
                f"{path}: {error}. Reinstall it: `pip install --force-reinstall -c constraints.txt {source.package}`."
            ) from error
        longest = min(longest_side, max(pixels.shape))
        for scale in train_scales if source.split == "train" else (1.0,):
            yield Photograph(source, hashlib.sha256(data).hexdigest(), scale, _fit(pixels, round(scale * longest)))


def _fit(pixels: Pixels, longest_side: int) -> Pixels:
    height, width = pixels.shape[:2]
    if max(height, width) <= longest_side:
        return pixels
    scale = longest_side / max(height, width)
    size = (round(width * scale), round(height * scale))
    return np.array(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))
