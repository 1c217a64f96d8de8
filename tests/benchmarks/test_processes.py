"""What is measured of a command is that of its whole process tree."""

from __future__ import annotations

import sys

import pytest

from benchmarks._processes import run

CHILD = "import time; held = b'x' * (100 << 20); time.sleep(1.5)"
BUSY = "import time\nwhile time.process_time() < 0.5: pass"


def test_memory_of_children_counts() -> None:
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"
    measured = run([sys.executable, "-c", starter], watch=True)
    assert 100 << 20 < measured.others == measured.memory < 200 << 20
    assert (measured.java, measured.processes) == (0, 2)


def test_processor_time_of_children_counts() -> None:
    starter = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BUSY!r}], check=True); print('done')"
    measured = run([sys.executable, "-c", starter])
    assert measured.processor >= 0.5
    assert (measured.output, measured.memory) == ("done\n", 0)


def test_failing_command_says_what_it_said() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ended with 3:.*the reason"):
        run([sys.executable, "-c", "import sys; print('the reason', file=sys.stderr); sys.exit(3)"])
