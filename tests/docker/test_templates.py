"""docker/bin/render and the templates: every hole has a value, and a value cannot break the file."""

from __future__ import annotations

import os
import re
import subprocess
import xml.etree.ElementTree
from pathlib import Path

import pytest

# Each container's own, or its image's; everything else is in cluster.env.
OWN = {"DATA_DIR", "NODE_HOST", "HADOOP_HOME", "SPARK_HOME"}


def render(repo_root: Path, templates: Path, target: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script as a start script does."""
    command = [str(repo_root / "docker" / "bin" / "render"), str(templates), str(target)]
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def cluster_env(repo_root: Path) -> dict[str, str]:
    """The variables of docker/cluster.env."""
    lines = (repo_root / "docker" / "cluster.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("engine", ["hadoop", "spark"])
def test_cluster_env_and_the_containers_own_fill_every_hole(repo_root: Path, tmp_path: Path, engine: str) -> None:
    variables = {**cluster_env(repo_root), **dict.fromkeys(OWN, "own")}
    done = render(repo_root, repo_root / "docker" / engine / "conf", tmp_path / "conf", **variables)
    assert done.returncode == 0, done.stderr
    texts = [path.read_text(encoding="utf-8") for path in (tmp_path / "conf").iterdir()]
    assert texts
    assert not any(re.search(r"\$\{[A-Z_]+\}", text) for text in texts)


def test_no_variable_of_cluster_env_is_idle(repo_root: Path) -> None:
    docker = repo_root / "docker"
    files = [*docker.glob("*/conf/*"), *docker.glob("bin/*")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    assert [name for name in cluster_env(repo_root) if name not in text] == []


def test_a_value_is_escaped_in_xml_alone(repo_root: Path, tmp_path: Path) -> None:
    templates = tmp_path / "templates"
    templates.mkdir()
    (templates / "a.xml").write_text("<a>${VALUE} $PWD ${lower.case}</a>", encoding="utf-8")
    (templates / "a.conf").write_text("a ${VALUE}", encoding="utf-8")
    done = render(repo_root, templates, tmp_path / "conf", VALUE="ä<&>\\1 ${VALUE}")
    assert done.returncode == 0, done.stderr
    tree = xml.etree.ElementTree.parse(tmp_path / "conf" / "a.xml")
    assert tree.getroot().text == "ä<&>\\1 ${VALUE} $PWD ${lower.case}"
    assert (tmp_path / "conf" / "a.conf").read_text(encoding="utf-8") == "a ä<&>\\1 ${VALUE}"


def test_a_missing_variable_is_named(repo_root: Path, tmp_path: Path) -> None:
    variables = {**cluster_env(repo_root), **dict.fromkeys(OWN, "own")}
    del variables["NAMENODE_PORT"]
    done = render(repo_root, repo_root / "docker" / "hadoop" / "conf", tmp_path / "conf", **variables)
    assert done.returncode == 1
    assert "core-site.xml needs the variable NAMENODE_PORT" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["daemon"], "usage: daemon ROLE"), (["daemon", "oracle"], "no role `oracle`"), (["client"], "usage: client"),
     (["healthy", "oracle"], "usage: healthy namenode|")],
)  # fmt: skip
def test_scripts_say_how_they_are_used(repo_root: Path, tmp_path: Path, arguments: list[str], said: str) -> None:
    variables = {**cluster_env(repo_root), **dict.fromkeys(OWN, "own"), "DATA_DIR": str(tmp_path)}
    script = str(repo_root / "docker" / "bin" / arguments[0])
    environment = {"PATH": os.environ["PATH"], **variables}
    done = subprocess.run([script, *arguments[1:]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert said in done.stderr
