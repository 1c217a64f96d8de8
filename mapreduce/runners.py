"""Running an mrjob job under any of its runners, quietly and tidily.

mrjob's logs and its own configuration files stay out of the way, everything temporary lies in one folder that goes at
the end, and a failed task becomes one message. This file must not know what a job computes.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mapreduce.on_hadoop import LINES_PER_TASK, Progress, failure, hadoop_options, plain_name, showing_logs
from pipeline.cli import cores, say
from pipeline.errors import SetupError, StorageError, TelltaleError, UsageError
from pipeline.java import check_java

__all__ = ["RUNNERS", "run_job"]

RUNNERS: Final = ("inline", "local", "spark", "hadoop")

_ROOT: Final = Path(__file__).resolve().parent.parent
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EROFS)
_SPARK_LISTS: Final = 64  # Spark makes a task of each file, and of a small file two


def run_job(
    load_job: Callable[[], type[Any]],
    lines: Iterable[Mapping[str, Any]],
    runner: str,
    options: Sequence[str],
    take: Callable[[str, Any], None],
    lines_per_task: int = 1,
) -> dict[str, int]:
    """Run a job over a work list and hand out what its reducers emit.

    Args:
        load_job: imports the job's class (which imports mrjob).
        lines: the work list; each line is JSON-ready.
        runner: one of `RUNNERS`.
        options: further mrjob options, for a cluster; they win over ours.
        take: called with each (key, value) of the output, in no particular order.
        lines_per_task: of the work list in one map task, on Hadoop; the other runners divide the list themselves.

    Returns:
        The job's counters, of all groups together.

    Raises:
        SetupError: mrjob, Spark or Java is missing.
        UsageError: an option is not mrjob's.
        StorageError: a temporary file cannot be written.
        TelltaleError: a task failed.
    """
    job_class = _import(load_job)
    extra = {"spark": _spark_options, "local": _local_options, "inline": _local_options, "hadoop": hadoop_options}
    place = _plain_place() if runner in ("spark", "hadoop") else tempfile.gettempdir()
    try:
        with (
            tempfile.TemporaryDirectory(prefix="telltale-", dir=place, ignore_cleanup_errors=True) as temporary,
            _importable(),
        ):
            chosen = extra[runner](Path(temporary), options)
            if runner == "hadoop":
                chosen += ["--jobconf", f"{LINES_PER_TASK}={lines_per_task}"]
                job_class = _under_a_plain_name(job_class, Path(temporary))
            lists = _write_lists(lines, Path(temporary), _SPARK_LISTS if runner == "spark" else 1)
            arguments = ["-r", runner, "--no-conf", "--cleanup-on-failure", "ALL", "--local-tmp-dir", temporary]
            job = _make(job_class, [*arguments, *chosen, *options, *lists])
            return _run(job, runner, take)
    except OSError as error:
        if error.errno == errno.ENOENT and error.filename and os.sep not in str(error.filename):
            raise SetupError(
                f"runner {runner} needs the program '{error.filename}', which is not on the PATH. "
                "Install it, or choose another runner (-r)."
            ) from error
        if error.errno not in _NO_ROOM:
            raise TelltaleError(f"the {runner} job failed: {error}.") from error
        raise StorageError(
            f"{place}: cannot hold the job's temporary files: {error.strerror or error}. "
            "Free space there, or set TMPDIR to another folder."
        ) from error


def _import(load_job: Callable[[], type[Any]]) -> type[Any]:
    try:
        return load_job()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mrjob", "distutils"):
            raise
        raise SetupError(
            f"the package '{error.name}' is missing: install the extra with `pip install 'telltale[hadoop]'`."
        ) from error


def _under_a_plain_name(job_class: type[Any], folder: Path) -> type[Any]:
    script = plain_name(folder, str(job_class.mr_job_script()))

    class Plain(job_class):
        @classmethod
        def mr_job_script(cls) -> str:
            return script

    return Plain


def _make(job_class: type[Any], arguments: list[str]) -> Any:
    try:
        return job_class(arguments)
    except ValueError as error:
        raise UsageError(f"--mrjob: {error}. `python -m mrjob.job --help --runner` lists mrjob's options.") from error


def _run(job: Any, runner: str, take: Callable[[str, Any], None]) -> dict[str, int]:
    from mrjob.step import StepFailedException

    with Progress(runner == "hadoop") as progress, _quiet(progress.see) as messages, job.make_runner() as made:
        try:
            made.run()
        except StepFailedException as error:
            if os.environ.get("TELLTALE_DEBUG"):
                say("\n".join(messages))
            cause = failure(messages) if runner == "hadoop" else None
            logs = showing_logs(messages) if runner == "hadoop" else None
            raise TelltaleError(
                f"the {runner} job failed: {cause or _cause(messages, str(error.reason))}. Run again; if it fails the "
                f"same way, {logs or 'TELLTALE_DEBUG=1'} shows all that its tasks said."
            ) from error
        except (
            OSError,
            subprocess.CalledProcessError,
        ) as error:  # a command of Hadoop's failed, before or after the job
            cause = failure(messages) if runner == "hadoop" else None
            if cause is None and isinstance(error, OSError):
                raise
            raise TelltaleError(f"the {runner} job failed: {cause or _cause(messages, str(error))}.") from error
        for key, value in job.parse_output(made.cat_output()):
            take(key, value)
        counters: dict[str, int] = {}
        for step in made.counters():
            for group in step.values():
                counters.update(group)
        return counters


def _cause(messages: Iterable[str], reason: str) -> str:
    """The last exception that was printed, which is the most precise; else how the process ended."""
    found = re.findall(r"^:? ?[\w.]*(?:Error|Exception)\b: .*$", "\n".join(messages), re.MULTILINE)
    ended = re.search(r"(?:returned|died) .*$", reason)
    return (found[-1].lstrip(": ") if found else f"a process {ended[0]}" if ended else reason).rstrip(".")


@contextmanager
def _quiet(see: Callable[[str], None]) -> Iterator[deque[str]]:
    """Keep mrjob's messages from the terminal; shows each to `see`, gives the last of them."""
    messages: deque[str] = deque(maxlen=1000)

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())
            see(messages[-1])

    logger, handler = logging.getLogger("mrjob"), Collect()
    before = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)
        logger.propagate, level = before
        logger.setLevel(level)


