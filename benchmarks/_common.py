"""What the benchmarks share: pictures, the machine in words, interleaved timing, and the files of results.

A benchmark compares in one run on one machine and states ratios. `benchmarks/results/<name>.md` holds the last one
committed, with its command. Nothing here may be imported by a room.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["cut", "interleaved", "machine", "median", "spread", "table", "tile", "without_folders", "write_result"]

RESULTS = Path(__file__).resolve().parent / "results"


@lru_cache
def _photographs() -> tuple[Image.Image, ...]:
    from skimage import data
    from sklearn.datasets import load_sample_images

    ours = (data.astronaut(), data.chelsea(), data.coffee(), data.rocket(), *load_sample_images().images)
    return tuple(Image.fromarray(np.asarray(picture)) for picture in ours)


def tile(seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """Part of a real photograph, uint8 (height, width, 3): another scale, place, light and sensor noise for each seed.

    The photographs are those inside scikit-image and scikit-learn.
    """
    return cut(_photographs(), seed, width, height)


def cut(photographs: Sequence[Image.Image], seed: int, width: int, height: int) -> NDArray[np.uint8]:
    """`tile`, of these photographs."""
    rng = np.random.default_rng(seed)
    photograph = photographs[int(rng.integers(len(photographs)))]
    share = rng.uniform(0.5, 1.0) * min(photograph.width / width, photograph.height / height)
    across, down = width * share, height * share
    left, top = rng.uniform(0, photograph.width - across), rng.uniform(0, photograph.height - down)
    part = photograph.resize((width, height), Image.Resampling.LANCZOS, (left, top, left + across, top + down))
    pixels = np.asarray(part, np.float32) * rng.uniform(0.8, 1.1) + rng.uniform(-10, 10)
    pixels += rng.standard_normal(pixels.shape, np.float32) * rng.uniform(0, 3)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def machine(packages: Sequence[str]) -> list[str]:
    """Lines about processor, memory, Python and the packages measured."""
    processor = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return [
        f"- Processor: {processor}, {len(os.sched_getaffinity(0))} cores; memory {memory:.0f} GiB",
        f"- Python {platform.python_version()}, {platform.system()} {platform.machine()}; {versions}",
    ]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def interleaved(
    jobs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each job in each round; a round runs every job once, so that a busy spell meets all of them.

    Args:
        jobs: what to run, by name.
        rounds: how often.
        clock: `time.process_time` for what runs in this process alone, on a machine that is not idle.
    """
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            started = clock()
            job()
            seconds[name].append(clock() - started)
    return seconds


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return statistics.median(values)


def spread(values: Sequence[float], form: str = ".1f") -> str:
    """Lowest and highest, as text."""
    return f"{min(values):{form}} to {max(values):{form}}"


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """Lines of a Markdown table; the first column is text, the others align right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(str(cell) for cell in row) + " |" for row in (head, rule, *rows)]


def without_folders(word: str) -> str:
    """A word of a command, an absolute path in it cut to its last name: where files lie is a machine's own affair."""
    option, equals, value = word.rpartition("=")
    return f"{option}{equals}{Path(value).name}" if value.startswith("/") else word


def write_result(name: str, title: str, lines: Sequence[str], packages: Sequence[str], write: bool = True) -> None:
    """Print a result, and put it into `benchmarks/results/<name>.md` with the command and the machine."""
    words = [Path(sys.executable).name, "-m", f"benchmarks.{name}", *map(without_folders, sys.argv[1:])]
    text = "\n".join([f"# {title}", "", f"- Command: `{' '.join(words)}`", *machine(packages), "", *lines, ""])
    print(text)
    if write:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.md").write_text(text, encoding="utf-8")
