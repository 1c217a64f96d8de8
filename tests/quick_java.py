"""Spark's Java for tests: short jobs in half the processor time.

    python -m tests.quick_java      makes the archive of Spark's classes (scripts/check does, while it checks style)

What a job of seconds costs is mostly Java's start: thousands of classes read and verified, and a compiler that prepares
for hours of work. So only the quick compiler works (as in cluster/'s daemons), one thread collects garbage, and classes
come from an archive. Java checks that the archive fits the JARs, the options and itself, and goes on without one that
does not, or that is not there. Jobs compute the same either way; benchmarks/ and users start Java as Spark does.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Final

__all__ = ["environment"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_ARCHIVE: Final = _ROOT / ".cache" / "tests" / "spark.jsa"
_OPTIONS: Final = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"


def environment() -> dict[str, str]:
    """The variables of `spark-submit` that ask for it."""
    return {"SPARK_LAUNCHER_OPTS": _OPTIONS, "SPARK_SUBMIT_OPTS": _driver_options("SharedArchiveFile", _ARCHIVE)}


def _driver_options(what: str, archive: Path) -> str:
    """Without Java's log: it would tell on standard output that it goes on without the archive."""
    return f'{_OPTIONS} "-XX:{what}={archive}" -Xlog:disable'


def main() -> None:
    """Make the archive: the classes that an ingest has loaded when it ends.

    Raises:
        SystemExit: the ingest failed, or this Java makes none.
    """
    from tests.datasets import make_dataset  # imports much; tests/conftest.py asks for the variables alone

    _ARCHIVE.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_ARCHIVE.parent) as scratch:
        made = Path(scratch, _ARCHIVE.name)
        make_dataset(Path(scratch, "unused"), {"train": 8}, raw=Path(scratch, "raw"))
        words = ["spark-submit", "--master", "local[2]", "--driver-memory", "1g", "spark_jobs/ingest.py"]
        words += ["--input", f"{scratch}/raw", "--output", f"{scratch}/dataset"]
        variables = {**os.environ, **environment(), "SPARK_SUBMIT_OPTS": _driver_options("ArchiveClassesAtExit", made)}
        done = subprocess.run(words, check=False, cwd=_ROOT, env=variables, capture_output=True, text=True)
        if done.returncode or not made.exists():
            raise SystemExit(f"error: no archive of Spark's classes was made.\n{done.stdout}{done.stderr}")
        made.replace(_ARCHIVE)


if __name__ == "__main__":
    main()
