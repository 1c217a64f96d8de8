"""`python -m training.demo_data --output DIR`: the demo's raw pictures, made without any download.

Real pictures are tiles of the photographs that come inside installed packages (`training.photographs`); AI-generated
ones are the tiles at the same places of the same photographs, re-synthesised whole (`training.resynthesis`). What is
written:

    DIR/real/photograph/<scene>/…_tile.png
    DIR/ai/autoencoder_pixelshuffle/<scene>/…_tile.png
    DIR/ai/autoencoder_transposed/<scene>/…_tile.png      the test split's scenes only; split `ood`
    DIR/list.csv                                          path, label, source, split, group (the scene)
    DIR/demo.json                                         sealed, last: configuration, PSNR, counts, every file's sha256

Scenes are the groups, and a scene is whole in one split. This file must not put anything else into DIR.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from pipeline.cli import add_config_options, add_output_options, progress, run_command, say
from pipeline.config import as_dict, load
from pipeline.errors import ConfigError, DataError
from pipeline.manifest import FileEntry, file_entries, leftovers, library_versions, output_state, publish
from pipeline.storage import Folder
from training.contact_sheet import write_contact_sheet
from training.demo_config import SECTION, DemoConfig
from training.photographs import Photograph, load_photographs
from training.resynthesis import THREADS, Decoder, psnr, resynthesise, train_auto_encoder

__all__ = ["GENERATOR", "KIND", "LIST", "MANIFEST", "OOD_GENERATOR", "REAL", "STAGE_VERSION", "main", "tile_places"]

Pixels = NDArray[np.uint8]

KIND: Final = "demo"
STAGE_VERSION: Final = 1  # raise by hand when the result of the same input changes
MANIFEST: Final = "demo.json"
LIST: Final = "list.csv"
REAL: Final = "photograph"
GENERATOR: Final = "autoencoder_pixelshuffle"
OOD_GENERATOR: Final = "autoencoder_transposed"
_DECODERS: Final[dict[str, Decoder]] = {GENERATOR: "pixelshuffle", OOD_GENERATOR: "transposed"}
_COLUMNS: Final = ("path", "label", "source", "split", "group")
_TILE: Final = "_tile.png"


@dataclass(frozen=True)
class Tile:
    """A tile to write: its row of the list, and its pixels."""

    path: str
    label: str
    source: str
    split: str
    group: str
    pixels: Pixels


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the demo's raw pictures: tiles of real photographs, and of their re-synthesis by small auto-encoders."""
    given = _parser().parse_args(arguments)
    config = load(DemoConfig, given.config, given.sets, SECTION)
    photographs = list(load_photographs(config.longest_side, config.train_scales))
    folder = Folder(given.output)
    head = _head(config, photographs)
    state = output_state(folder, MANIFEST, KIND, head, (_TILE, LIST), given.overwrite, given.update)
    if state == "done":
        say(f"demo: {given.output}: up to date")
        if not given.show:
            return
    _check_places(config, photographs)
    made = _resynthesise_all(config, photographs)
    if given.show:
        write_contact_sheet(given.show, photographs, [made[name] for name in _DECODERS], list(_DECODERS))
        say(f"demo: {given.show}: written")
    quality = _measure(config, photographs, made)
    if state == "go":
        _write(folder, config, photographs, made, {**head, "psnr": quality})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.demo_data", description=main.__doc__)
    parser.add_argument("--output", metavar="DIR", required=True, help="folder for the pictures and list.csv")
    parser.add_argument(
        "--show", metavar="PNG", help="also write a contact sheet: photographs beside their re-syntheses"
    )
    add_config_options(parser)
    add_output_options(parser)
    return parser


def _head(config: DemoConfig, photographs: Sequence[Photograph]) -> dict[str, Any]:
    """What a manifest of the same work would say, too."""
    return {
        "kind": KIND,
        "stage_version": STAGE_VERSION,
        "config": as_dict(config),
        "photographs": [
            {"file": f"{p.source.module}/{p.source.file}", "scene": p.source.scene, "split": p.source.split,
             "sha256": p.sha256}
            for p in photographs
            if p.scale == config.train_scales[0] or p.source.split != "train"
        ],
        "threads": THREADS,
        "versions": library_versions("numpy", "pillow", "torch"),
    }  # fmt: skip


def _resynthesise_all(config: DemoConfig, photographs: Sequence[Photograph]) -> dict[str, list[Pixels]]:
    """Every photograph re-synthesised by every generator; one generator a thread."""
    pictures = [photograph.pixels for photograph in photographs]
    plan, stop = config.autoencoder, threading.Event()

    def make(decoder: Decoder) -> list[Pixels]:
        model = train_auto_encoder(decoder, pictures, plan, after_step)
        rng = np.random.default_rng([plan.seed, list(_DECODERS.values()).index(decoder)])
        seeds = rng.integers(2**32, size=len(pictures)).tolist()
        return [resynthesise(model, picture, plan.noise, seed) for picture, seed in zip(pictures, seeds, strict=True)]

    def after_step() -> None:
        if stop.is_set():
            raise InterruptedError("stopped")
        bar.update()

    steps = len(_DECODERS) * plan.steps
    with (
        tqdm(total=steps, desc="auto-encoders", unit="step", disable=None, leave=False) as bar,
        ThreadPoolExecutor(len(_DECODERS)) as pool,
    ):
        running = {name: pool.submit(make, decoder) for name, decoder in _DECODERS.items()}
        try:
            return {name: future.result() for name, future in running.items()}
        finally:
            stop.set()


