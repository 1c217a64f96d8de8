"""How long `telltale predict` takes for one picture from a cold start, and how many pictures a second it does then.

    python -m benchmarks.predict             prints the tables and writes benchmarks/results/predict.md

EfficientNet-B1 at 240 px with random weights, which take as long as trained ones. Beside it, in the same run and in
turns: a bare script that loads the same ONNX file and scores the same pictures without any check, and the same with
torch and timm. Every run is a process of its own; files are in the page cache. What the start-up is spent on is printed
too, but not written. About three minutes on two cores; the first run makes the bundle, which takes torch.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from benchmarks._common import median, spread, table, tile, write_result
from benchmarks._processes import ROOT, Measured, load_average, run, user_environment
from benchmarks._random_bundle import ARCHITECTURE, random_bundle
from pipeline.bundle import MODEL_ONNX, MODEL_SAFETENSORS
from pipeline.cli import say

CACHE = ROOT / ".cache" / "benchmarks"
SIDE = 240
PICTURE = (1280, 960)
CRITERION = 1.0  # seconds
PACKAGES = ("onnxruntime", "numpy", "pillow", "simplejpeg", "pydantic", "torch", "timm")

PREPARE = f"""\
import sys
import numpy as np
from PIL import Image

def pixels(path):
    image = Image.open(path).convert("RGB")
    scale = {SIDE} / min(image.size)
    image = image.resize([max({SIDE}, round(side * scale)) for side in image.size], Image.Resampling.LANCZOS)
    left, top = (image.width - {SIDE}) // 2, (image.height - {SIDE}) // 2
    return np.asarray(image.crop((left, top, left + {SIDE}, top + {SIDE})))[None]
"""
"""The pictures as a bare script prepares them: resized and cropped alike, but neither checked nor harmonised."""

BARE = f"""{PREPARE}
import onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
for path in sys.argv[2:]:
    print(1 / (1 + np.exp(-session.run(["logit"], {{"pixels": pixels(path)}})[0][0])))
"""

TORCH = f"""{PREPARE}
import timm, torch
from safetensors.torch import load_file
weights = load_file(sys.argv[1])
model = timm.create_model("{ARCHITECTURE}", num_classes=1).eval()
model.load_state_dict({{k.removeprefix("backbone."): v for k, v in weights.items() if k.startswith("backbone.")}})
with torch.inference_mode():
    for path in sys.argv[2:]:
        square = (torch.from_numpy(pixels(path).copy()).float() / 255 - weights["mean"]) / weights["std"]
        print(float(model(square.permute(0, 3, 1, 2))[0, 0].sigmoid()))
"""

TELLTALE, TELLTALE_TABLE = "telltale predict --json", "telltale predict"
BARE_NAME, TORCH_NAME = "bare ONNX Runtime script", "bare torch + timm script"


def commands(bundle: Path) -> dict[str, list[str]]:
    """Everything that is compared; the pictures go at the end."""
    telltale = str(Path(sys.executable).with_name("telltale"))
    found = {
        TELLTALE: [telltale, "predict", "--bundle", str(bundle), "--json"],
        TELLTALE_TABLE: [telltale, "predict", "--bundle", str(bundle)],
        BARE_NAME: [sys.executable, "-c", BARE, str(bundle / MODEL_ONNX)],
    }
    if all(importlib.util.find_spec(name) for name in ("torch", "timm", "safetensors")):
        found[TORCH_NAME] = [sys.executable, "-c", TORCH, str(bundle / MODEL_SAFETENSORS)]
    return found


def pictures(folder: Path, count: int) -> list[Path]:
    """Parts of photographs as JPEG files, made where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04d}.jpg" for number in range(count)]
    for number, path in enumerate(paths):
        if not path.exists():
            Image.fromarray(tile(number, *PICTURE)).save(path, quality=90)
    return paths


def in_turns(chosen: dict[str, list[str]], paths: Sequence[Path], rounds: int) -> dict[str, list[Measured]]:
    """Runs of each command on the pictures; one more each before, which only fills the page cache."""
    words = [str(path) for path in paths]
    for command in chosen.values():
        run([*command, words[0]])
    measured: dict[str, list[Measured]] = {name: [] for name in chosen}
    for _ in range(rounds):
        for name, command in chosen.items():
            measured[name].append(run([*command, *words]))
    return measured


def cold_rows(measured: dict[str, list[Measured]]) -> list[list[object]]:
    """A row a command: seconds by the clock, on processors, and both against the bare script's."""
    base = measured[BARE_NAME]
    rows: list[list[object]] = []
    for name, runs in measured.items():
        clock, processor = ([getattr(one, key) for one in runs] for key in ("seconds", "processor"))
        rows.append(
            [
                name,
                f"{median(clock):.2f}",
                spread(clock, ".2f"),
                f"{median(processor):.2f}",
                f"{median(clock) / median([one.seconds for one in base]):.2f}",
                f"{median(processor) / median([one.processor for one in base]):.2f}",
            ]
        )
    return rows


