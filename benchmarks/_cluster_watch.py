"""Memory of a cluster while a command uses it: of each daemon, and of all containers together."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._processes import memory_of
from cluster import ROLES, Cluster

__all__ = ["Peaks", "watching"]

_INTERVAL = 0.5  # seconds


@dataclass
class Peaks:
    """The highest memory seen, in bytes.

    Attributes:
        daemons: by role.
        containers: of all of them at one moment; executors of the standalone Spark are among them.
        largest: of one process in a container.
        processes: how many there were at once.
    """

    daemons: dict[str, int] = field(default_factory=dict)
    containers: int = 0
    largest: int = 0
    processes: int = 0


@contextmanager
def watching(cluster: Cluster) -> Iterator[Peaks]:
    """Look until the block ends."""
    peaks, stop = Peaks(), threading.Event()
    daemons = {pid: role for role in ROLES if (pid := cluster.pid(role))}

    def watch() -> None:
        while not stop.wait(_INTERVAL):
            _look(cluster.data.resolve(), daemons, peaks)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peaks
    finally:
        stop.set()
        thread.join()


def _look(data: Path, daemons: Mapping[int, str], peaks: Peaks) -> None:
    for pid, role in daemons.items():
        peaks.daemons[role] = max(peaks.daemons.get(role, 0), memory_of(pid))
    sizes = [memory_of(pid) for pid in _below(data) if pid not in daemons]
    peaks.containers = max(peaks.containers, sum(sizes))
    peaks.largest = max([peaks.largest, *sizes])
    peaks.processes = max(peaks.processes, len(sizes))


def _below(folder: Path) -> Iterator[int]:
    """The processes whose working folder lies in a folder."""
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                place = os.readlink(f"/proc/{entry}/cwd")
            except OSError:  # it ended meanwhile
                continue
            if place.startswith(f"{folder}{os.sep}"):
                yield int(entry)