@contextmanager
def _importable() -> Iterator[None]:
    """Let the processes that a runner starts on this machine import our packages, installed or not."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = str(_ROOT) if not before else f"{_ROOT}{os.pathsep}{before}"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _plain_place() -> str:
    """A temporary folder whose name needs no quotes: mrjob percent-encodes paths, which Hadoop takes to the letter."""
    usual = tempfile.gettempdir()
    plain = [place for place in (usual, "/tmp", "/var/tmp") if re.fullmatch(r"[\w./-]+", place, re.ASCII)]
    return next((place for place in plain if os.access(place, os.W_OK)), usual)


def _write_lists(lines: Iterable[Mapping[str, Any]], folder: Path, count: int) -> list[str]:
    """Deal the lines out to at most `count` files (at least one), as JSON without a raw newline in it."""
    paths = [folder / f"work-{number:05d}.jsonl" for number in range(count)]
    used = 1
    streams = [path.open("w", encoding="ascii") for path in paths]
    try:
        for number, line in enumerate(lines):
            streams[number % count].write(json.dumps(line) + "\n")
            used = min(count, number + 1)
    finally:
        for stream in streams:
            stream.close()
    return [str(path) for path in paths[:used]]


def _local_options(folder: Path, options: Sequence[str]) -> list[str]:
    return ["--no-bootstrap-mrjob", "--num-cores", str(cores())]


def _spark_options(folder: Path, options: Sequence[str]) -> list[str]:
    """Spark on this machine, unless the options name a master: then where things are is theirs to say.

    Raises:
        SetupError: no Java, or no Spark.
    """
    check_java()
    submit = [] if os.environ.get("SPARK_HOME") else ["--spark-submit-bin", shlex.quote(_spark_submit())]
    if any(option.startswith("--spark-master") for option in options):
        return submit
    return [
        *submit,
        "--no-bootstrap-mrjob",
        "--python-bin",
        _plain_python(folder),
        "--spark-tmp-dir",
        str(folder / "spark"),
    ]


def _spark_submit() -> str:
    spec = importlib.util.find_spec("pyspark")
    places = list(spec.submodule_search_locations or []) if spec else []
    found = [Path(place, "bin", "spark-submit") for place in places if Path(place, "bin", "spark-submit").is_file()]
    if not found:
        raise SetupError("Spark not found: install the extra with `pip install 'telltale[spark]'`, or set SPARK_HOME.")
    return str(found[0])


def _plain_python(folder: Path) -> str:
    """This Python, under a name that needs no quotes: Spark takes PYSPARK_PYTHON to the letter, mrjob quotes it."""
    if shlex.quote(sys.executable) == sys.executable:
        return sys.executable
    wrapper = folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n', encoding="utf-8")
    wrapper.chmod(0o700)
    return str(wrapper)
