"""What the tests of detection share: a small real bundle, and pictures whose class it knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.datasets import make_dataset


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with raw/ (6 real, 6 AI pictures), dataset/ and model/; not to be changed."""
    folder = tmp_path_factory.mktemp("run")
    manifest = make_dataset(folder / "dataset", {"train": 2, "test": 4})
    make_bundle(folder / "model", dataset=manifest)
    return folder


@pytest.fixture(scope="session")
def bundle(run: Path) -> Path:
    """The bundle's folder; not to be changed."""
    return run / "model"


@pytest.fixture(scope="session")
def real(run: Path) -> bytes:
    """A real picture's file."""
    return (run / "raw/real/camera/test-00000.jpg").read_bytes()


@pytest.fixture(scope="session")
def ai(run: Path) -> bytes:
    """An AI-generated picture's file."""
    return (run / "raw/ai/generator/test-00000.png").read_bytes()
