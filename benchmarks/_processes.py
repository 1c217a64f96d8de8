"""Commands as a user types them, measured from outside: seconds, processor time and memory of the whole process tree.

Memory is the proportional set size (Linux `smaps_rollup`): pages that forked workers share count once.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ROOT", "Measured", "load_average", "memory_of", "run", "user_environment"]

ROOT = Path(__file__).resolve().parent.parent
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_INTERVAL = 0.2  # seconds between two looks at the memory


@dataclass(frozen=True)
class Measured:
    """One run of a command.

    Attributes:
        seconds: by the clock.
        processor: seconds of all its processes on processors, user and system.
        memory: highest sum over all its processes, in bytes; 0 if it was not watched.
        java: highest sum over its Java processes.
        others: highest sum over its other processes.
        processes: how many these were at that moment.
        output: what it wrote to standard output.
        errors: what it wrote to standard error.
    """

    seconds: float
    processor: float
    memory: int
    java: int
    others: int
    processes: int
    output: str
    errors: str


@dataclass
class _Watch:
    """Looks at a process and its descendants until it is stopped."""

    root: int
    stop: threading.Event = field(default_factory=threading.Event)
    memory: int = 0
    java: int = 0
    others: int = 0
    processes: int = 0
    ticks: dict[tuple[int, str], int] = field(default_factory=dict)

    def watch(self) -> None:
        while not self.stop.wait(_INTERVAL):
            self._look()

    def _look(self) -> None:
        java = others = processes = 0
        for pid, (name, ticks, started) in _tree(self.root).items():
            self.ticks[pid, started] = ticks
            size = memory_of(pid)
            if name == "java":
                java += size
            elif size:
                others, processes = others + size, processes + 1
        self.memory, self.java = max(self.memory, java + others), max(self.java, java)
        self.others, self.processes = max((self.others, self.processes), (others, processes))


def run(command: Sequence[str], watch: bool = False, environment: Mapping[str, str] | None = None) -> Measured:
    """Run a command in the checkout's folder until it ends.

    Args:
        command: its words.
        watch: also measure memory, every 0.2 seconds. Where a process's parent ends first and takes its processor time
            with it, this also finds what was lost, to within those 0.2 seconds.
        environment: instead of `user_environment()`.

    Raises:
        RuntimeError: it failed; the message holds what it wrote to standard error.
    """
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        started = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment or user_environment(), stdout=output, stderr=errors
        )
        eye = _Watch(process.pid)
        thread = threading.Thread(target=eye.watch)
        if watch:
            thread.start()
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if watch:
            eye.stop.set()
            thread.join()
        texts = [_text(stream.fileno()) for stream in (output, errors)]
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{texts[1][-4000:]}")
    processor = max(usage.ru_utime + usage.ru_stime, sum(eye.ticks.values()) / _TICK)
    return Measured(seconds, processor, eye.memory, eye.java, eye.others, eye.processes, *texts)


def user_environment(base: Mapping[str, str] = os.environ) -> dict[str, str]:
    """An environment, this process's unless told, as after `source .venv/bin/activate`."""
    path = os.pathsep.join([str(Path(sys.executable).parent), base.get("PATH", os.defpath)])
    return {**base, "PATH": path}


def load_average() -> str:
    """A line: how busy the machine was just before, for whoever judges seconds by the clock."""
    return f"- Load when it began (the last minute's average): {os.getloadavg()[0]:.2f}"


def _text(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode(errors="replace")


def _tree(root: int) -> dict[int, tuple[str, int, str]]:
    """(name, ticks on a processor, start) of a process and all its descendants."""
    found, parents = {}, {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text()
        except OSError:  # it ended meanwhile
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        found[int(entry)] = (name, int(fields[11]) + int(fields[12]), fields[19])
        parents[int(entry)] = int(fields[1])
    tree = {root} & found.keys()
    while more := {pid for pid, parent in parents.items() if parent in tree and pid not in tree}:
        tree |= more
    return {pid: found[pid] for pid in tree}


def memory_of(pid: int) -> int:
    """Bytes of a process, its share of what it shares with others only."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:  # it ended meanwhile
        return 0
