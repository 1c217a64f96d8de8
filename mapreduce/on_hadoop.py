"""Hadoop Streaming on YARN: what a job takes along into its containers, how far it has got, and why it failed.

A container starts with Python and Java and nothing else: the libraries travel as an archive (`make dist`), our packages
as a zip made for the job. This file must not know what a job computes, and sets no memory sizes: those are the
cluster's, or the user's by `--mrjob`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from tqdm import tqdm

from pipeline.cli import progress, say
from pipeline.errors import SetupError
from pipeline.java import check_java

__all__ = ["LINES_PER_TASK", "WORKER", "Progress", "failure", "hadoop_options", "plain_name", "showing_logs"]

LINES_PER_TASK: Final = "mapreduce.input.lineinputformat.linespermap"

WORKER: Final = "TELLTALE_WORKER"
"""The variable that names the worker environment: a path, an hdfs: URI (nothing is uploaded then), or `none`."""

_ROOT: Final = Path(__file__).resolve().parent.parent
_PACKAGES: Final = ("pipeline", "mapreduce")
_ENVIRONMENT: Final = "environment"  # the archive's name in a container
_LOG_WAIT: Final = (0, 2, 4, 8, 16, 30)  # seconds between looks at logs that YARN is still collecting

_CAUSES: Final = (
    (
        r"running (?:\d+B )?beyond the '?(?:PHYSICAL|VIRTUAL)'? memory limit\. Current usage: ([^;]*)",
        "a task needed more memory than its container has ({0}); give map tasks more with "
        "--mrjob='--jobconf mapreduce.map.memory.mb=2048'",
    ),
    (
        r"(?:Name node|NameNode) is in safe mode",
        "HDFS is in safe mode and takes no writes; wait for it (hdfs dfsadmin -safemode wait), then run again",
    ),
    (
        r"The DiskSpace quota of (\S+) is exceeded",
        "the space quota of {0} in HDFS is used up; free space there or raise the quota (hdfs dfsadmin -setSpaceQuota)",
    ),
    (
        r"The NameSpace quota \(directories and files\) of directory (\S+) is exceeded",
        "the quota of files of {0} in HDFS is used up; remove some or raise it (hdfs dfsadmin -setQuota)",
    ),
    (
        r"could only be written to 0 of the \d+ minReplication nodes",
        "no DataNode of HDFS could take the data: they are full or down (hdfs dfsadmin -report tells)",
    ),
    (
        r"(?:AccessControlException: )?Permission denied: user=(\S+), access=(\w+), inode=\"([^\"]+)\"",
        "HDFS user {0} has no {1} permission for {2}; ask for it, or set HADOOP_USER_NAME",
    ),
    (
        r"Cannot run program \"?(python[\d.]*)\"?|(?:env|exec): .?(python[\d.]*).?: (?:No such file|not found)",
        "{0} is not on the nodes' path; name theirs with --mrjob='--python-bin /path/to/python3'",
    ),
    (r"was killed by user (\S+)", "the job was killed by {0}"),
)
_UNREACHABLE: Final = (
    (
        r"(Call From \S+ to \S+ failed on connection exception|Retrying connect to server: \S+)",
        "the cluster does not answer ({0}); check that it is up, and that HADOOP_CONF_DIR is the right one",
    ),
)
"""Asked last: the client says so too while a ResourceManager is started again, and goes on."""


def hadoop_options(folder: Path, options: Sequence[str]) -> list[str]:
    """mrjob's options for a job that carries its own environment.

    Args:
        folder: temporary, for the packages' zip.
        options: the user's, which win.

    Raises:
        SetupError: Java, `hadoop` or the worker environment is missing.
    """
    check_java()
    program = _program(options)
    if not shutil.which(program):
        raise SetupError(
            f"runner hadoop needs the program '{program}', which is not on the PATH. Set HADOOP_HOME "
            'to your cluster\'s client, or start a cluster here: make cluster, then eval "$(python -m cluster env)".'
        )
    jobs = folder / "telltale-jobs.zip"
    _zip_packages(jobs)
    carried = ["--files", str(jobs), "--cmdenv", f"PYTHONPATH={jobs.name}:{_ENVIRONMENT}", "--cmdenv", "LANG=C.UTF-8"]
    worker = _worker()
    archives = ["--archives", f"{plain_name(folder, worker)}#{_ENVIRONMENT}"] if worker else []
    return ["--no-bootstrap-mrjob", "--python-bin", "python3", *carried, *archives]


def plain_name(folder: Path, file: str) -> str:
    """The file, under a name in `folder` if its own is one that `hadoop fs -put` would take for an escaped URI."""
    if re.fullmatch(r"[\w./:+-]+", file, re.ASCII):
        return file
    link = folder / Path(file).name
    if not link.is_symlink():
        link.symlink_to(file)
    return str(link)


def _program(options: Sequence[str]) -> str:
    """The `hadoop` that mrjob will call."""
    words = " ".join(options)
    if given := re.findall(r"--hadoop-bin[ =](\S+)", words):
        return str(given[-1])
    home = os.environ.get("HADOOP_HOME")
    return str(Path(home, "bin", "hadoop")) if home else "hadoop"


def _worker() -> str | None:
    """The worker environment's URI, or None where the nodes have the libraries themselves."""
    named = os.environ.get(WORKER)
    if named == "none":
        return None
    if named and ":" in named:
        return named
    path = Path(named) if named else _ROOT / "dist" / "telltale-worker.tar.gz"
    if not path.is_file():
        raise SetupError(
            f"{path}: no worker environment there: make it with `make dist`, or name one with {WORKER}=PATH (an hdfs: "
            f"URI is not uploaded again for each job), or say {WORKER}=none if Telltale is installed on every node."
        )
    return str(path.absolute())


