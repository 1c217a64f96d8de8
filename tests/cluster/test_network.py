"""Nodes with a network of their own: who reaches whom, before, while and after a link is cut; and nothing is left."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.network import Network, create, impossible
from pipeline.errors import UsageError

ONE, TWO = "nodemanager-1", "nodemanager-2"
CONNECT = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=1).recv(9)"
SERVE = (
    "import socket, sys; s = socket.create_server((sys.argv[1], int(sys.argv[2])))\n"
    "while True: s.accept()[0].sendall(b'hello')"
)


@pytest.fixture(autouse=True)
def possible() -> None:
    """Skip where there can be no such thing."""
    reason = impossible()
    if reason:
        pytest.skip(reason)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    """Two nodes and this machine."""
    made = create((ONE, TWO), tmp_path / "log")
    try:
        made.connect()
        yield made
    finally:
        made.remove()


def reaches(network: Network, role: str, address: str) -> bool:
    """Whether a connection from a node, or from this machine, is taken and answered."""
    command = [*network.entering(role), sys.executable, "-c", CONNECT, address, "7777"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def soon(look: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something comes true within a while."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def interfaces() -> set[str]:
    """This machine's."""
    return {name for _, name in socket.if_nameindex()}


def test_a_cut_node_reaches_nobody_until_it_is_joined_again(network: Network) -> None:
    servers = [
        subprocess.Popen([*network.entering(role), sys.executable, "-c", SERVE, address, "7777"])
        for role, address in {**network.nodes, "here": network.host}.items()
    ]
    one, two, here = network.nodes[ONE], network.nodes[TWO], network.host
    try:
        ways = [(ONE, two), (TWO, one), ("here", one), (ONE, here), ("here", two), (TWO, here)]
        assert all(soon(lambda way=way: reaches(network, *way)) for way in ways)  # type: ignore[misc]
        network.cut(ONE)
        assert [reaches(network, *way) for way in ways] == [False, False, False, False, True, True]
        network.join(ONE)
        assert all(soon(lambda way=way: reaches(network, *way)) for way in ways)  # type: ignore[misc]
    finally:
        for server in servers:
            server.kill()
            server.wait()


def test_a_node_is_named_by_its_address(network: Network) -> None:
    """What MapReduce's application master tells others."""
    look = "import socket; print(socket.gethostname(), socket.gethostbyname(socket.gethostname()))"
    for role, address in network.nodes.items():
        command = [*network.entering(role), sys.executable, "-c", look]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert said.split() == [address, address]
    assert socket.gethostname() not in network.nodes.values()


def test_two_networks_share_no_address_and_no_interface(network: Network, tmp_path: Path) -> None:
    other = create((ONE, TWO), tmp_path / "other")
    try:
        other.connect()
        assert not {network.host, *network.nodes.values()} & {other.host, *other.nodes.values()}
    finally:
        other.remove()
    network.cut(ONE)  # is still whole


def test_nothing_is_left_when_it_is_removed(tmp_path: Path) -> None:
    made = create((ONE,), tmp_path / "log")
    made.connect()
    assert made.interface in interfaces()
    made.remove()
    assert made.interface not in interfaces()
    assert not any(one.process() for one in made.holders.values())


def test_nothing_is_left_when_its_processes_are_killed(tmp_path: Path) -> None:
    made = create((ONE,), tmp_path / "log")
    made.connect()
    for one in made.holders.values():
        os.kill(one.pid, signal.SIGKILL)
    assert soon(lambda: made.interface not in interfaces())
    assert not made.stands()
    with pytest.raises(UsageError, match="is gone"):
        made.cut(ONE)
    made.remove()  # nothing to do


def test_only_a_node_has_a_link_to_cut(network: Network) -> None:
    with pytest.raises(UsageError, match=f"namenode has no link of its own; {ONE} and {TWO} have"):
        network.cut("namenode")
