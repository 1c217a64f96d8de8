"""Ports that are free on loopback, below those that the system hands out by itself."""

from __future__ import annotations

import random
import socket
import time
from typing import Final

from cluster.roles import HOST
from pipeline.errors import SetupError

__all__ = ["choose", "wait_free"]

# Above well-known servers; below Linux's own choices (from 32768), which might take one while a daemon is down.
_RANGE: Final = range(20000, 32000)


def _is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        # As Java's servers do: a connection that has just ended does not hold its port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def wait_free(port: int, host: str = HOST, patience: float = 3.0) -> bool:
    """Whether a server could listen there, soon: threads of one that was just killed may hold it for a moment."""
    end = time.monotonic() + patience
    while not _is_free(port, host):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def choose(count: int) -> list[int]:
    """So many free ports, at random, so that two clusters that start at once hardly meet.

    Raises:
        SetupError: there are not as many.
    """
    found: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            return found
        if _is_free(port):
            found.append(port)
    raise SetupError(f"fewer than {count} ports between {_RANGE.start} and {_RANGE.stop} are free. End other servers.")
