"""Spark inside the test process, for the room's tests."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from pyspark import SparkContext


@pytest.fixture(autouse=True)
def as_a_person_types() -> Iterator[None]:
    """A session sets PYSPARK_PYTHON for its own process; the commands that tests start must do without it."""
    yield
    os.environ.pop("PYSPARK_PYTHON", None)


@pytest.fixture
def master() -> Iterator[None]:
    """Spark in this process, on two cores."""
    set_property("spark.master", "local[2]")
    yield
    set_property("spark.master", None)


def set_property(name: str, value: str | None) -> None:
    """What `spark-submit --conf name=value` does, for the Spark of this process."""
    SparkContext._ensure_initialized()
    assert SparkContext._jvm is not None
    system = SparkContext._jvm.java.lang.System
    system.setProperty(name, value) if value else system.clearProperty(name)
