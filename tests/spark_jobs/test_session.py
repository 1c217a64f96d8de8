"""The Spark session: what a worker raises reaches the person as one line, with the right exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import pytest
from py4j.protocol import Py4JError
from pyspark import SparkContext
from pyspark.sql import SparkSession

from pipeline.errors import ConfigError, DataError, ImageError, SetupError, TelltaleError
from spark_jobs.session import parallelism, raise_first, session, spark_errors


@pytest.fixture(scope="module")
def spark() -> Iterator[SparkSession]:
    """Spark in this process, on two cores."""
    SparkContext._ensure_initialized()
    assert SparkContext._jvm is not None
    SparkContext._jvm.java.lang.System.setProperty("spark.master", "local[2]")
    started = session("telltale test")
    yield started
    started.stop()
    SparkContext._jvm.java.lang.System.clearProperty("spark.master")


def _raise(error: Exception) -> Callable[[int], None]:
    def task(number: int) -> None:
        raise error

    return task


def _die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("task", "kind", "code", "words"),
    [
        (_raise(DataError("x.jpg: too few. Add some.")), DataError, 1, "x.jpg: too few. Add some."),
        (_raise(ConfigError("unknown key 'a'.")), ConfigError, 2, "unknown key 'a'."),
        (_raise(ImageError("truncated", "the file is cut")), TelltaleError, 1, "the file is cut"),
        (_raise(ValueError("seven")), TelltaleError, 1, "Spark failed: ValueError: seven. Run the same command again"),
        (_raise(MemoryError()), SetupError, 1, "memory"),
        (_die, SetupError, 1, "ended before its work was done"),
    ],
)
def test_what_a_worker_raises_is_one_line(
    spark: SparkSession, task: Callable[[int], None], kind: type[TelltaleError], code: int, words: str
) -> None:
    with pytest.raises(TelltaleError) as caught, spark_errors():
        spark.sparkContext.parallelize(range(2), 2).map(task).collect()
    assert type(caught.value) is kind
    assert caught.value.exit_code == code
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_java_raises_is_one_line_and_says_what_it_was(spark: SparkSession) -> None:
    assert SparkContext._jvm is not None
    said = r"^Spark failed: FileNotFoundException: /nowhere/at all .*\. Run the same"
    with pytest.raises(TelltaleError, match=said), spark_errors():
        SparkContext._jvm.java.io.FileInputStream("/nowhere/at all")


LOST = (
    "org.apache.spark.SparkException: Job aborted due to stage failure: Task 4 in stage 0.0 failed 4 times, most "
    "recent failure: Lost task 4.3 in stage 0.0 (TID 4) (node executor 1): ExecutorLostFailure (executor 1 exited "
    "caused by one of the running tasks)"
)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (
            " Reason: Container killed by YARN for exceeding physical memory limits. 1.1 GB of 1 GB physical memory "
            "used. Consider boosting spark.executor.memoryOverhead.",
            "Container killed by YARN for exceeding physical memory limits. 1.1 GB of 1 GB physical memory used",
        ),
        (
            " Reason: Container from a bad node: c_1 on host: a. Exit status: 137. Diagnostics: [1]Killed.\n[2]137\n",
            "Container from a bad node: c_1 on host: a. Exit status: 137. Diagnostics: [1]Killed",
        ),
        (" Reason: \nExecutor 1 exited with exit code 137.\n\n", "Executor 1 exited with exit code 137"),
        (" Reason: Command exited with code 137", "Command exited with code 137"),
        (" Reason: RPC client disassociated. Check driver logs for WARN messages.", "RPC client disassociated"),
        ("", None),
    ],
)
def test_why_an_executor_was_lost_is_told(reason: str, why: str | None) -> None:
    with pytest.raises(SetupError) as caught, spark_errors():
        raise Py4JError(f"{LOST}{reason}\nDriver stacktrace:\n\tat org.apache.spark")
    shown = f" ({why})" if why else ""
    assert str(caught.value).startswith(f"a Spark process ended before its work was done{shown}, most likely")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SparkException: Job 0 cancelled because SparkContext was shut down", "the cluster ended the application"),
        ("IllegalStateException: Spark context stopped while waiting for backend", "the cluster ended the application"),
        ("IllegalStateException: Cannot call methods on a stopped SparkContext.", "the cluster ended the application"),
        ("SparkException: All masters are unresponsive! Giving up.", "or does not answer"),
        (
            "IllegalArgumentException: Required executor memory (8192 MB), overhead (640 MB) is above the max "
            "threshold (2560 MB) of this cluster! Please check the values of 'yarn.scheduler.maximum-allocation-mb'",
            "(Required executor memory (8192 MB), overhead (640 MB) is above the max threshold (2560 MB))",
        ),
    ],
)
def test_what_a_cluster_refuses_says_what_to_do(text: str, told: str) -> None:
    with pytest.raises(SetupError) as caught, spark_errors():
        raise Py4JError(f"An error occurred.\n: java.lang.{text}\n\tat org.apache.spark")
    assert told in str(caught.value)


def test_only_what_was_left_open_is_set(spark: SparkSession) -> None:
    conf = spark.sparkContext.getConf()
    assert conf.get("spark.master") == "local[2]"
    assert conf.get("spark.driver.host") == "127.0.0.1"
    assert conf.get("spark.ui.enabled") == "false"
    assert spark.sparkContext.pythonExec == sys.executable


def test_tasks_come_from_the_data_and_keep_every_core_busy(spark: SparkSession) -> None:
    assert [parallelism(spark, items, 100) for items in (0, 1, 2, 150, 1000, 1001)] == [1, 1, 2, 2, 10, 11]


def test_the_first_error_among_results_is_raised() -> None:
    assert raise_first([1, 2]) == [1, 2]
    with pytest.raises(DataError, match="one"):
        raise_first([1, DataError("one"), DataError("two")])
