"""The statistics job for Hadoop Streaming: lines of a work list in, sums of integers out.

mrjob runs this file again as a bare script in every task, and Spark imports it from a zip of its own: absolute imports
only, and nothing here may depend on where it lies. What a line holds is `stats_units`' and `stats_work`' business; keys
are strings because Spark hashes them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from mrjob.job import MRJob
from mrjob.protocol import StandardJSONProtocol, StandardJSONValueProtocol

COUNTERS = "telltale"  # the counters' group


def _key(parts: Iterable[str]) -> str:
    return json.dumps(list(parts))


class StatsJob(MRJob):
    """Counts the values of pixels; see `mapreduce.stats` for the command."""

    INPUT_PROTOCOL = StandardJSONValueProtocol
    INTERNAL_PROTOCOL = StandardJSONProtocol
    OUTPUT_PROTOCOL = StandardJSONProtocol

    def hadoop_input_format(self) -> str | None:
        """On Hadoop, map tasks of some lines (`runners.py` says how many); the other runners divide them themselves."""
        return "org.apache.hadoop.mapred.lib.NLineInputFormat" if self._on_hadoop() else None

    def jobconf(self) -> dict[str, str]:
        """NLineInputFormat gives the mapper a position before each line, unless told not to."""
        conf = {"stream.map.input.ignoreKey": "true"}
        given: dict[str, str] = super().jobconf()
        return {**conf, **given} if self._on_hadoop() else given

    def _on_hadoop(self) -> bool:
        return getattr(self.options, "runner", None) == "hadoop"

    def mapper_init(self) -> None:
        """Make the task's state; the imports are here because combiners and reducers need none of them."""
        from mapreduce.stats_work import Worker

        self._worker = Worker()

    def mapper(self, _: None, unit: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Work on one line. The counters also tell Hadoop that the task is alive."""
        for key, value in self._worker.do(unit):
            yield _key(key), value
        for name, amount in self._worker.take_counters().items():
            self.increment_counter(COUNTERS, name, amount)

    def mapper_final(self) -> Iterator[tuple[str, Any]]:
        """Emit the sums, once."""
        for key, value in self._worker.sums():
            yield _key(key), value

    def combiner(self, key: str, values: Iterable[list[Any]]) -> Iterator[tuple[str, Any]]:
        """Add what one machine has counted."""
        return _add(key, values)

    def reducer(self, key: str, values: Iterable[list[Any]]) -> Iterator[tuple[str, Any]]:
        """Add what all machines have counted."""
        return _add(key, values)


def _add(key: str, values: Iterable[list[Any]]) -> Iterator[tuple[str, Any]]:
    """Sums are added, number by number; rejects and errors pass."""
    if not key.startswith('["sum"'):
        for value in values:
            yield key, value
        return
    result: list[int] = []
    for value in values:
        result = [a + b for a, b in zip(result, value, strict=True)] if result else value
    yield key, result


if __name__ == "__main__":
    StatsJob.run()
