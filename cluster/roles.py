"""The daemons of the cluster, and the environment that each is started with.

What the variables mean is docker/cluster.env's to say; this file only puts loopback, free ports and small heaps in
place of what a composed cluster has. It must not start anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pipeline.errors import SetupError

__all__ = ["DOCKER", "HOST", "ROLES", "Role", "defaults", "shared_variables"]

DOCKER: Final = Path(__file__).resolve().parent.parent / "docker"
"""The folder of configuration templates and start scripts, shared with the composed cluster."""

HOST: Final = "127.0.0.1"


@dataclass(frozen=True)
class Role:
    """One daemon.

    Attributes:
        name: its name here, and that of its folder and log.
        kind: what `docker/bin/daemon` starts.
        heap: its largest Java heap, MiB.
        ports: the variables that hold its ports.
        page: the one of them that answers HTTP.
    """

    name: str
    kind: str
    heap: int
    ports: tuple[str, ...]
    page: str

    @property
    def single(self) -> bool:
        """Whether the others must know its ports."""
        return self.name == self.kind


def _several(kind: str, heap: int, ports: tuple[str, ...], page: str) -> tuple[Role, ...]:
    return tuple(Role(f"{kind}-{number}", kind, heap, ports, page) for number in (1, 2))


_ALL = (
    Role("namenode", "namenode", 192, ("NAMENODE_PORT", "NAMENODE_HTTP_PORT"), "NAMENODE_HTTP_PORT"),
    *_several("datanode", 128, ("DATANODE_PORT", "DATANODE_HTTP_PORT", "DATANODE_IPC_PORT"), "DATANODE_HTTP_PORT"),
    Role(
        "resourcemanager",
        "resourcemanager",
        256,
        (
            "RESOURCEMANAGER_PORT",
            "RESOURCEMANAGER_SCHEDULER_PORT",
            "RESOURCEMANAGER_TRACKER_PORT",
            "RESOURCEMANAGER_ADMIN_PORT",
            "RESOURCEMANAGER_HTTP_PORT",
        ),
        "RESOURCEMANAGER_HTTP_PORT",
    ),
    *_several(
        "nodemanager",
        192,
        ("NODEMANAGER_PORT", "NODEMANAGER_LOCALIZER_PORT", "NODEMANAGER_HTTP_PORT", "SHUFFLE_PORT"),
        "NODEMANAGER_HTTP_PORT",
    ),
    Role(
        "historyserver",
        "historyserver",
        192,
        ("HISTORYSERVER_PORT", "HISTORYSERVER_ADMIN_PORT", "HISTORYSERVER_HTTP_PORT"),
        "HISTORYSERVER_HTTP_PORT",
    ),
    Role(
        "spark-master", "spark-master", 256, ("SPARK_MASTER_PORT", "SPARK_MASTER_WEBUI_PORT"), "SPARK_MASTER_WEBUI_PORT"
    ),
    *_several("spark-worker", 192, ("SPARK_WORKER_PORT", "SPARK_WORKER_WEBUI_PORT"), "SPARK_WORKER_WEBUI_PORT"),
)

ROLES: Final[Mapping[str, Role]] = {role.name: role for role in _ALL}
"""Every daemon by its name, in the order in which they are started."""


def defaults(host: str = HOST) -> dict[str, str]:
    """The variables of docker/cluster.env, with every host this machine's loopback, or another address.

    Raises:
        SetupError: the file is not there, since this is no checkout.
    """
    path = DOCKER / "cluster.env"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise SetupError(f"{path} cannot be read ({error.strerror}). Run this in a checkout of Telltale.") from error
    pairs = (line.split("=", 1) for line in lines if line.strip() and not line.startswith("#"))
    return {name: host if name.endswith("_HOST") else value for name, value in pairs}


def shared_variables(ports: Mapping[str, Mapping[str, int]], host: str = HOST) -> dict[str, str]:
    """What all daemons and clients alike are told.

    Args:
        ports: by role, the port of each of its variables.
        host: this machine's address.
    """
    found = {**defaults(host), "NODE_HOST": host}
    for role in ROLES.values():
        if role.single:
            found |= {name: str(port) for name, port in ports[role.name].items()}
    return found
