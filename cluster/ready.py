"""Whether the daemons serve: each is asked, over HTTP, what it says of itself and of its nodes."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Final

from cluster.roles import ROLES

__all__ = ["waiting_for"]

_OPENER: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # nothing of ours goes through a proxy
_NODES: Final = 2


def _ask(page: str, path: str) -> Any:
    """The answer of a daemon, or None while it does not give one."""
    try:
        with _OPENER.open(page + path, timeout=5) as answer:
            return json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None


def _namenode(page: str) -> str | None:
    info = _ask(page, "/jmx?qry=Hadoop:service=NameNode,name=NameNodeInfo")
    state = _ask(page, "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystemState")
    if not info or not info["beans"] or not state or not state["beans"]:
        return "the NameNode's answer"
    live = state["beans"][0]["NumLiveDataNodes"]
    if live < _NODES:
        return f"{_NODES} DataNodes ({live} live)"
    return "HDFS to leave safe mode" if info["beans"][0]["Safemode"] else None


def _resourcemanager(page: str) -> str | None:
    answer = _ask(page, "/ws/v1/cluster/metrics")
    if not answer:
        return "the ResourceManager's answer"
    active = answer["clusterMetrics"]["activeNodes"]
    return None if active >= _NODES else f"{_NODES} NodeManagers ({active} active)"


def _historyserver(page: str) -> str | None:
    return None if _ask(page, "/ws/v1/history/info") else "the job history server's answer"


def _spark_master(page: str) -> str | None:
    answer = _ask(page, "/json/")
    if not answer:
        return "the Spark master's answer"
    alive = answer["aliveworkers"]
    return None if alive >= _NODES else f"{_NODES} Spark workers ({alive} alive)"


_OWN: Final = {
    "datanode": "/jmx?qry=Hadoop:service=DataNode,name=DataNodeInfo",
    "nodemanager": "/ws/v1/node/info",
    "spark-worker": "/json/",
}
_CHECKS: Final = {
    "namenode": _namenode,
    "resourcemanager": _resourcemanager,
    "historyserver": _historyserver,
    "spark-master": _spark_master,
}


def waiting_for(pages: Mapping[str, str]) -> list[str]:
    """What is still missing, in words; nothing once the whole cluster serves.

    Args:
        pages: by role, where the daemon answers HTTP.
    """
    found = (check(pages[name]) for name, check in _CHECKS.items())
    missing = [words for words in found if words]
    if missing:
        return missing
    # The heads may not have noticed yet that a node went and came back: the nodes themselves are asked too.
    nodes = ((role, _OWN[role.kind]) for role in ROLES.values() if role.kind in _OWN)
    return [f"{role.name}'s answer" for role, path in nodes if not _serves(role.kind, _ask(pages[role.name], path))]


def _serves(kind: str, answer: Any) -> bool:
    """Whether a node's answer says that it serves; a DataNode answers before the NameNode has taken it in."""
    if not answer or kind != "datanode":
        return bool(answer)
    actors = [actor for bean in answer["beans"] for actor in json.loads(bean.get("BPServiceActorInfo") or "[]")]
    return bool(actors) and all(actor["ActorState"] == "RUNNING" for actor in actors)
