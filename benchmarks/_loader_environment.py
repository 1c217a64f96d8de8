"""The environment in which `loader` runs every loader, ours too: made once and kept under .cache/benchmarks/.

The other loaders do not fit into the environment of this checkout (loaders/constraints.txt says why). They get one of
their own that falls back on ours, by a .pth file, for whatever it does not hold itself: torch is not installed twice.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from benchmarks._processes import ROOT
from benchmarks._train_shards import CACHE
from pipeline.cli import say

__all__ = ["quiet_environment", "versions", "with_loaders"]

_VERSIONS = ROOT / "benchmarks" / "loaders" / "constraints.txt"
_FALLBACK = "zz-telltale.pth"  # Python adds what .pth files name after the environment's own packages


def with_loaders(folder: Path = CACHE / "loaders-venv") -> str:
    """The interpreter of the environment; it is made where it is missing or of other versions.

    Raises:
        SystemExit: pip cannot have the packages.
    """
    python, stamp, wanted = str(folder / "bin" / "python"), folder / ".installed", _wanted()
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    say(f"loader: making {folder} (some minutes)")
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    packages = _run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]).strip()
    Path(packages, _FALLBACK).write_text("\n".join(_ours()) + "\n")
    _run([python, "-m", "pip", "install", "--quiet", "--no-input", "--no-deps", "--requirement", str(_VERSIONS)])
    stamp.write_text(wanted)
    return python


def versions(python: str, packages: Sequence[str]) -> str:
    """The packages with their versions in an environment."""
    text = "import importlib.metadata as m, sys; print(', '.join(f'{n} {m.version(n)}' for n in sys.argv[1:]))"
    return _run([python, "-c", text, *packages]).strip()


def quiet_environment() -> dict[str, str]:
    """For the loaders' processes: nothing is fetched, no bar is drawn, no thread spins (as in `training.run`)."""
    own = {
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HOME": str(CACHE / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONWARNINGS": "ignore",
    }
    return os.environ | own


def _ours() -> list[str]:
    return sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")})


def _wanted() -> str:
    """A digest of what the environment follows from."""
    return hashlib.sha256(repr((_VERSIONS.read_text(), sys.version, _ours())).encode()).hexdigest()


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
