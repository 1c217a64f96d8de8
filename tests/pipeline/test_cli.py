"""Commands: what they raise becomes a message and an exit code, never a traceback."""

from __future__ import annotations

import pytest

from pipeline.canonical import Canonical
from pipeline.cli import run_command, show_config
from pipeline.errors import ConfigError, DataError, TelltaleError, UsageError


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UsageError("bad use"), 2),
        (ConfigError("bad key"), 2),
        (DataError("bad data"), 1),
        (TelltaleError("bad luck"), 1),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 1),
        (ZeroDivisionError("a defect"), 1),
    ],
)
def test_errors_become_messages_and_exit_codes(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def main(arguments: object) -> None:
        raise error

    assert run_command(main) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert str(error) in captured.err
    assert "Traceback" not in captured.err


def test_success_is_zero_and_a_returned_code_is_kept() -> None:
    assert run_command(lambda _: None) == 0
    assert run_command(lambda _: 1) == 1


def test_a_section_is_printed_in_full_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_config(Canonical, "canonical", ["--set", "geometry.size=64"]) == 0
    assert "size: 64" in capsys.readouterr().out
    assert show_config(Canonical, "canonical", ["--set", "geometry.sizes=64"]) == 2
    assert "did you mean 'geometry.size'" in capsys.readouterr().err
