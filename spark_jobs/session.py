"""The Spark session that every job here starts, and what becomes of the errors of Spark.

No master, memory size or host is set: `spark-submit` and its configuration decide. What is set here is only what a
person left open, so that a job also runs as `python spark_jobs/….py`, on a machine without a network, and quietly.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from pipeline import errors
from pipeline.errors import ImageError, SetupError, TelltaleError
from pipeline.java import check_java

try:
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession
except ImportError as error:  # pragma: no cover - the extra is not installed
    raise SystemExit(
        f"error: {error.name} is not installed: install the extra with `pip install 'telltale[spark]'`."
    ) from error

__all__ = ["parallelism", "raise_first", "session", "spark_errors"]

T = TypeVar("T")

_CAUSES: Final = (
    (
        r"ExecutorLostFailure \([^)]*\)(?: Reason:\s*(?P<why>.+?)\.?(?: +Consider .*| Check driver logs .*)?$)?"
        r"|exited unexpectedly \(crashed\)|Py4JNetworkError|Connection refused|OutOfMemory|MemoryError",
        "a Spark process ended before its work was done{why}, most likely for want of memory. Give it more "
        "(spark-submit --driver-memory / --executor-memory; on YARN and Kubernetes also --conf "
        "spark.executor.memoryOverhead=…, which is Python's), or fewer cores (--executor-cores, --master local[1]).",
    ),
    (
        r"(?P<why>Required \w+ memory .*? is above the max threshold \(.*?\))",
        "YARN gives no container of that size{why}. Ask for less (--executor-memory, --driver-memory, "
        "spark.executor.memoryOverhead), or have yarn.scheduler.maximum-allocation-mb raised.",
    ),
    (
        r"SparkContext was shut down|Spark context stopped|stopped SparkContext|Master removed our application"
        r"|All masters are unresponsive|Exiting due to error from cluster scheduler",
        "the cluster ended the application before its work was done, or does not answer. Spark's own ERROR lines "
        "above say why: it was killed, wanted more cores or memory than a node has, or lost too many executors "
        "(mostly for want of memory: spark.executor.memoryOverhead). Mend that, then run the same command again.",
    ),
)
_LOCAL = {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}


def session(app_name: str) -> SparkSession:
    """A Spark session; use it within `spark_errors()` and stop it at the end.

    Raises:
        SetupError: no Java, or the wrong Java.
    """
    check_java()
    SparkContext._ensure_initialized()  # the Java side is there from here on, so its logging can be turned down
    _quiet()
    conf = SparkConf().setAppName(app_name)
    conf.setIfMissing("spark.master", "local[*]")
    conf.setIfMissing("spark.ui.enabled", "false")
    conf.set("spark.ui.showConsoleProgress", str(sys.stderr.isatty()).lower())
    conf.setIfMissing("spark.sql.shuffle.partitions", "8")
    if conf.get("spark.master", "").startswith("local"):
        for key, value in _LOCAL.items():
            conf.setIfMissing(key, value)
        # Here the workers' Python is the driver's; on a cluster it is the nodes' own, `python3` unless somebody says
        # otherwise. (Were it set before Spark is started, a blank in it would break Spark's start script.)
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    if chosen := conf.get("spark.pyspark.python", None):
        os.environ["PYSPARK_PYTHON"] = chosen
    spark = SparkSession.builder.config(conf=conf).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def _quiet() -> None:
    jvm = SparkContext._jvm
    if jvm is not None:
        jvm.org.apache.spark.SparkConf(False).initializeLogIfNecessary(False)  # else Spark would set its level later
        log4j = jvm.org.apache.logging.log4j
        log4j.core.config.Configurator.setRootLevel(log4j.Level.ERROR)


@contextmanager
def spark_errors() -> Iterator[None]:
    """Turn what Spark raises into one line.

    Raises:
        TelltaleError: what a worker raised if that was one, otherwise one with the last line of what Spark says.
        SetupError: a worker, an executor or the Java side died, or the cluster ended the application.
    """
    try:
        yield
    except (Py4JError, PySparkException, ConnectionError) as error:
        raise _explain(str(error)) from error


def _explain(text: str) -> TelltaleError:
    own = re.findall(r"^pipeline\.errors\.(\w+): (.*)$", text, flags=re.MULTILINE)
    if own:
        return _again(*own[-1])
    for pattern, message in _CAUSES:
        if found := re.search(pattern, text, flags=re.MULTILINE):
            why = found.groupdict().get("why")
            return SetupError(message.format(why=f" ({why})" if why else ""))
    # A line of Python's, or of Java's, where it stands behind a colon or "Caused by"; the last one is the cause.
    line = r"^(?:: |Caused by: )?(?:[\w.]+\.)?(\w*(?:Error|Exception)\b.*)$"
    said = re.findall(line, text, flags=re.MULTILINE)
    reason = (said or text.strip().splitlines() or ["no reason given"])[-1].strip()
    return TelltaleError(f"Spark failed: {reason}. Run the same command again to continue.")


def _again(name: str, message: str) -> TelltaleError:
    """The error that a worker raised, as the driver would have raised it."""
    kind = getattr(errors, name, TelltaleError)
    takes_message = issubclass(kind, TelltaleError) and not issubclass(kind, ImageError)
    return kind(message) if takes_message else TelltaleError(message)


def parallelism(spark: SparkSession, items: int, per_task: int) -> int:
    """The number of tasks for so many items: by their number, but no core idle while there is something for it."""
    return max(1, -(-items // per_task), min(items, spark.sparkContext.defaultParallelism))


def raise_first(results: Iterable[T | TelltaleError]) -> list[T]:
    """The results of tasks that return their errors as values, or the first error.

    Raises:
        TelltaleError: the first one among the results.
    """
    done: list[T] = []
    for result in results:
        if isinstance(result, TelltaleError):
            raise result
        done.append(result)
    return done
