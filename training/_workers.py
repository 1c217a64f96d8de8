"""The processes behind a loader: how they are started, and what torch's DataLoader needs to survive their death.

This module must not know what they load.
"""

from __future__ import annotations

import atexit
import ctypes
import multiprocessing
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from typing import Any, Final

__all__ = ["DEATHS", "Context", "more_workers_than_cores", "start_worker"]

DEATHS: Final = ("DataLoader worker", "Pin memory thread")
"""How torch's messages begin when a worker has died: the thread goes with it."""
# One server forks for all loaders, and heeds the last list it was given.
_PRELOADED: Final = {"training._ignores_sigterm": None, "training.rows": None}


def start_worker(number: int) -> None:
    """A signal may go to every process of a run; the trainer decides what happens then, not its loaders."""
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)


@atexit.register
def _end_workers() -> None:
    """The trainer ends with an epoch half read: multiprocessing would send SIGTERM and wait."""
    workers = [child for child in multiprocessing.active_children() if child.daemon]
    if workers:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises when a worker was killed
    for worker in workers:
        worker.kill()


@contextmanager
def more_workers_than_cores() -> Iterator[None]:
    """torch warns of it; it is the user's choice, and the batches are the same."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create", category=UserWarning)
        yield


class Context(ForkServerContext):
    """Forking a process with threads can deadlock; a server that has torch loaded forks workers in no time.

    Its events have no lock. DataLoader's end sets one that every worker asks for each batch: a worker killed while it
    asked would keep the lock for ever, and the trainer with it.
    """

    def __init__(self, *modules: str) -> None:
        super().__init__()
        _PRELOADED.update(dict.fromkeys(modules))
        self.set_forkserver_preload(list(_PRELOADED))

    def Event(self) -> Any:  # noqa: N802 - multiprocessing's name
        return _Flag(self.RawValue(ctypes.c_bool, False))


@dataclass(frozen=True)
class _Flag:
    """What DataLoader needs of an event: a byte in shared memory, set once."""

    value: Any

    def set(self) -> None:
        self.value.value = True

    def is_set(self) -> bool:
        return bool(self.value.value)
