"""Spark on the same cluster: standalone, and on YARN as a client."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from cluster import Cluster
from tests.cluster.commands import run, spark_submit

pytestmark = pytest.mark.cluster

JOB = """
import json, os, random
from pyspark import SparkContext

def throw(seed):
    draw = random.Random(seed)
    return os.getcwd(), sum(draw.random() ** 2 + draw.random() ** 2 < 1 for _ in range(20_000))

spark = SparkContext()
found = spark.parallelize(range(8), 8).map(throw).collect()
lines = spark.textFile("hdfs:///tmp/for-spark.txt").count()
pi = 4 * sum(hits for _, hits in found) / 160_000
print(json.dumps({"pi": pi, "lines": lines, "folders": [folder for folder, _ in found]}))
"""


@pytest.mark.parametrize(("master", "nodes"), [("standalone", "spark-worker"), ("yarn", "nodemanager")])
def test_a_spark_job_runs_on_both_nodes(cluster: Cluster, tmp_path: Path, master: str, nodes: str) -> None:
    (tmp_path / "job.py").write_text(JOB, encoding="utf-8")
    (tmp_path / "for-spark.txt").write_text("one\ntwo\n", encoding="utf-8")
    run(cluster, "hdfs", "dfs", "-put", "-f", str(tmp_path / "for-spark.txt"), "/tmp/")
    uri = cluster.spark_master if master == "standalone" else master
    said = json.loads(spark_submit(cluster, uri, "job.py", cwd=tmp_path).splitlines()[-1])
    assert abs(said["pi"] - 3.1416) < 0.05
    assert said["lines"] == 2
    both = [str(cluster.folder(f"{nodes}-{number}")) + os.sep for number in (1, 2)]
    assert all(any(folder.startswith(one) for folder in said["folders"]) for one in both)
