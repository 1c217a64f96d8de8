"""How far the loader's order is from a uniform permutation, for several windows of row groups.

    python -m benchmarks.shuffle

Three figures, each beside that of a uniform permutation, by training/order.py alone on a split of the product's shape:
how far a row moves (Knuth's mean displacement, n/3 for a uniform one), how many row groups a batch is drawn from, and
how much more often than by chance two rows that shared a batch share one again in the next epoch. A fourth concerns
what training sees: the deviation of the share of AI pictures in a batch, when rows lie in the order of a hash, as
augment puts them. All are exact counts; nothing is timed.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks._common import table, write_result
from training.order import epoch_order

ROWS, GROUP = 80_000, 256
WINDOWS = (1, 4, 16, 64, 10**6)
Indices = NDArray[np.int64]


def displacement(order: Indices) -> float:
    """The mean distance of a row from its place in storage, in units of n/3: a uniform permutation's is 1."""
    return float(np.abs(order - np.arange(len(order))).mean() / (len(order) / 3))


def groups_in_a_batch(order: Indices, group: int, batch: int) -> float:
    """The mean number of different row groups in a whole batch."""
    whole = len(order) // batch * batch
    return float(np.mean([len(np.unique(rows)) for rows in (order[:whole] // group).reshape(-1, batch)]))


def together_again(first: Indices, second: Indices, batch: int) -> float:
    """How many times as often as by chance two rows of one batch are in one batch of the next epoch too."""
    place = np.empty_like(second)
    place[second] = np.arange(len(second)) // batch
    whole = len(first) // batch * batch
    batches = place[first[:whole]].reshape(-1, batch)
    counts = [np.unique(row, return_counts=True)[1] for row in batches]
    pairs = sum(float((count * (count - 1)).sum()) for count in counts) / (len(batches) * batch * (batch - 1))
    return pairs / ((batch - 1) / (len(first) - 1))


def label_deviation(order: Indices, labels: NDArray[np.int64], batch: int) -> float:
    """The deviation of the share of label 1 over batches, in units of that of draws without order."""
    whole = len(order) // batch * batch
    shares = labels[order[:whole]].reshape(-1, batch).mean(axis=1)
    return float(shares.std() / (0.5 / np.sqrt(batch)))


def figures(order: list[Indices], batch: int, labels: NDArray[np.int64]) -> list[str]:
    """The four figures of two epochs' orders, as text."""
    again = together_again(order[0], order[1], batch)
    values: list[Any] = [f"{displacement(order[0]):.3f}", f"{groups_in_a_batch(order[0], GROUP, batch):.1f}"]
    return [*values, f"{again:.2f}", f"{label_deviation(order[0], labels, batch):.3f}"]


def main() -> None:
    """Print the table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shuffle", description=__doc__)
    parser.add_argument("--batch", type=int, default=32, help="rows a batch")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    sizes = [min(GROUP, ROWS - first) for first in range(0, ROWS, GROUP)]
    labels = np.random.default_rng(0).permutation(np.arange(ROWS) % 2)
    rows = []
    for window in WINDOWS:
        orders = [epoch_order(sizes, "benchmark", 0, epoch, window) for epoch in (0, 1)]
        name = f"{window} ({window * GROUP:,} rows)" if window < len(sizes) else "all"
        rows.append([name, *figures(orders, given.batch, labels)])
    uniform = [np.random.default_rng(epoch).permutation(ROWS) for epoch in (1, 2)]
    rows.append(["uniform permutation", *figures(uniform, given.batch, labels)])
    head = ["window, row groups", "displacement", "groups in a batch", "together again", "deviation of labels"]
    title = f"The order of {ROWS:,} rows in row groups of {GROUP}, batches of {given.batch}"
    write_result("shuffle", title, table(head, rows), ["numpy"], not given.no_write)


if __name__ == "__main__":
    main()
