"""Where a command of this room finds shards and statistics: named one by one, or a run's folder. Must not read them."""

from __future__ import annotations

import argparse

from pipeline.errors import UsageError
from pipeline.storage import Folder

__all__ = ["add_input_options", "place_of"]


def add_input_options(parser: argparse.ArgumentParser, run_dir: str) -> None:
    """`--run-dir`, with its help, `--shards` and `--stats`."""
    parser.add_argument("--run-dir", metavar="DIR", help=run_dir)
    parser.add_argument("--shards", metavar="DIR", help="what augment wrote (default: shards/ of the run folder)")
    parser.add_argument("--stats", metavar="FILE", help="the statistics (default: stats.json of the run folder)")


def place_of(args: argparse.Namespace, key: str, name: str) -> str:
    """What the option `--<key>` names, or else `name` in the run's folder.

    Raises:
        UsageError: neither is given.
    """
    given: str | None = getattr(args, key)
    if given is not None:
        return given
    if not args.run_dir:
        raise UsageError(f"--{key} is missing: give it, or --run-dir with a run's folder.")
    return Folder(args.run_dir).locate(name)