def _zip_packages(target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as jobs:
        for package in _PACKAGES:
            for path in sorted((_ROOT / package).rglob("*.py")):
                jobs.write(path, str(path.relative_to(_ROOT)))


class Progress:
    """How far a job is, from the lines that Hadoop's client prints; a bar on a terminal, nothing elsewhere."""

    def __init__(self, shown: bool) -> None:
        self._bar: tqdm[Any] = tqdm(total=100, desc="map", unit="%", disable=None if shown else True, leave=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def see(self, line: str) -> None:
        """Take one line of the client's."""
        if url := re.search(r"The url to track the job: (\S+)", line):
            say(f"the job: {url[1]}")
        if found := re.search(r"map (\d+)% reduce (\d+)%", line):
            self._bar.n = int(found[1])
            self._bar.set_postfix_str(f"reduce {found[2]}%", refresh=False)
            self._bar.refresh()


def failure(messages: Iterable[str]) -> str | None:
    """Why a job failed, in one sentence without its full stop, or None if neither client nor tasks tell.

    Args:
        messages: what the client printed, in order.
    """
    text = "\n".join(messages)
    if known := _known(text, _CAUSES):
        return known
    application = _application(text)
    logs = _task_logs(application) if application else ""
    if known := _known(logs, _CAUSES):
        return known
    raised = re.findall(r"^[\w.]*(?:Error|Exception)\b: .*$", logs, re.MULTILINE)
    own = [line for line in raised if not line.startswith(("java.", "org.apache."))]
    if own:
        return f"a task failed with {own[-1].rstrip('.')}"
    return _known(f"{text}\n{logs}", _UNREACHABLE)


def showing_logs(messages: Iterable[str]) -> str | None:
    """The command that shows what a job's tasks wrote, or None if it never got as far as to have any."""
    application = _application("\n".join(messages))
    return f"yarn logs -applicationId {application}" if application else None


def _application(text: str) -> str | None:
    """The last application that is named."""
    return next(reversed(re.findall(r"application_\d+_\d+", text)), None)


def _known(text: str, causes: Iterable[tuple[str, str]]) -> str | None:
    for pattern, message in causes:
        if found := re.search(pattern, text):
            return message.format(*(group for group in found.groups() if group))
    return None


def _task_logs(application: str) -> str:
    """What the tasks wrote to standard error, once YARN has collected it."""
    yarn = shutil.which("yarn") or str(Path(os.environ.get("HADOOP_HOME", ""), "bin", "yarn"))
    command, found = [yarn, "logs", "-applicationId", application, "-log_files", "stderr"], ""
    for seconds in progress(_LOG_WAIT, "collecting the tasks' logs", unit="look"):
        time.sleep(seconds)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):  # no client here, or no cluster any more
            break
        found = done.stdout
        if done.returncode == 0 and "Traceback" in found:
            break
    return found
