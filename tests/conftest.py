"""What every test may ask for, and what the whole test run agrees on.

No room's own fixtures: those live in the room's folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import quick_java

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
_CLUSTER_TESTS = "tests/cluster/"
NO_SHARED = "needs the pictures kept beside the checkout, in ../shared"

# Tests type the user's commands (spark-submit, telltale): these, and the workers Spark starts, are to be this
# environment's, whether it is active or not.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
for name in ("PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", "SPARK_HOME"):
    os.environ.pop(name, None)
os.environ.update(quick_java.environment())

# The same examples on every run: a failure in CI is a failure here.
settings.register_profile("telltale", deadline=None, derandomize=True, database=None)
settings.load_profile("telltale")


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of pictures and weights kept beside the checkout; the test is skipped where it is absent."""
    if not (SHARED / "data").is_dir():
        pytest.skip(NO_SHARED)
    return SHARED


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each test process whole files, and all that needs the daemons to one of them: there is to be one cluster."""
    from xdist.scheduler import LoadFileScheduling

    class OneCluster(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return _CLUSTER_TESTS if file.startswith(_CLUSTER_TESTS) else file

    return OneCluster(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what is marked `gpu` where there is no CUDA device, and `shared` where ../shared is absent.

    Test processes take whole files in the order given here: those with slow tests first, or the last of them would run
    alone at the end.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow and not item.nodeid.startswith(_CLUSTER_TESTS))
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if on_gpu and not _has_cuda():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
    if not (SHARED / "data").is_dir():
        for item in items:
            if item.get_closest_marker("shared"):
                item.add_marker(pytest.mark.skip(reason=NO_SHARED))


def _has_cuda() -> bool:
    import torch  # seconds to import, so only once a test asks for a GPU

    return torch.cuda.is_available()


@contextmanager
def small_disk(place: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many MiB in a new folder; the test is skipped where mounting one is not allowed."""
    place.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place)]
    if (
        shutil.which("mount") is None
        or subprocess.run(["mount", *options], capture_output=True, check=False).returncode
    ):
        pytest.skip("mounting a small file system needs root")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB, to run out of."""
    with small_disk(tmp_path / "tiny disk", 1) as place:
        yield place
