"""What the tests of faults share: commands that run while something is broken, and the processes of containers."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar

import psutil

from cluster import Cluster
from tests.conftest import ROOT
from tests.runs import kill_tree

__all__ = ["NODES", "containers", "finished", "started", "wait_for"]

T = TypeVar("T")

NODES = ("nodemanager-1", "nodemanager-2")
PATIENCE = 240.0  # seconds, on a busy machine


@contextmanager
def started(cluster: Cluster, *command: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """A command at work on the cluster, in a session of its own; whatever is left of it at the end is killed."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**cluster.environment(), **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            kill_tree(process.pid)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def finished(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of a command, once it has ended by itself."""
    out, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err, err
    return process.returncode, out, err


def wait_for(look: Callable[[], T], process: subprocess.Popen[str]) -> T:
    """The first thing that `look` finds while a command is at work."""
    deadline = time.monotonic() + PATIENCE
    while not (found := look()):
        assert process.poll() is None, f"the command ended too early: {process.communicate()}"
        assert time.monotonic() < deadline, "nothing to break was found"
        time.sleep(0.05)
    return found


def containers(cluster: Cluster, role: str, word: str) -> list[psutil.Process]:
    """The processes below a node's folder whose command line has a word in it."""
    below = str(cluster.folder(role).resolve()) + os.sep
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cwd().startswith(below) and word in " ".join(process.cmdline()):
                found.append(process)
    return found
