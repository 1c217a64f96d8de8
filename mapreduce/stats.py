"""`python -m mapreduce.stats -r RUNNER INPUT [--output stats.json]`: exact mean and deviation of the training pictures.

The same job under any runner: `inline` (this process), `local` (processes on this machine), `spark`, `hadoop`. Without
`--output`, the bytes that `stats.json` would have go to standard output, and nothing else does. This file must not
count anything itself.
"""

from __future__ import annotations

import argparse
import heapq
import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pipeline.errors
from mapreduce.runners import RUNNERS, run_job
from mapreduce.stats_config import SECTION, StatsConfig
from mapreduce.stats_units import Work, find_work
from mapreduce.stats_work import ERROR, REJECT
from pipeline.cli import add_config_options, add_output_options, run_command, say
from pipeline.config import load
from pipeline.errors import DataError, IntegrityError, StorageError, TelltaleError, UsageError
from pipeline.manifest import canonical_json, file_state, publish, seal
from pipeline.statistics import Tally, summarise
from pipeline.storage import split_uri

__all__ = ["KIND", "STAGE_VERSION", "main"]

KIND: Final = "stats"
STAGE_VERSION: Final = 1  # raise by hand when the result of the same input changes
_LEAST_TASKS: Final = 8
_SHOWN: Final = 20  # rejects that are printed one by one


@dataclass
class Results:
    """What the reducers emitted."""

    tallies: dict[tuple[str, str], Tally] = field(default_factory=dict)
    rejects: int = 0
    shown: list[tuple[str, str]] = field(default_factory=list)
    errors: list[tuple[str, list[str]]] = field(default_factory=list)

    def take(self, key: str, value: Any) -> None:
        """Sort one (key, value) pair of the job's output in."""
        about, *rest = json.loads(key)
        if about == ERROR:
            self.errors.append((rest[0], value))
        elif about == REJECT:
            self.rejects += 1
            self.shown = heapq.nsmallest(_SHOWN, [*self.shown, (rest[0], f"{value[0]}: {value[1]}")])
        else:
            label, source = rest
            self.tallies.setdefault((label, source), Tally()).merge(Tally.from_json(value))

    def raise_error(self) -> None:
        """Raise the error of the first line that failed, if one did."""
        if self.errors:
            _, (name, message) = min(self.errors)
            raise getattr(pipeline.errors, name, TelltaleError)(message)


def main(arguments: Sequence[str] | None = None) -> None:
    """Take the statistics of a dataset's training split, or of a folder or list of pictures."""
    given = _parser().parse_args(arguments)
    config = load(StatsConfig, given.config, given.sets, SECTION)
    if given.row_groups_per_task is not None:
        config = replace(config, row_groups_per_task=given.row_groups_per_task)
    work = find_work(given.input, config)
    head = {"kind": KIND, "stage_version": STAGE_VERSION, **work.head}
    if given.output is None:
        _print(seal({**head, **_measure(work, config, given)}))
        return
    folder, name = split_uri(given.output)
    state = file_state(folder, name, KIND, head, given.overwrite, given.update)
    if state == "done":
        say(f"stats: {given.output}: up to date")
        return
    with folder.staged():
        pass  # a place that cannot be written to is refused before the work, not after it
    body = {**head, **_measure(work, config, given)}
    document = publish(folder, name, body, overwrite=state == "replace")
    say(f"stats: {given.output}: written, sha256 {document['sha256']}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mapreduce.stats", description=main.__doc__)
    parser.add_argument("input", help="a dataset, a folder of pictures, or a list of pictures")
    parser.add_argument("-r", "--runner", choices=RUNNERS, default="local", help="where to run (default: local)")
    parser.add_argument("--output", metavar="FILE", help="stats.json to publish (default: standard output)")
    parser.add_argument(
        "--row-groups-per-task", type=_positive, metavar="N", help="size of a line of work; never changes the result"
    )
    parser.add_argument(
        "--mrjob",
        action="append",
        default=[],
        metavar="OPTIONS",
        help="options for mrjob, as in --mrjob='--num-cores 4'",
    )
    add_config_options(parser)
    add_output_options(parser)
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _measure(work: Work, config: StatsConfig, given: argparse.Namespace) -> dict[str, Any]:
    """Run the job and check that nothing vanished."""
    try:
        options = [word for text in given.mrjob for word in shlex.split(text)]
    except ValueError as error:
        raise UsageError(f"--mrjob: {error}.") from error
    say(f"stats: {work.what}, {len(work.lines):,} lines of work, runner {given.runner}")
    results = Results()
    counters = run_job(_load_job, work.lines, given.runner, options, results.take, _lines_per_task(work, config))
    results.raise_error()
    counted = sum(tally.pictures for tally in results.tallies.values())
    _report(results, counters)
    if counted + results.rejects != work.pictures:
        raise IntegrityError(
            f"{given.input}: {work.pictures} pictures were handed out, but {counted} counted and {results.rejects} "
            "rejected: the dataset's files are not what its manifest says. Make the dataset again."
        )
    _check_rejects(given.input, results, work, config)
    rejects = {} if work.is_dataset else {"rejects": results.rejects}
    return {**summarise(results.tallies), **rejects}


def _lines_per_task(work: Work, config: StatsConfig) -> int:
    """Lines of a map task on Hadoop: long enough to be worth a container, enough tasks to keep a small cluster busy."""
    by_size = config.pictures_per_map * len(work.lines) // work.pictures
    return max(1, min(by_size, len(work.lines) // _LEAST_TASKS))


def _load_job() -> type[Any]:
    from mapreduce.stats_job import StatsJob

    return StatsJob


def _report(results: Results, counters: Mapping[str, int]) -> None:
    for path, reason in results.shown:
        say(f"stats: rejected {path!r}: {reason}")
    if results.rejects > len(results.shown):
        say(f"stats: … and {results.rejects - len(results.shown):,} more rejected")
    names = ("pictures", "pixels", "rejects", "bytes")
    say("stats: counters: " + ", ".join(f"{name} {counters.get(name, 0):,}" for name in names))


def _check_rejects(where: str, results: Results, work: Work, config: StatsConfig) -> None:
    if results.rejects == work.pictures:
        raise DataError(f"{where}: none of its {work.pictures} files can be used; the first ones are listed above.")
    if results.rejects > config.max_reject_fraction * work.pictures:
        raise DataError(
            f"{where}: {results.rejects} of {work.pictures} files cannot be used, more than max_reject_fraction "
            f"({config.max_reject_fraction}) allows. Remove or mend them, or raise it with --set max_reject_fraction=…"
        )


def _print(document: Mapping[str, Any]) -> None:
    try:
        sys.stdout.buffer.write(canonical_json(document))
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StorageError(f"standard output: cannot write: {error.strerror}.") from error


if __name__ == "__main__":
    raise SystemExit(run_command(main))
