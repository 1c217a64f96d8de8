"""What every command does alike: common options, errors to exit codes, progress that is quiet when nobody watches."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import yaml

from pipeline.config import as_dict, load
from pipeline.errors import TelltaleError

__all__ = ["add_config_options", "add_output_options", "cores", "progress", "run_command", "say", "show_config"]

T = TypeVar("T")


def add_config_options(parser: argparse.ArgumentParser, required: bool = False) -> None:
    """`--config FILE` and `--set key=value`."""
    parser.add_argument(
        "--config", metavar="FILE", required=required, help="YAML file (a workflow's or the stage's own)"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        metavar="A.B=C",
        action="append",
        default=[],
        help="change one key (may be repeated)",
    )


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """`--overwrite` and `--update`."""
    parser.add_argument("--overwrite", action="store_true", help="replace whatever the output holds")
    parser.add_argument(
        "--update",
        action="store_true",
        help="replace an earlier result of this stage if inputs or settings changed",
    )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1  # macOS has none


def say(message: str) -> None:
    """A line for the person at the terminal, on standard error: standard output is for results."""
    print(message, file=sys.stderr, flush=True)


def progress(items: Iterable[T], what: str, total: int | None = None, unit: str = "it") -> Iterable[T]:
    """`items` behind a progress bar on standard error; no bar when that is not a terminal."""
    from tqdm import tqdm  # takes as long to import as half of numpy, and `telltale predict` has no bar at its start

    bar: Iterable[T] = tqdm(items, desc=what, total=total, unit=unit, disable=None, leave=False)
    return bar


def run_command(main: Callable[[Sequence[str] | None], Any], arguments: Sequence[str] | None = None) -> int:
    """Run a command's `main` and turn what it raises into a message and an exit code.

    Returns:
        0 on success (or what `main` returned), 2 on bad usage or configuration, 1 on failure, 130 when interrupted.
    """
    try:
        return int(main(arguments) or 0)
    except TelltaleError as error:
        say(f"error: {error}")
        return error.exit_code
    except KeyboardInterrupt as stop:  # with a message where running again takes more
        say(f"interrupted {stop}" if stop.args else "interrupted: run the same command again to continue.")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left; no message from the exit hook
        return 1
    except MemoryError:
        say("error: out of memory. Give the machine more, or lower the batch, shard or worker settings.")
        return 1
    except Exception as error:
        if os.environ.get("TELLTALE_DEBUG"):
            traceback.print_exc()
        say(
            f"error: unexpected {type(error).__name__}: {error}. This is a defect of Telltale: please report it with "
            "the command; TELLTALE_DEBUG=1 shows where it happened."
        )
        return 1


def show_config(cls: type[Any], section: str, arguments: Sequence[str] | None = None) -> int:
    """The command behind `python -m <room>.<stage>_config`: check a stage's settings and print them all as YAML."""

    def main(arguments: Sequence[str] | None) -> None:
        parser = argparse.ArgumentParser(description=f"Check the {section} settings and print every one as YAML.")
        add_config_options(parser)
        given = parser.parse_args(arguments)
        settings = as_dict(load(cls, given.config, given.sets, section))
        print(yaml.safe_dump({section: settings}, sort_keys=False), end="")

    return run_command(main, arguments)
