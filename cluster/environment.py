"""The variables that daemons and clients are told, from a cluster's state. What they mean: docker/cluster.env."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

from cluster.roles import shared_variables
from cluster.state import State
from pipeline.java import check_java

__all__ = ["default_fs", "for_clients", "for_daemons", "spark_master"]


def default_fs(kept: State) -> str:
    """HDFS's URI, without a slash at the end."""
    return f"hdfs://{kept.at('namenode', 'NAMENODE_PORT')}"


def spark_master(kept: State) -> str:
    """The standalone master's URI."""
    return f"spark://{kept.at('spark-master', 'SPARK_MASTER_PORT')}"


def for_clients(kept: State) -> dict[str, str]:
    """What Hadoop's and Spark's commands need to find this cluster; `PATH` is only what comes first."""
    home, conf = kept.links["hadoop"], Path(kept.links["data"])
    return {
        "HADOOP_HOME": home,
        "HADOOP_CONF_DIR": str(conf / "conf"),
        "YARN_CONF_DIR": str(conf / "conf"),
        "SPARK_CONF_DIR": str(conf / "spark-conf"),
        "JAVA_HOME": _java_home(),
        "PATH": f"{home}/bin",
        "TELLTALE_HDFS": default_fs(kept),
        "TELLTALE_SPARK_MASTER": spark_master(kept),
    }


def for_daemons(kept: State, role: str | None = None) -> dict[str, str]:
    """What every daemon gets; nothing of this process's environment, so that containers start with as little.

    Args:
        kept: the cluster's state.
        role: the daemon; none for scripts that run beside them.
    """
    host = kept.host(role)
    user = pwd.getpwuid(os.getuid())
    path = f"{kept.links['data']}/path:/usr/bin:/bin"
    return {
        **shared_variables(kept.ports, kept.host()),
        "NODE_HOST": host,
        "BIND_HOST": host,
        "HADOOP_HOME": kept.links["hadoop"],
        "SPARK_HOME": kept.links["spark"],
        "JAVA_HOME": _java_home(),
        "JAVA_OPTIONS": "-XX:TieredStopAtLevel=1",  # starts in half the time
        "PATH": path,
        "CONTAINER_PATH": path,
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "HDFS_USER": user.pw_name,
        "SPARK_LOCAL_IP": host,
    }


def _java_home() -> str:
    return str(Path(check_java()).resolve().parent.parent)
