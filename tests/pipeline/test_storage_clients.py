"""No client is loaded before a URI needs it; a missing one is named; a child makes its own; a stuck one is left."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from pipeline.errors import SetupError
from pipeline.storage import Folder, _gcs, _hdfs_client, _s3
from pipeline.storage._remote import within
from tests.servers import BUCKET

CLIENTS = ("boto3", "botocore", "google.cloud.storage", "hdfs_native", "fsspec", "requests")


def test_no_client_is_loaded_before_a_uri_needs_it() -> None:
    code = (
        "import sys, pipeline.storage as s; s.Folder('x').exists(); s.Folder('hdfs:///x'); s.Folder('s3://lake/x');"
        f"print([name for name in {CLIENTS!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("uri", "module", "extra"),
    [
        ("s3://lake/x", "boto3", "s3"),
        ("gs://lake/x", "google.cloud", "gcs"),
        ("hdfs://127.0.0.1:9/x", "hdfs_native", "hdfs"),
    ],
)
def test_a_missing_client_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, uri: str, module: str, extra: str
) -> None:
    for clients in (_s3._clients, _gcs._clients, _hdfs_client._clients):
        clients.clear()
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SetupError, match=rf"telltale\[{extra}\]"):
        Folder(uri).exists("a")


def test_a_forked_child_makes_a_client_of_its_own(s3: str) -> None:
    folder = Folder(f"s3://{BUCKET}/forked")
    folder.put("a", b"1")
    child = os.fork()
    if not child:
        os._exit(0 if folder.read("a") == b"1" and len(_s3._clients) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_does_not_end_in_time_is_left_behind() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, never.wait)
    never.set()


def test_what_ends_in_time_gives_what_it_gives_and_raises_what_it_raises() -> None:
    assert within(10, lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        within(10, lambda: 1 / 0)
