"""The `telltale` command. `telltale predict PICTURE…` for now; each command of it imports what it needs when it runs.

This module turns options into calls and answers into output; it must not decode or score.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final

from pipeline.cli import run_command
from pipeline.errors import UsageError

if TYPE_CHECKING:
    from detection.predict import Answer, Problem

__all__ = ["BUNDLE_VARIABLE", "bundle_uri", "main"]

BUNDLE_VARIABLE: Final = "TELLTALE_BUNDLE"

_EXAMPLES = """\
examples:
  telltale predict --bundle runs/demo/model photo.jpg
  export TELLTALE_BUNDLE=runs/demo/model
  telltale predict holiday/ 'scans/**/*.png'
  find pictures -newer last -print0 | telltale predict --json --null -

exit status: 0 every picture was answered; 1 at least one was not, or the bundle is damaged; 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The console script: 0, or 1 if a picture could not be answered or something failed, or 2 on bad usage."""
    return run_command(_main, arguments)


def bundle_uri(option: str | None) -> str:
    """The bundle to use: the option, else the environment's.

    Raises:
        UsageError: neither is given.
    """
    uri = option or os.environ.get(BUNDLE_VARIABLE)
    if not uri:
        raise UsageError(
            f"which model? Give --bundle FOLDER or set {BUNDLE_VARIABLE}. `make demo` trains one in about ten minutes "
            "(runs/demo/model); `python -m training.run` makes one of your own pictures."
        )
    return uri


def _main(arguments: Sequence[str] | None) -> int:
    options = _parser().parse_args(arguments)
    command: int = options.command(options)
    return command


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="telltale", description="Finds AI-generated images.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and leave")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    predict = commands.add_parser(
        "predict",
        help="say how probable it is that pictures are AI-generated",
        description="Say how probable it is that pictures are AI-generated.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    predict.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="a picture, a folder, a pattern, or - for a list on standard input (one path a line); "
        "a path that begins with - goes after --",
    )
    predict.add_argument("--bundle", metavar="FOLDER", help=f"the trained bundle (or set {BUNDLE_VARIABLE})")
    predict.add_argument("--json", action="store_true", help="one JSON object a line, for programs")
    predict.add_argument("--null", "-0", action="store_true", help="the list on standard input ends names with NUL")
    predict.set_defaults(command=_predict)
    return parser


class _Version(argparse.Action):
    """Reading the package's metadata takes time, so it is done only when asked for."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"telltale {version('telltale')}")
        parser.exit()


def _predict(options: argparse.Namespace) -> int:
    uri = bundle_uri(options.bundle)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that knows no “ or – still gets the table
    from detection.inputs import find

    pictures = find(options.paths, sys.stdin.buffer, b"\0" if options.null else b"\n")
    from detection.model import load
    from detection.predict import Problem, predict
    from detection.table import Table, json_line

    detector = load(uri)
    table = Table(detector, colour=_wants_colour())
    failed = False
    for number, result in enumerate(_watched(predict(detector, pictures))):
        failed |= isinstance(result, Problem)
        if number == 0 and not options.json:
            print(table.header())
        print(json_line(result, detector) if options.json else table.line(result), flush=True)
    if not options.json:
        print(table.footer())
    return 1 if failed else 0


def _wants_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _watched(results: Iterable[Answer | Problem]) -> Iterator[Answer | Problem]:
    """The results, counted on standard error once it takes longer than two seconds.

    Only where that is a terminal and standard output is not: where the answers can be watched, they are the progress.
    """
    if sys.stdout.isatty() or not sys.stderr.isatty():
        return iter(results)
    from tqdm import tqdm

    return iter(tqdm(results, desc="predict", unit=" pictures", delay=2, leave=False))


if __name__ == "__main__":
    raise SystemExit(main())
