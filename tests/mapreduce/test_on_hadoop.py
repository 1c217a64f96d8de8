"""What a job on YARN takes along, and how Hadoop's own words become one message; whole jobs are in tests/cluster/."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mapreduce.on_hadoop import failure, plain_name, showing_logs


def test_a_file_in_a_folder_with_a_blank_gets_a_plain_name(tmp_path: Path) -> None:
    folder, awkward = tmp_path / "plain", tmp_path / "with a blank"
    folder.mkdir()
    awkward.mkdir()
    (awkward / "job.py").write_text("pass\n", encoding="utf-8")
    named = plain_name(folder, str(awkward / "job.py"))
    assert named == plain_name(folder, str(awkward / "job.py")) == str(folder / "job.py")
    assert Path(named).read_text(encoding="utf-8") == "pass\n"


@pytest.mark.parametrize("name", ["/opt/telltale/dist/worker.tar.gz", "hdfs://namenode:8020/apps/worker.tar.gz"])
def test_a_name_that_is_plain_stays(tmp_path: Path, name: str) -> None:
    assert plain_name(tmp_path, name) == name
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "Container [pid=7,containerID=container_1_0001] is running 192970752B beyond the 'PHYSICAL' memory "
            "limit. Current usage: 312.0 MB of 128 MB physical memory used; 2.9 GB of 268.8 MB virtual memory used.",
            "(312.0 MB of 128 MB physical memory used)",
        ),
        ("STDERR: mkdir: Cannot create directory /user/x. Name node is in safe mode.", "HDFS is in safe mode"),
        ("The DiskSpace quota of /tmp/small is exceeded: quota = 1048576 B", "the space quota of /tmp/small"),
        (
            'Permission denied: user=somebody, access=WRITE, inode="/tmp/private":root:supergroup:drwxr-xr-x',
            "HDFS user somebody has no WRITE permission for /tmp/private",
        ),
    ],
)
def test_what_hadoop_says_becomes_one_sentence(said: str, told: str) -> None:
    found = failure(["Running job: job_1_0001", said])
    assert found
    assert told in found


RETRYING = "INFO ipc.Client: Retrying connect to server: 127.0.0.1/127.0.0.1:8032. Already tried 0 time(s)"


def test_a_cluster_that_was_away_for_a_while_is_not_the_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ResourceManager was started again, and the job then failed for a reason of its own."""
    monkeypatch.setattr(
        "mapreduce.on_hadoop._task_logs", lambda _: "Traceback\nModuleNotFoundError: No module 'pyarrow'\n"
    )
    found = failure([RETRYING, "Submitted application application_1_0001"])
    assert found == "a task failed with ModuleNotFoundError: No module 'pyarrow'"


def test_a_cluster_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mapreduce.on_hadoop._task_logs", lambda _: "")
    found = failure([RETRYING])
    assert found
    assert found.startswith("the cluster does not answer (Retrying connect to server: 127.0.0.1/127.0.0.1:8032")


def test_what_nobody_can_explain_stays_unexplained() -> None:
    assert failure(["Running job: job_1_0001"]) is None


def test_logs_that_a_busy_cluster_collects_late_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client fails twice, then has the logs of the application master alone, and at last those of the task."""
    yarn = tmp_path / "yarn"
    waited: list[float] = []
    yarn.write_text(
        "#!/bin/sh\n"
        f'echo look >> "{tmp_path}/looks"\n'
        f'case $(wc -l < "{tmp_path}/looks") in\n'
        "1|2) exit 1;;\n"
        "3|4) echo log4j:WARN;;\n"
        "*) printf 'Traceback (most recent call last):\\nRuntimeError: %s: damaged\\n' \"$3\";;\n"
        "esac\n"
    )
    yarn.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr("time.sleep", waited.append)
    assert failure(["Submitted application application_7_0001"]) == (
        "a task failed with RuntimeError: application_7_0001: damaged"
    )
    assert [seconds for seconds in waited if isinstance(seconds, int)] == [0, 2, 4, 8, 16]  # others are subprocess's


def test_the_command_that_shows_the_logs_is_named() -> None:
    said = ["Submitted application application_7_0001", "Submitted application application_7_0002"]
    assert showing_logs(said) == "yarn logs -applicationId application_7_0002"
    assert showing_logs(["no cluster"]) is None
