"""Finding Java before Spark or Hadoop needs it, so that a person reads one clear line instead of a stack trace."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from pipeline.errors import SetupError

__all__ = ["MINIMUM", "check_java"]

MINIMUM = 17


def check_java() -> str:
    """The Java program that Spark will use.

    Raises:
        SetupError: there is none, or it is older than `MINIMUM`.
    """
    home = os.environ.get("JAVA_HOME")
    java = os.path.join(home, "bin", "java") if home else shutil.which("java")
    cure = f"Install Java {MINIMUM} or later (for example openjdk-{MINIMUM}-jre-headless), or set JAVA_HOME to one."
    if not java or not os.access(java, os.X_OK):
        where = f"JAVA_HOME is {home}, but {java} is not there" if home else "no `java` on the PATH"
        raise SetupError(f"Java not found: {where}. {cure}")
    try:
        text = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=60, check=False).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SetupError(f"{java} cannot be run ({error}). {cure}") from error
    found = re.search(r'version "(?:1\.)?(\d+)', text)
    if not found or int(found[1]) < MINIMUM:
        version = found[1] if found else "unknown"
        raise SetupError(f"{java} is Java {version}, Spark needs {MINIMUM} or later. {cure}")
    return java