def _measure(
    config: DemoConfig, photographs: Sequence[Photograph], made: Mapping[str, Sequence[Pixels]]
) -> dict[str, dict[str, float]]:
    """PSNR in dB of every photograph's re-syntheses, by generator and photograph.

    Raises:
        DataError: one is below the configured minimum.
    """
    quality = {
        name: {p.name: round(psnr(p.pixels, out), 2) for p, out in zip(photographs, pictures, strict=True)}
        for name, pictures in made.items()
    }
    for name, values in quality.items():
        low, high = min(values, key=values.__getitem__), max(values, key=values.__getitem__)
        say(f"demo: {name}: PSNR {values[low]:.1f} dB ({low}) to {values[high]:.1f} dB ({high})")
        if values[low] < config.min_psnr:
            raise DataError(
                f"{name}: its re-synthesis of '{low}' has {values[low]:.1f} dB PSNR, under min_psnr "
                f"({config.min_psnr}). Lower autoencoder.noise, raise autoencoder.latents, or lower min_psnr."
            )
    return quality


def tile_places(pixels: Pixels, config: DemoConfig) -> list[tuple[int, int]]:
    """(y, x) of the tiles to cut from a photograph, uint8 (height, width, 3): a grid, nearly flat places left out."""
    height, width = pixels.shape[:2]
    rows = range(config.border, height - config.border - config.tile + 1, config.stride)
    columns = range(config.border, width - config.border - config.tile + 1, config.stride)
    return [
        (y, x)
        for y in rows
        for x in columns
        if _cut(pixels, y, x, config.tile).std(axis=(0, 1)).max() >= config.min_deviation
    ]


def _check_places(config: DemoConfig, photographs: Sequence[Photograph]) -> None:
    """Raises ConfigError if a split would be empty."""
    kept = {p.source.split for p in photographs if tile_places(p.pixels, config)}
    empty = sorted({p.source.split for p in photographs} - kept)
    if empty:
        raise ConfigError(f"no tile of the {empty[0]} photographs is left: lower min_deviation, tile or border.")


def _cut(pixels: Pixels, y: int, x: int, side: int) -> Pixels:
    return pixels[y : y + side, x : x + side]


def _tiles(
    config: DemoConfig, photographs: Sequence[Photograph], made: Mapping[str, Sequence[Pixels]]
) -> Iterator[Tile]:
    for index, photograph in enumerate(photographs):
        scene, split = photograph.source.scene, photograph.source.split
        pictures: list[tuple[str, str, str, Pixels]] = [
            ("real", REAL, split, photograph.pixels),
            ("ai", GENERATOR, split, made[GENERATOR][index]),
        ]
        if split == "test":
            pictures.append(("ai", OOD_GENERATOR, "ood", made[OOD_GENERATOR][index]))
        for y, x in tile_places(photograph.pixels, config):
            name = f"{scene}/{photograph.name}_{y:04d}_{x:04d}{_TILE}"
            for label, source, where, pixels in pictures:
                cut = _cut(pixels, y, x, config.tile)
                yield Tile(f"{label}/{source}/{name}", label, source, where, scene, cut)


def _write(
    folder: Folder,
    config: DemoConfig,
    photographs: Sequence[Photograph],
    made: Mapping[str, Sequence[Pixels]],
    body: Mapping[str, Any],
) -> None:
    """Write tiles, list and, last, the manifest; what a killed attempt with other settings left is removed."""
    tiles = list(_tiles(config, photographs, made))
    counts = Counter((tile.split, tile.source) for tile in tiles)
    entries = [_put(folder, tile.path, _png(tile.pixels)) for tile in progress(tiles, "tiles", unit="tile")]
    entries.append(_put(folder, LIST, _list(tiles)))
    for path in leftovers(folder, [entry.path for entry in entries]):
        folder.remove(path)
    counted = {split: {s: n for (where, s), n in sorted(counts.items()) if where == split} for split, _ in counts}
    publish(folder, MANIFEST, {**body, "counts": counted, "files": file_entries(entries)})
    summary = ", ".join(f"{split} {sum(by_source.values()):,}" for split, by_source in counted.items())
    say(f"demo: {folder.uri}: {len(tiles):,} tiles ({summary})")


def _put(folder: Folder, path: str, data: bytes) -> FileEntry:
    folder.put(path, data)
    return FileEntry(path, len(data), hashlib.sha256(data).hexdigest())


def _png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _list(tiles: Sequence[Tile]) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    writer.writerows([getattr(tile, column) for column in _COLUMNS] for tile in tiles)
    return text.getvalue().encode("utf-8")


if __name__ == "__main__":
    raise SystemExit(run_command(main))
