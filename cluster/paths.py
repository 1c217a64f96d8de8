"""Names that scripts can bear: containers' commands pass through shells that split at blanks.

Where a folder's own name has a blank or another special character, a link to it stands in, in a folder of its own.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pipeline.errors import SetupError

__all__ = ["interpreter_folder", "plain", "remove_links", "spark_home"]

_PLAIN: Final = re.compile(r"[\w./+@=-]+", re.ASCII)
_PREFIX: Final = "telltale-cluster-"


def plain(folders: Mapping[str, Path], known: Mapping[str, str]) -> dict[str, str]:
    """A name without special characters for each folder.

    Args:
        folders: by key, the folders.
        known: what this function returned before; links in it that are still right are kept.
    """
    found: dict[str, str] = {}
    place: Path | None = None
    for key, folder in folders.items():
        before = Path(known.get(key, ""))
        if _PLAIN.fullmatch(str(folder)):
            found[key] = str(folder)
        elif before.is_symlink() and before.resolve() == folder.resolve():
            found[key] = str(before)
        else:
            place = place or Path(tempfile.mkdtemp(prefix=_PREFIX))
            (place / key).symlink_to(folder, target_is_directory=True)
            found[key] = str(place / key)
    return found


def remove_links(known: Mapping[str, str]) -> None:
    """Remove the links, and nothing that they point to."""
    for name in known.values():
        path = Path(name)
        if path.is_symlink() and path.parent.name.startswith(_PREFIX):
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()


def spark_home() -> Path:
    """The folder of pyspark, which is a Spark home.

    Raises:
        SetupError: it is not installed.
    """
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise SetupError("pyspark is not installed: install the extra with `pip install 'telltale[spark]'`.")
    return Path(found.origin).parent


def interpreter_folder(folder: Path) -> None:
    """Fill a folder with this Python under its usual names, without the packages of this environment.

    Containers find it on their path: a job that forgot to bring a library along is to fail here as on any cluster.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    program = Path(sys.executable).resolve()
    for name in ("python", "python3", f"python3.{sys.version_info.minor}"):
        (folder / name).symlink_to(program)
