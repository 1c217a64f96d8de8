"""`python -m pipeline.run configs/x.yaml`: the whole way, by the same commands that a user would type.

Each stage itself finds out whether its result is there and still valid, and then does nothing; so a run that was killed
anywhere is continued by running it again. This module must not import any stage.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import fcntl
import importlib.util
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.cli import run_command, say
from pipeline.config import apply_sets, build, read_yaml
from pipeline.errors import ConfigError, StorageError, TelltaleError, UsageError
from pipeline.java import check_java
from pipeline.storage import is_remote
from pipeline.workflow import CHECKS, Stage, Workflow, config_options, stages, top_level_sets

__all__ = ["main", "run_lock"]


class StageError(TelltaleError):
    """A stage's command failed; it has said why itself."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a workflow (see the module)."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.run", description="Run a whole workflow.")
    parser.add_argument("config", help="workflow YAML, for example configs/demo.yaml")
    parser.add_argument("--run-dir", metavar="DIR", help="where the results go (default: runs/<name>)")
    parser.add_argument("--set", dest="sets", metavar="A.B=C", action="append", default=[], help="change one key")
    parser.add_argument("--until", metavar="STAGE", help="stop after this stage (ingest, stats, augment, training)")
    parser.add_argument("--dry-run", action="store_true", help="print the commands and run none")
    given = parser.parse_args(arguments)
    workflow = build(Workflow, apply_sets(read_yaml(given.config), top_level_sets(given.sets)), given.config)
    is_remote(workflow.input)  # refuses, before it is shown anywhere, a URI with a password in it
    run_dir = given.run_dir or os.path.join("runs", workflow.name)
    if is_remote(run_dir):
        raise UsageError(
            f"--run-dir {run_dir}: a whole run is kept on a local disk (its lock and logs need one). Give a local "
            "folder, or run the stages one by one with the URIs that you want; --dry-run shows their commands."
        )
    todo = _until(list(stages(workflow, given.config, given.sets, run_dir)), given.until)
    if given.dry_run:
        print("\n".join(shlex.join(stage.command) for stage in todo))
        return
    _check_sets(given.sets)
    check_java()
    _check_sections(given.config, given.sets)
    with run_lock(run_dir) as logs:
        for number, stage in enumerate(todo, 1):
            _run(stage, f"[{number}/{len(todo)}] {stage.name}", logs)
    say(f"done: {run_dir}")


def _until(todo: list[Stage], last: str | None) -> list[Stage]:
    if last is None:
        return todo
    names = [stage.name for stage in todo]
    if last not in names:
        raise UsageError(f"--until {last}: no such stage; the stages are {', '.join(names)}.")
    return todo[: names.index(last) + 1]


def _check_sets(sets: Sequence[str]) -> None:
    """Refuse `--set` keys that nobody would read."""
    known = [field.name for field in dataclasses.fields(Workflow)]
    for item in sets:
        key = item.partition("=")[0].partition(".")[0]
        if key not in known:
            raise ConfigError(f"--set {item}: unknown key '{key}'; known: {', '.join(known)}.")


def _check_sections(config: str, sets: Sequence[str]) -> None:
    """Have every stage check its section before the first one starts to work.

    Raises:
        ConfigError: with what the stage said.
    """
    checks = [
        subprocess.Popen(
            [sys.executable, "-m", module, *config_options(config, sets, section)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for section, module in CHECKS.items()
    ]
    messages = [(check.communicate()[1], check.returncode) for check in checks]
    for message, code in messages:
        if code:
            raise ConfigError(message.strip().removeprefix("error: "))


@contextmanager
def run_lock(run_dir: str) -> Iterator[Path]:
    """Hold the run folder's lock; yields its `logs/`.

    Raises:
        UsageError: another run works there now.
        StorageError: the folder cannot be made.
    """
    logs = Path(run_dir) / "logs"
    try:
        logs.mkdir(parents=True, exist_ok=True)
        lock = (logs / "lock").open("w")
    except OSError as error:
        raise StorageError(f"{logs}: cannot make this folder: {error.strerror}. Choose another --run-dir.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(f"{run_dir}: another pipeline.run is at work there. Wait for it, or stop it.") from error
        yield logs


def _run(stage: Stage, title: str, logs: Path) -> None:
    """Run one command, its output on the terminal, and note time and peak memory in `logs/stages.jsonl`."""
    say(f"{title}: {shlex.join(stage.command)}")
    started = time.monotonic()
    code = subprocess.run(stage.command, env=_environment(), preexec_fn=_die_with_parent, check=False).returncode
    event = {
        "stage": stage.name,
        "command": stage.command,
        "exit": code,
        "seconds": round(time.monotonic() - started, 2),
        "peak_mib_so_far": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    with open(logs / "stages.jsonl", "a", encoding="utf-8") as stream:
        stream.write(json.dumps(event) + "\n")
    say(f"{title}: {'done' if code == 0 else f'failed with exit code {code}'}, {event['seconds']:.1f} s")
    if code == -signal.SIGINT or code == 128 + signal.SIGINT:
        raise KeyboardInterrupt
    if code:
        error = StageError(f"the stage '{stage.name}' failed (its own message is above). Mend that and run again.")
        error.exit_code = 2 if code == 2 else 1
        raise error


def _environment() -> dict[str, str]:
    """What the stages find: this Python for Spark's driver, and where Spark is.

    Spark's start script would look for itself with a command line that a blank in Python's path breaks. The workers'
    Python is left to the session: this machine's only where they run on this machine.
    """
    spark = importlib.util.find_spec("pyspark")
    home = {"SPARK_HOME": str(Path(spark.origin).parent)} if spark and spark.origin else {}
    return {**home, "PYSPARK_DRIVER_PYTHON": sys.executable, **os.environ}


def _die_with_parent() -> None:
    """In the child: be told to end when this process dies, so that no orphan goes on writing (Linux `prctl`)."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


if __name__ == "__main__":
    raise SystemExit(run_command(main))
