"""How soon `python -m cluster up` serves, and what memory its daemons take: fresh, and with files kept.

    python -m benchmarks.cluster_start    starts and ends clusters, writes benchmarks/results/cluster_start.md

The reference is the promise: under a minute on two idle cores. The JARs must be there already; the first `up` of a user
fetches them, which measures the network.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from benchmarks._common import median, spread, table, write_result
from cluster import ROLES, Cluster
from cluster.hadoop_home import hadoop_home

PROMISE = 60.0  # seconds


def seconds(job: Callable[[], object]) -> float:
    """How long it takes by the clock."""
    begin = time.perf_counter()
    job()
    return time.perf_counter() - begin


def memory(cluster: Cluster) -> dict[str, tuple[float, float]]:
    """By daemon, MiB: resident, and with shared pages split among those that share them."""
    found = {}
    for role in ROLES:
        used = psutil.Process(cluster.pid(role)).memory_full_info()
        found[role] = (used.rss / 2**20, used.pss / 2**20)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster_start")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args(arguments)
    hadoop_home()
    load = f"Load before: {os.getloadavg()[0]:.1f}."
    times: dict[str, list[float]] = {"up, fresh": [], "down": [], "up, files kept": [], "up, already up": []}
    used: dict[str, tuple[float, float]] = {}
    for _ in range(given.rounds):
        with tempfile.TemporaryDirectory() as folder:
            cluster = Cluster(Path(folder) / "data")
            try:
                times["up, fresh"].append(seconds(cluster.up))
                times["down"].append(seconds(cluster.down))
                times["up, files kept"].append(seconds(cluster.up))
                times["up, already up"].append(seconds(cluster.up))
                used = memory(cluster)
            finally:
                cluster.down()
    rows = [[name, f"{median(taken):.1f}", spread(taken)] for name, taken in times.items()]
    total = [sum(column) for column in zip(*used.values(), strict=True)]
    sizes = [[role, f"{rss:.0f}", f"{pss:.0f}"] for role, (rss, pss) in used.items()]
    met = "met" if max(times["up, fresh"]) < PROMISE else "NOT met"
    lines = [
        *table(["", "median s", "lowest to highest"], rows),
        "",
        f"Rounds: {given.rounds}. The promise, up in under {PROMISE:.0f} s: {met}. {load}",
        "",
        *table(["just started", "resident MiB", "proportional MiB"], [*sizes, ["all", *(f"{x:.0f}" for x in total)]]),
    ]
    write_result("cluster_start", "python -m cluster up", lines, ["pyspark", "psutil"], write=not given.no_write)


if __name__ == "__main__":
    main()
