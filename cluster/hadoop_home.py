"""A Hadoop home from Maven's JARs, made once a user and then kept.

What it holds follows from docker/hadoop (pom.xml, bin, web) alone: another content has another folder. No daemon is
started here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from cluster.roles import DOCKER
from pipeline.cli import say
from pipeline.errors import SetupError
from pipeline.java import check_java

__all__ = ["hadoop_home"]

_SOURCES = ("pom.xml", "bin", "web")


def hadoop_home() -> Path:
    """The folder with `bin/hadoop` and `share/hadoop`; made now if this user has none yet.

    Raises:
        SetupError: Java or Maven is missing, the JARs cannot be had, or the cache cannot be written.
    """
    check_java()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "telltale"
    home = cache / f"hadoop-{_version()}-{_fingerprint()[:12]}"
    if home.is_dir():
        return home
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # of several that need it at once, one fetches it
            if not home.is_dir():
                _make(home)
    except OSError as error:
        raise SetupError(f"{home} cannot be written ({error.strerror}). Free space, or set XDG_CACHE_HOME.") from error
    return home


def _version() -> str:
    found = re.search(r"<hadoop\.version>([\w.]+)<", (DOCKER / "hadoop" / "pom.xml").read_text(encoding="utf-8"))
    return found[1] if found else "unknown"


def _fingerprint() -> str:
    """A hash of all that goes into the home."""
    digest = hashlib.sha256()
    root = DOCKER / "hadoop"
    for source in _SOURCES:
        for path in sorted([root / source, *(root / source).rglob("*")]):
            if path.is_file():
                digest.update(f"{path.relative_to(root)}\n{os.access(path, os.X_OK)}\n".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _make(home: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=".making-", dir=home.parent) as scratch:
        made = Path(scratch) / "home"
        _fetch(made)
        shutil.copytree(DOCKER / "hadoop" / "bin", made / "bin", symlinks=True)
        shutil.copytree(DOCKER / "hadoop" / "web", made / "share" / "hadoop" / "hdfs")
        made.rename(home)


def _fetch(home: Path) -> None:
    """Let Maven copy the JARs."""
    if not shutil.which("mvn"):
        raise SetupError(
            "Maven not found: no `mvn` on the PATH. It fetches Hadoop's JARs, once. "
            "Install it (for example: apt-get install maven)."
        )
    say("cluster: fetching Hadoop's JARs with Maven (about 100 MB, once)")
    command = ["mvn", "-q", "-B", "-ntp", "-f", str(DOCKER / "hadoop" / "pom.xml"), "package", f"-Dhome={home}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("[ERROR]")]
        reason = said[0].removeprefix("[ERROR] ") if said else f"exit code {done.returncode}"
        raise SetupError(
            f"Maven could not fetch Hadoop's JARs: {reason}. See that it reaches its repository; run this again."
        )
