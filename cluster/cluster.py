"""The cluster as an object: start all daemons or one, kill one, ask where it serves. `python -m cluster` is its face.

Everything runs on loopback, unless the NodeManagers are to have networks of their own, and as the user who starts it.
What a daemon is told is the matter of `cluster.roles` and docker/.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cluster import environment, network, paths, processes, state
from cluster.hadoop_home import hadoop_home
from cluster.ports import wait_free
from cluster.ready import waiting_for
from cluster.roles import DOCKER, ROLES, Role
from pipeline.errors import SetupError, UsageError

__all__ = ["Cluster", "Status"]

_PATIENCE: Final = 180.0  # seconds for all daemons to serve, on a busy machine
_POLL: Final = 0.25
_NODES: Final = [name for name, role in ROLES.items() if role.kind == "nodemanager"]


@dataclass(frozen=True)
class Status:
    """One daemon: its process, or None, and where it can be asked and read."""

    role: str
    pid: int | None
    page: str
    log: Path


class Cluster:
    """One NameNode, ResourceManager, job history server and Spark master, and two of each kind of node.

    Args:
        data: a folder for all that the daemons keep; made if absent. HDFS's files are still there after `down`.
        partitionable: `up` gives each NodeManager a network namespace, whose link `cut` and `join` switch (root only).
    """

    def __init__(self, data: Path, *, partitionable: bool = False) -> None:
        self.data = data.resolve()
        self._partitionable = partitionable

    # Where things are

    @property
    def default_fs(self) -> str:
        """HDFS's URI, without a slash at the end."""
        return environment.default_fs(self._state())

    @property
    def spark_master(self) -> str:
        """The standalone master, for `spark-submit --master`."""
        return environment.spark_master(self._state())

    def page(self, role: str) -> str:
        """Where a daemon answers HTTP."""
        _role(role)
        return self._state().page(role)

    def folder(self, role: str) -> Path:
        """What a daemon keeps: blocks, containers' folders, its own configuration."""
        return self.data / role

    def log(self, role: str) -> Path:
        """The file that a daemon's output is added to."""
        return self.data / "logs" / f"{role}.log"

    def exports(self) -> dict[str, str]:
        """The variables with which Hadoop's and Spark's commands find this cluster; `PATH` is only what comes first."""
        return environment.for_clients(self._state())

    def environment(self) -> dict[str, str]:
        """This process's environment with `exports()` in it, for commands that are to run on the cluster."""
        exports = self.exports()
        path = f"{exports['PATH']}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        return {**os.environ, **exports, "PATH": path}

    # All of it

    def up(self) -> bool:
        """Start what does not run and wait until all of it serves.

        Returns:
            Whether there was anything to start.

        Raises:
            SetupError: Java, Maven, a JAR or a port is missing, or a daemon ended or does not serve; the message quotes
                its log.
            StorageError: the data folder cannot be used.
            UsageError: another command is at it.
        """
        with state.locked(self.data):
            kept = state.load(self.data) or state.new()
            missing = [name for name in ROLES if kept.running(name) is None]
            if not missing and not waiting_for(kept.pages()):
                return False
            self._prepare(kept)
            for name in missing:
                self._check_ports(kept, name)
            for name in missing:
                self._start(kept, name)
            self._wait(kept)
            _run([str(DOCKER / "bin" / "hdfs-folders")], environment.for_daemons(kept))
            return bool(missing)

    def down(self) -> int:
        """End every daemon, and what killed nodes left running; the files stay.

        Returns:
            The number of processes that were ended.
        """
        with state.locked(self.data):
            kept = state.load(self.data)
            if kept is None:
                return 0
            daemons = [process for name in ROLES if (process := kept.running(name))]
            processes.end_all(daemons)
            rest = processes.leftovers(self.folder(name) for name in ROLES)
            processes.end_all(rest, grace=3)
            if kept.network:
                kept.network.remove()
            paths.remove_links(kept.links)
            kept.started, kept.links, kept.network = {}, {}, None
            state.save(self.data, kept)
            return len(daemons) + len(rest)

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        """Up inside the `with` block and down behind it, also where only a part of it came up."""
        try:
            self.up()
            yield self
        finally:
            self.down()

    def status(self) -> list[Status]:
        """Every daemon; empty if the cluster was never started."""
        kept = state.load(self.data)
        if kept is None:
            return []
        running = {name: kept.running(name) for name in ROLES}
        return [
            Status(name, process.pid if process else None, kept.page(name), self.log(name))
            for name, process in running.items()
        ]

    def wait_ready(self, patience: float = _PATIENCE) -> None:
        """Wait until every daemon serves.

        Raises:
            SetupError: one has ended by itself, or `patience` (seconds) is over.
        """
        self._wait(self._state(), patience)

    # One of them

    def pid(self, role: str) -> int | None:
        """A daemon's process id, None if it does not run."""
        _role(role)
        process = self._state().running(role)
        return process.pid if process else None

    def kill(self, role: str, number: int = signal.SIGKILL) -> None:
        """Send a daemon a signal and wait until it is gone; nothing if it does not run. What it started may run on."""
        _role(role)
        kept = self._state()
        process = kept.running(role)
        if process:
            processes.send([process], number, patience=60)
        kept.started.pop(role, None)
        state.save(self.data, kept)

    def start(self, role: str) -> None:
        """Start a daemon again, with its old ports and files; `wait_ready` waits until it serves.

        Raises:
            SetupError: one of its ports is taken.
        """
        _role(role)
        kept = self._state()
        if kept.running(role) is None:
            self._check_ports(kept, role)
            self._start(kept, role)

    def cut(self, role: str) -> None:
        """Take the link of a NodeManager down: it and its containers run on, and reach nobody.

        Raises:
            UsageError: the cluster is not partitionable, or this daemon has no link of its own.
        """
        self._network().cut(role)

    def join(self, role: str) -> None:
        """Take the link of a NodeManager up again.

        Raises:
            UsageError: as for `cut`.
        """
        self._network().join(role)

    # How it is done

    def _state(self) -> state.State:
        kept = state.load(self.data)
        if kept is None or not kept.links:
            raise UsageError(f"no cluster runs in {self.data}. Start it: python -m cluster up --data '{self.data}'")
        return kept

    def _network(self) -> network.Network:
        found = self._state().network
        if found is None:
            raise UsageError(f"the nodes of the cluster in {self.data} have no networks of their own.")
        return found

    def _prepare(self, kept: state.State) -> None:
        """Everything that daemons and clients need before they start."""
        folders = {"data": self.data, "hadoop": hadoop_home(), "spark": paths.spark_home()}
        kept.links = paths.plain(folders, kept.links)
        (self.data / "logs").mkdir(parents=True, exist_ok=True)
        paths.interpreter_folder(self.data / "path")
        state.save(self.data, kept)
        self._connect(kept)
        data = kept.links["data"]
        targets = {"DATA_DIR": "client", "HADOOP_CONF_DIR": "conf", "SPARK_CONF_DIR": "spark-conf"}
        own = {variable: f"{data}/{name}" for variable, name in targets.items()}
        _run([str(DOCKER / "bin" / "client"), "true"], {**environment.for_daemons(kept), **own})

    def _connect(self, kept: state.State) -> None:
        """Give the nodes their network, if they are to have one; nothing may run yet."""
        if kept.network and kept.network.stands():
            return
        if (kept.network or self._partitionable) and any(kept.running(name) for name in ROLES):
            raise UsageError(f"daemons in {self.data} run without their nodes' network. End them first: `down`.")
        kept.network = network.create(_NODES, self.log("network")) if self._partitionable else None
        if kept.network:
            state.save(self.data, kept)  # before anything can fail: `down` ends what is named there
            kept.network.connect()

    def _check_ports(self, kept: state.State, name: str) -> None:
        if kept.network and name in kept.network.nodes:
            return  # nobody else is there
        for variable, port in kept.ports[name].items():
            if not wait_free(port, kept.host(name)):
                raise SetupError(
                    f"{name} cannot start: its port {port} ({variable}) is taken by another program. End that one, or "
                    f"run `python -m cluster down` and remove {self.data}/cluster.json: `up` will choose other ports."
                )

    def _start(self, kept: state.State, name: str) -> None:
        role = ROLES[name]
        variables = {
            **environment.for_daemons(kept, name),
            **{variable: str(port) for variable, port in kept.ports[name].items()},
            "DATA_DIR": f"{kept.links['data']}/{name}",
            "HEAP_MB": str(role.heap),
        }
        self.folder(name).mkdir(exist_ok=True)
        inside = kept.network.entering(name) if kept.network else []
        command = [*inside, str(DOCKER / "bin" / "daemon"), role.kind]
        kept.started[name] = processes.start(command, variables, self.log(name))
        state.save(self.data, kept)

    def _wait(self, kept: state.State, patience: float = _PATIENCE) -> None:
        end = time.monotonic() + patience
        while True:
            for name, started in kept.started.items():
                if started.process() is None:
                    words = processes.last_words(self.log(name), started)
                    raise SetupError(f"{name} has ended: {words} (all of it: {self.log(name)})")
            missing = waiting_for(kept.pages())
            if not missing:
                return
            if time.monotonic() > end:
                where = ", ".join(str(self.log(name)) for name in ROLES if ROLES[name].single)
                raise SetupError(f"after {patience:.0f} s still waiting for {' and '.join(missing)}. See {where}.")
            time.sleep(_POLL)


def _role(name: str) -> Role:
    if name not in ROLES:
        raise UsageError(f"no daemon is called {name}; there are {', '.join(ROLES)}.")
    return ROLES[name]


def _run(command: Iterable[str], environment: Mapping[str, str]) -> None:
    done = subprocess.run([*command], env=dict(environment), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"the cluster cannot be prepared: {done.stderr.strip()}")
