"""Starting a daemon, knowing it again, and ending it: by its process id and start time, never by a name."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

__all__ = ["Started", "end_all", "last_words", "leftovers", "send", "start"]

_GRACE: Final = 15.0  # seconds between asking a daemon to end and ending it
_TELLING: Final = re.compile(r"\b(?:ERROR|FATAL)\b|Exception\b|Error:|[Cc]annot|render:|daemon:")
_MARKS: Final = ("CONTAINER_ID", "SPARK_EXECUTOR_DIRS")  # what YARN and Spark give to all that they start


@dataclass(frozen=True)
class Started:
    """A process that was started.

    Attributes:
        pid: its process id.
        created: when it started, seconds since 1970; no other process has both.
        logged: how many bytes its log held before.
    """

    pid: int
    created: float
    logged: int

    def process(self) -> psutil.Process | None:
        """The process, if it still runs."""
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.created) >= 1:
                return None
        except psutil.Error:
            return None
        return None if _ended(found) else found


def start(command: list[str], environment: Mapping[str, str], log: Path) -> Started:
    """Start a process in a session of its own, which outlives this one; its output is added to a file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), flags, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    logged = log.stat().st_size if log.exists() else 0
    pid = os.posix_spawn(command[0], command, environment, file_actions=actions, setsid=True)
    return Started(pid, psutil.Process(pid).create_time(), logged)


def last_words(log: Path, started: Started) -> str:
    """The last lines with which a process said why it ended, in one line."""
    with log.open("rb") as whole:
        whole.seek(started.logged)
        lines = [line.strip() for line in whole.read().decode(errors="replace").splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.search(line) and not line.startswith("at ")]
    return " | ".join((telling or lines or ["it wrote nothing"])[-3:])


def leftovers(folders: Iterable[Path]) -> list[psutil.Process]:
    """What YARN's and Spark's nodes started below these folders, and is still there: after a node was killed.

    A shell that somebody opened in such a folder is none of them.
    """
    roots = [str(folder.resolve()) + os.sep for folder in folders]
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or not process.cwd().startswith(tuple(roots)):
                continue
            if any(mark in process.environ() for mark in _MARKS):
                found.append(process)
        except psutil.Error:
            continue  # gone, or somebody else's
    return found


def end_all(processes: Sequence[psutil.Process], grace: float = _GRACE) -> None:
    """Ask all of them to end, and end those that have not after a while (seconds)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        processes = send(processes, number, grace)


def send(processes: Sequence[psutil.Process], number: int, patience: float) -> list[psutil.Process]:
    """Send all of them a signal and wait, so many seconds at most, until they are gone.

    Returns:
        Those that still run.
    """
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)
    end = time.monotonic() + patience
    left = [process for process in processes if not _ended(process)]
    while left and time.monotonic() < end:
        time.sleep(0.05)
        left = [process for process in left if not _ended(process)]
    return left


def _ended(process: psutil.Process) -> bool:
    """Whether it has ended, if nobody else asked how (as an idle process 1 in a container may never do)."""
    try:
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
            return False
        process.wait(0)  # a child of ours is taken off the list of processes
    except psutil.Error:
        pass
    return True
