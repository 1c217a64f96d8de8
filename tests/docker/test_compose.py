"""docker/compose.yaml and the Dockerfile hold together with the rest; schema and linter run in scripts/check."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml


@pytest.fixture(scope="module")
def services(repo_root: Path) -> dict[str, dict[str, Any]]:
    """The composed services by name."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((repo_root / "docker" / "compose.yaml").read_text("utf-8"))[
        "services"
    ]
    return found


@pytest.fixture(scope="module")
def dockerfile(repo_root: Path) -> str:
    """The Dockerfile's text."""
    return (repo_root / "docker" / "Dockerfile").read_text(encoding="utf-8")


def test_the_whole_cluster_is_composed(services: dict[str, dict[str, Any]]) -> None:
    from cluster import ROLES

    daemons = {name: service["command"] for name, service in services.items() if "command" in service}
    assert daemons == {name: [role.kind] for name, role in ROLES.items()}
    assert {name for name in services if name not in daemons} == {"hdfs-folders", "trainer", "detection"}


def test_every_daemon_has_a_health_check_a_volume_and_a_limit(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        if "command" in service:
            assert service["healthcheck"]["test"][-1] == service["command"][0]
            assert service["volumes"] == [f"{name}:/data"]
            assert service["environment"]["NODE_HOST"] == service["hostname"] == name
            assert int(service["environment"]["HEAP_MB"]) * 2**20 < int(service["mem_limit"].removesuffix("g")) * 2**30


def test_hosts_of_cluster_env_are_services(repo_root: Path, services: dict[str, dict[str, Any]]) -> None:
    text = (repo_root / "docker" / "cluster.env").read_text(encoding="utf-8")
    hosts = set(re.findall(r"^\w+_HOST=(\S+)$", text, re.MULTILINE)) - {"0.0.0.0"}
    assert hosts
    assert hosts <= set(services)


def test_published_ports_are_this_machines_alone_and_documented(
    repo_root: Path, services: dict[str, dict[str, Any]]
) -> None:
    readme = (repo_root / "docker" / "README.md").read_text(encoding="utf-8")
    published = [port for service in services.values() for port in service.get("ports", [])]
    assert published
    for port in published:
        address, outside, _ = port.split(":")
        assert address == "127.0.0.1"
        assert outside in readme
    assert all(f"`{name}`" in readme for name in services)


def test_images_are_pinned_and_drop_root(services: dict[str, dict[str, Any]], dockerfile: str) -> None:
    froms = re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    stages = re.findall(r"^FROM \S+ AS (\S+)", dockerfile, re.MULTILINE)
    assert all(re.fullmatch(r"[\w/-]+:\d+\.\d+\.\d+[\w.-]*", image) for image in froms if image not in stages)
    for stage in re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[-3:]:
        assert re.findall(r"^USER (\S+)", stage, re.MULTILINE)[-1] == "10001"
    for service in services.values():
        assert re.search(r":\d+\.\d+\.\d+$", service["image"])
        assert service["cap_drop"] == ["ALL"]
        assert "user" not in service


def test_versions_are_those_of_the_checkout(repo_root: Path, dockerfile: str) -> None:
    pom = (repo_root / "docker" / "hadoop" / "pom.xml").read_text(encoding="utf-8")
    hadoop = re.search(r"<hadoop\.version>(.*?)<", pom)
    spark = re.search(r"^pyspark==(.*)$", (repo_root / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert hadoop
    assert spark
    assert f"FROM apache/hadoop:{hadoop[1]} " in dockerfile
    assert f"FROM apache/spark:{spark[1]}-" in dockerfile


def test_what_the_images_copy_is_in_the_build_context(repo_root: Path, dockerfile: str) -> None:
    allowed = {
        line[1:] for line in (repo_root / ".dockerignore").read_text("utf-8").splitlines() if line.startswith("!")
    }
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sources
    for source in sources:
        assert (repo_root / source).exists()
        assert source.split("/")[0] in allowed
