"""Nodes with a network of their own, and links to them that can be cut: for seeing what a partition does.

One network namespace holds a bridge; each node has a namespace with a link to it, and this machine has a link too. A
namespace lives as long as the idle process that holds it and what was started inside: once these have ended, the kernel
removes links, bridge and this machine's interface, however they ended. Nothing is written under /etc or /run, and what
this machine forwards or filters stays as it is. Linux and root only. No daemon is started here.
"""

from __future__ import annotations

import os
import random
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Final

import psutil

from cluster import processes
from cluster.processes import Started
from pipeline.errors import SetupError, UsageError

__all__ = ["Network", "create", "impossible"]

_RANGE: Final = IPv4Network("198.18.0.0/15")  # for tests of networks (RFC 2544): nobody's public addresses
_BITS: Final = 29  # six addresses: this machine's and the nodes'
_SWITCH: Final = "switch"
_PATIENCE: Final = 10.0  # seconds for a process to enter its namespace
_TOOLS: Final = ("ip", "unshare", "nsenter", "hostname")


@dataclass(frozen=True)
class Network:
    """Namespaces, and the addresses in them.

    Attributes:
        host: this machine's address.
        nodes: by role, a node's address; also its name, for MapReduce tells others what its node's name resolves to.
        holders: by role, the process that holds the node's namespace; and the one that holds the bridge's.
    """

    host: str
    nodes: dict[str, str]
    holders: dict[str, Started]

    @property
    def interface(self) -> str:
        """This machine's: a name that no other cluster has, of 15 characters at most."""
        return f"telltale{self.holders[_SWITCH].pid}"

    def connect(self) -> None:
        """Lay the links, and give each end its address.

        Raises:
            SetupError: the system does not let us; nothing is left then.
        """
        try:
            self._connect()
        except BaseException:
            self.remove()
            raise

    def entering(self, role: str) -> list[str]:
        """What comes before a command that is to run on a node; nothing for what runs on this machine.

        Raises:
            UsageError: the namespace is gone.
        """
        return self._inside(role) if role in self.nodes else []

    def cut(self, role: str) -> None:
        """Take a node's link down, as if its cable were pulled: nothing comes through, and nobody is told.

        Raises:
            UsageError: the role has no link of its own, or the network is gone.
        """
        self._switch("ip", "link", "set", self._link(role), "down")

    def join(self, role: str) -> None:
        """Take a node's link up again.

        Raises:
            UsageError: as for `cut`.
        """
        self._switch("ip", "link", "set", self._link(role), "up")

    def stands(self) -> bool:
        """Whether all of it is there."""
        return all(holder.process() for holder in self.holders.values())

    def remove(self) -> None:
        """End what holds the namespaces; they are gone when nothing else runs in them."""
        if self.interface in (name for _, name in socket.if_nameindex()):
            _run("ip", "link", "delete", self.interface)  # at once; the kernel takes a moment
        processes.end_all([process for one in self.holders.values() if (process := one.process())], grace=2)

    def _connect(self) -> None:
        for holder in self.holders.values():
            _wait_inside(holder)
        self._switch("ip", "link", "add", "name", _SWITCH, "type", "bridge")
        self._switch("ip", "link", "set", _SWITCH, "up")
        self._lay("host", self.interface, os.getpid())
        _run(*_address(self.host, self.interface))
        _run("ip", "link", "set", self.interface, "up")
        for role, address in self.nodes.items():
            self._lay(role, "eth0", self.holders[role].pid)
            inside = self.entering(role)
            _run(*inside, *_address(address, "eth0"))
            for name in ("lo", "eth0"):
                _run(*inside, "ip", "link", "set", name, "up")
            _run(*inside, "hostname", address)

    def _lay(self, end: str, other: str, pid: int) -> None:
        """A link from the bridge, where it is called `end`, to the namespace of a process, where it is `other`."""
        self._switch("ip", "link", "add", "name", end, "type", "veth", "peer", "name", other, "netns", str(pid))
        self._switch("ip", "link", "set", end, "master", _SWITCH, "up")

    def _link(self, role: str) -> str:
        if role not in self.nodes:
            raise UsageError(f"{role} has no link of its own; {' and '.join(self.nodes)} have.")
        return role

    def _switch(self, *command: str) -> None:
        _run(*self._inside(_SWITCH), *command)

    def _inside(self, name: str) -> list[str]:
        holder = self.holders[name]
        if holder.process() is None:
            raise UsageError(f"the network namespace of {name} is gone. End the cluster and start it again.")
        return [_tool("nsenter"), "--target", str(holder.pid), "--net", "--uts", "--"]


def impossible() -> str | None:
    """Why namespaces cannot be had here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [name for name in _TOOLS if shutil.which(name) is None]
    if missing:
        return f"network namespaces need the commands {', '.join(missing)} (packages iproute2, util-linux, hostname)"
    for kind in ("bridge", "veth"):
        try:
            _run("unshare", "--net", "--uts", "ip", "link", "add", "type", kind)
        except SetupError as error:
            return str(error)
    return None


def create(roles: Iterable[str], log: Path) -> Network:
    """Namespaces for these roles, with addresses that no interface here has; `connect` makes them a network.

    Args:
        roles: names of at most 15 characters, five at most.
        log: the file that gets what the holders say.

    Raises:
        SetupError: the system does not let us, or all addresses are taken.
    """
    reason = impossible()
    if reason:
        raise SetupError(f"nodes cannot have a network of their own: {reason}.")
    names = list(roles)
    addresses = (str(address) for address in _free_subnet().hosts())
    host, nodes = next(addresses), {name: next(addresses) for name in names}
    idle = [_tool("unshare"), "--net", "--uts", "--", "sleep", "infinity"]
    holders = {name: processes.start(idle, {"PATH": os.defpath}, log) for name in (_SWITCH, *names)}
    return Network(host, nodes, holders)


def _free_subnet() -> IPv4Network:
    """One that no interface here has a part of, at random, so that two clusters that start at once hardly meet."""
    found = (one for addresses in psutil.net_if_addrs().values() for one in addresses)
    taken = [
        IPv4Network(f"{one.address}/{one.netmask}", strict=False)
        for one in found
        if one.family == socket.AF_INET and one.netmask
    ]
    for subnet in random.sample(list(_RANGE.subnets(new_prefix=_BITS)), 100):
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise SetupError(f"this machine's interfaces have taken all of {_RANGE}: nodes cannot have addresses there.")


def _wait_inside(holder: Started) -> None:
    """Until a process has the namespaces that it was started for."""
    end = time.monotonic() + _PATIENCE
    own = os.readlink("/proc/self/ns/uts")  # `unshare` makes all of them in one call
    while True:
        try:
            if os.readlink(f"/proc/{holder.pid}/ns/uts") != own:
                return
        except OSError:
            pass
        if holder.process() is None or time.monotonic() > end:
            raise SetupError("nodes cannot have a network of their own: `unshare` did not make one.")
        time.sleep(0.01)


def _address(address: str, interface: str) -> list[str]:
    return ["ip", "address", "add", f"{address}/{_BITS}", "dev", interface]


def _tool(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise SetupError(f"nodes cannot have a network of their own: there is no command `{name}`.")
    return found


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SetupError(f"`{' '.join(command)}` failed: {done.stderr.strip()}")
