"""Starting a daemon, knowing it again, and ending it: by its process id and start time, never by a name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

__all__ = ["Started", "end_all", "leftovers", "start"]

_GRACE: Final = 15.0  # seconds between asking a daemon to end and ending it
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
            same = abs(found.create_time() - self.created) < 1
            if same and found.status() != psutil.STATUS_ZOMBIE:
                return found
            if same:
                found.wait(0)  # ours, and nobody has asked how it ended
        except psutil.Error:
            pass
        return None


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
    """Ask all of them to end, and end those that have not after a while."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for process in processes:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        _, processes = psutil.wait_procs(processes, timeout=grace)
        if not processes:
            return
