"""What the tests of training share: one small run folder, trained once."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.runs import make_run, train


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder ready for training; not to be written to."""
    return make_run(tmp_path_factory.mktemp("prepared") / "run", {"train": 40, "val": 17})


@pytest.fixture
def fresh(prepared: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(prepared, tmp_path / "run"))


@pytest.fixture(scope="session")
def finished(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same folder after training, with `model/` and `logs/`; not to be written to."""
    run = Path(shutil.copytree(prepared, tmp_path_factory.mktemp("finished") / "run"))
    assert train(run) == 0
    return run


@pytest.fixture
def finished_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the trained folder that a test may change."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


@pytest.fixture(scope="session")
def flip_byte() -> Callable[[Path, int], None]:
    """Changes the byte at a place of a file."""

    def flip(path: Path, place: int) -> None:
        data = bytearray(path.read_bytes())
        data[place] ^= 0xFF
        path.write_bytes(data)

    return flip
