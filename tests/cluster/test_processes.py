"""A process is ended only if it is the one that was started."""

from __future__ import annotations

import os
import time
from pathlib import Path

import psutil

from cluster.processes import Started, end_all, leftovers, start


def wait_for(word: str, log: Path) -> None:
    """Until a log says it."""
    while word not in log.read_text():
        time.sleep(0.02)


def test_a_process_id_that_another_process_has_now_is_not_ours() -> None:
    own = psutil.Process()
    assert Started(own.pid, own.create_time(), 0).process() == own
    assert Started(own.pid, own.create_time() - 60, 0).process() is None


def test_what_is_started_has_a_session_of_its_own_and_adds_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("before\n")
    begun = start(["/bin/sh", "-c", "echo $WORD; exec sleep 60"], {"WORD": "hello", "PATH": os.defpath}, log)
    assert begun.logged == len("before\n")
    process = begun.process()
    assert process
    assert os.getsid(begun.pid) == begun.pid
    wait_for("hello", log)
    end_all([process], grace=5)
    assert begun.process() is None
    assert log.read_text() == "before\nhello\n"


def test_a_process_that_does_not_end_when_asked_is_ended(tmp_path: Path) -> None:
    begun = start(
        ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], {"PATH": os.defpath}, tmp_path / "log"
    )
    wait_for("ready", tmp_path / "log")
    process = begun.process()
    assert process
    end_all([process], grace=0.5)
    assert begun.process() is None


def test_only_what_a_node_started_below_its_folder_is_a_leftover(tmp_path: Path) -> None:
    (tmp_path / "node" / "local").mkdir(parents=True)
    script = f"cd '{tmp_path}/node/local'; exec sleep 60"
    container = start(["/bin/sh", "-c", script], {"PATH": os.defpath, "CONTAINER_ID": "container_1"}, tmp_path / "log")
    shell = start(["/bin/sh", "-c", script], {"PATH": os.defpath}, tmp_path / "log")
    elsewhere = start(
        ["/bin/sh", "-c", "exec sleep 60"], {"PATH": os.defpath, "CONTAINER_ID": "container_1"}, tmp_path / "log"
    )
    begun = [container, shell, elsewhere]
    try:
        while not all(psutil.Process(one.pid).name() == "sleep" for one in begun):
            time.sleep(0.02)
        assert [process.pid for process in leftovers([tmp_path / "node"])] == [container.pid]
    finally:
        end_all([process for one in begun if (process := one.process())], grace=2)