def warm_rows(one: dict[str, list[Measured]], many: dict[str, list[Measured]], count: int) -> list[list[object]]:
    """A row a command: what each further picture takes, the run with one picture taken off."""
    rows: list[list[object]] = []
    rates: dict[str, float] = {}
    for name, runs in many.items():
        clock, processor = (
            (median([getattr(r, key) for r in runs]) - median([getattr(r, key) for r in one[name]])) / (count - 1)
            for key in ("seconds", "processor")
        )
        rates[name] = 1 / clock
        rows.append([name, f"{rates[name]:.1f}", f"{processor * 1000:.1f}"])
    return [[*row, f"{rates[str(row[0])] / rates[BARE_NAME]:.2f}"] for row in rows]


def answers(measured: dict[str, list[Measured]]) -> str:
    """What each command says of the picture: the same but for harmonising."""
    said = {TELLTALE: str(json.loads(measured[TELLTALE][0].output)["ai_probability"])}
    said |= {name: runs[0].output.strip() for name, runs in measured.items() if name in (BARE_NAME, TORCH_NAME)}
    return ", ".join(f"{name} {float(value):.5f}" for name, value in said.items())


def import_times(command: Sequence[str], count: int = 25) -> list[str]:
    """The imports that take longest, what they import themselves included, in the words of `python -X importtime`."""
    taken = run([sys.executable, "-X", "importtime", *command], environment=user_environment())
    found = []
    for line in taken.errors.splitlines():
        cells = line.removeprefix("import time:").split("|")
        if len(cells) == 3 and cells[1].strip().isdigit():
            found.append((int(cells[1]), cells[2].rstrip()))
    return [f"{micro / 1000:8.1f} ms {name}" for micro, name in sorted(found, reverse=True)[:count]]


def report(one: dict[str, list[Measured]], many: dict[str, list[Measured]], count: int, load: str) -> list[str]:
    """The result's lines."""
    seconds = median([run_.seconds for run_ in one[TELLTALE_TABLE]])
    met = "met" if seconds <= CRITERION else "NOT met"
    width, height = PICTURE
    head = ["", "median s", "lowest to highest", "processor s", "to the bare script", "processor to the bare script"]
    return [
        load,
        "",
        f"{ARCHITECTURE} at {SIDE} px with random weights; JPEG files of {width} × {height} px, quality 90. Medians of "
        f"{len(one[TELLTALE])} runs, in turns, each a process of its own, files in the page cache. Processor: user and "
        "system time of all threads together.",
        "",
        "## One picture, from the start of the process to its end",
        "",
        *table(head, cold_rows(one)),
        "",
        f"The criterion, at most {CRITERION:.1f} s on two idle cores: {met} ({seconds:.2f} s). What they say of the "
        "picture: "
        f"{answers(one)}; the bare scripts neither check the model's or the picture's bytes nor harmonise.",
        "",
        f"## A folder of {count} pictures",
        "",
        *table(
            ["", "pictures a second", "processor ms a picture", "rate to the bare script"], warm_rows(one, many, count)
        ),
        "",
        f"Medians of {len(many[TELLTALE])} runs, the run with one picture taken off. The bare scripts take one "
        "picture after the other and leave the "
        "number of threads to the engine; telltale runs pictures side by side.",
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.predict")
    parser.add_argument("--rounds", type=int, default=9, help="runs with one picture")
    parser.add_argument("--folder", type=int, default=200, metavar="N", help="pictures in the folder")
    parser.add_argument("--folder-rounds", type=int, default=3, help="runs with the folder")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    if min(given.rounds, given.folder_rounds) < 1 or given.folder < 2:
        parser.error("at least one round, and two pictures in the folder")
    bundle = random_bundle(CACHE / f"{ARCHITECTURE}-{SIDE}", SIDE)
    paths = pictures(CACHE / "photographs", given.folder)
    load, chosen = load_average(), commands(bundle)
    one = in_turns(chosen, paths[:1], given.rounds)
    many = in_turns({name: chosen[name] for name in chosen if name != TELLTALE_TABLE}, paths, given.folder_rounds)
    lines = report(one, many, given.folder, load)
    write_result("predict", "telltale predict", lines, PACKAGES, write=not given.no_write)
    say("The imports of telltale predict that take longest (not written):")
    say("\n".join(import_times([*chosen[TELLTALE], str(paths[0])])))


if __name__ == "__main__":
    main()
