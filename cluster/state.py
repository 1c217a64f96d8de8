"""What one command tells the next: ports, process ids and links, in `cluster.json` of the data folder."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from cluster.network import Network
from cluster.ports import choose
from cluster.processes import Started
from cluster.roles import HOST, ROLES
from pipeline.errors import StorageError, UsageError

__all__ = ["State", "load", "locked", "new", "save"]

_NAME: Final = "cluster.json"


@dataclass
class State:
    """What is kept.

    Attributes:
        ports: by role, the port of each of its variables.
        started: by role, the process started last, whether it still runs or not.
        links: where the start scripts find the data folder, Hadoop and Spark under names without blanks.
        network: the nodes' own, if they have one.
    """

    ports: dict[str, dict[str, int]]
    started: dict[str, Started] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    network: Network | None = None

    def host(self, role: str | None = None) -> str:
        """The address of a daemon, or that of this machine on the network of all of them."""
        if self.network is None:
            return HOST
        return self.network.nodes.get(role or "", self.network.host)

    def at(self, role: str, port: str) -> str:
        """Host and port, of the port's variable."""
        return f"{self.host(role)}:{self.ports[role][port]}"

    def page(self, role: str) -> str:
        """Where a daemon answers HTTP."""
        return f"http://{self.at(role, ROLES[role].page)}"

    def pages(self) -> dict[str, str]:
        """The same, by role."""
        return {role: self.page(role) for role in ROLES}

    def running(self, role: str) -> psutil.Process | None:
        """A daemon's process, if it runs."""
        started = self.started.get(role)
        return started.process() if started else None


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Let one command at a time change a cluster.

    Raises:
        StorageError: the folder cannot be written.
        UsageError: another command is at it.
    """
    try:
        data.mkdir(parents=True, exist_ok=True)
        lock = (data / ".lock").open("w")
    except OSError as error:
        raise StorageError(
            f"{data} cannot be written ({error.strerror}). Choose another folder with --data."
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"another command starts or stops the cluster in {data}. Wait for it to end.") from None
        yield


def load(data: Path) -> State | None:
    """What an earlier command left, if any.

    Raises:
        StorageError: the file is not ours or not whole.
    """
    path = data / _NAME
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if set(kept["ports"]) != set(ROLES):
            raise ValueError("other daemons")
        started = {name: Started(**values) for name, values in kept["started"].items()}
        return State(kept["ports"], started, kept["links"], _network(kept.get("network")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StorageError(
            f"{path} is not readable as a cluster's state ({error}). Remove {data} and start anew."
        ) from error


def new() -> State:
    """A state with free ports and nothing started.

    Raises:
        SetupError: not enough ports are free.
    """
    free = iter(choose(sum(len(role.ports) for role in ROLES.values())))
    return State({role.name: {name: next(free) for name in role.ports} for role in ROLES.values()})


def save(data: Path, state: State) -> None:
    """Keep it, in one step.

    Raises:
        StorageError: the folder cannot be written.
    """
    scratch = data / f".{_NAME}.{os.getpid()}"
    try:
        scratch.write_text(json.dumps(asdict(state), indent=1), encoding="utf-8")
        scratch.replace(data / _NAME)
    except OSError as error:
        raise StorageError(f"{data / _NAME} cannot be written ({error.strerror}). Free space there.") from error


def _network(values: dict[str, Any] | None) -> Network | None:
    if values is None:
        return None
    holders = {name: Started(**value) for name, value in values["holders"].items()}
    return Network(values["host"], values["nodes"], holders)
