"""python -m cluster up|down|status|env: real Hadoop and Spark daemons on this machine."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cluster.cluster import Cluster
from pipeline.cli import run_command, say

_DATA = Path(__file__).resolve().parent.parent / ".cluster"


def _up(cluster: Cluster) -> int:
    begin = time.monotonic()
    if not cluster.up():
        say("cluster: already up.")
    else:
        say(f"cluster: up in {time.monotonic() - begin:.0f} s.")
    say(f"    HDFS            {cluster.default_fs}    {cluster.page('namenode')}")
    say(f"    YARN            {cluster.page('resourcemanager')}")
    say(f"    Spark           {cluster.spark_master}    {cluster.page('spark-master')}")
    say(f"    data and logs   {cluster.data}")
    say('The commands find it after: eval "$(python -m cluster env)"')
    return 0


def _down(cluster: Cluster) -> int:
    ended = cluster.down()
    say(
        f"cluster: down ({ended} processes ended); its files stay in {cluster.data}."
        if ended
        else "cluster: was not up."
    )
    return 0


def _status(cluster: Cluster) -> int:
    found = cluster.status()
    for one in found:
        print(f"{one.role:<16} {one.pid or 'down':<8} {one.page:<26} {one.log}")
    if not found:
        say(f"cluster: never started in {cluster.data}.")
    return 0 if found and all(one.pid for one in found) else 1


def _env(cluster: Cluster) -> int:
    for name, value in cluster.exports().items():
        print(f"export {name}={shlex.quote(value)}" + (':"$PATH"' if name == "PATH" else ""))
    return 0


_COMMANDS = {"up": _up, "down": _down, "status": _status, "env": _env}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m cluster", description=__doc__)
    parser.add_argument("command", choices=_COMMANDS, help="start it, end it, show it, or print exports for a shell")
    parser.add_argument("--data", type=Path, default=_DATA, metavar="DIR", help="its folder (.cluster in the checkout)")
    given = parser.parse_args(arguments)
    return _COMMANDS[given.command](Cluster(given.data))


if __name__ == "__main__":
    sys.exit(run_command(main))
