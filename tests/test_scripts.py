"""The set-up scripts: what they accept, and what they tell whoever lacks Java or Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_script(root: Path, name: str, path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/<name> where only `path` and the system's own tools are on the path."""
    tools = {"PATH": f"{path}{os.pathsep}{os.defpath}", **variables}
    return subprocess.run(
        ["bash", str(root / "scripts" / name)],
        env=tools,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def install(folder: Path, name: str, body: str) -> Path:
    """Put an executable shell script into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("version", ['openjdk version "17.0.15" 2025-04-15', 'openjdk version "21" 2023-09-19'])
def test_java_17_and_later_pass(repo_root: Path, tmp_path: Path, version: str) -> None:
    install(tmp_path, "java", f"echo '{version}' >&2")
    done = run_script(repo_root, "check-java", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("version", ['java version "1.8.0_402"', 'openjdk version "11.0.22" 2024-01-16', "?"])
def test_another_java_is_named_with_the_cure(repo_root: Path, tmp_path: Path, version: str) -> None:
    install(tmp_path, "java", f"echo '{version}' >&2")
    done = run_script(repo_root, "check-java", tmp_path)
    assert done.returncode == 1
    assert version in done.stderr
    assert "Java 17 or later" in done.stderr
    assert "JAVA_HOME" in done.stderr


def test_java_home_goes_before_the_path(repo_root: Path, tmp_path: Path) -> None:
    install(tmp_path / "path", "java", "echo 'openjdk version \"17.0.1\"' >&2")
    done = run_script(repo_root, "check-java", tmp_path / "path", JAVA_HOME=str(tmp_path / "gone"))
    assert done.returncode == 1
    assert f"{tmp_path}/gone/bin/java" in done.stderr


def test_a_python_that_does_not_start_is_passed_over(repo_root: Path, tmp_path: Path) -> None:
    install(tmp_path, "python3.12", "echo 'python3.12: command not found' >&2; exit 127")
    good = install(tmp_path, "python3.11", f"exec '{sys.executable}' \"$@\"")
    done = run_script(repo_root, "find-python", tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, str(good))


def test_the_named_python_or_none(repo_root: Path, tmp_path: Path) -> None:
    install(tmp_path, "python3.12", f"exec '{sys.executable}' \"$@\"")
    old = install(tmp_path, "old", "exit 1")
    done = run_script(repo_root, "find-python", tmp_path, PYTHON=str(old))
    assert (done.returncode, done.stdout) == (1, "")
    assert f"tried: {old}" in done.stderr
    assert "make setup PYTHON=" in done.stderr
