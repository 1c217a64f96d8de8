"""`python -m training.run`: shards and statistics in, a model bundle out.

    python -m training.run --config F --run-dir runs/x [--resume] [--overwrite | --update]
    python -m training.run --config F --shards DIR --stats FILE --output MODEL [--logs DIR]
    torchrun --nproc-per-node N -m training.run …          the same on N GPUs (or processes) of a machine

This module ties the others together and must not compute anything itself.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pipeline.cli import add_config_options, add_output_options, run_command, say
from pipeline.config import load
from pipeline.errors import UsageError
from pipeline.storage import Folder, is_remote
from training.config import SECTION, TrainingConfig
from training.identity import identity_of, is_done
from training.inputs import read_inputs
from training.places import add_input_options, place_of
from training.said_once import said_once

__all__ = ["main"]

# As torchrun says them; training.ranks, which talks to the others, needs torch.
_RANK: Final = int(os.environ.get("RANK", "0"))
_WORLD: Final = int(os.environ.get("WORLD_SIZE", "1"))


@dataclass(frozen=True)
class _Places:
    """Where a run reads and writes."""

    shards: str
    stats: str
    output: str
    logs: str


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m training.run", description="Train a detector on shards; write a model bundle."
    )
    add_config_options(parser)
    add_input_options(parser, "has shards/ and stats.json, gets model/ and logs/")
    parser.add_argument("--output", metavar="DIR", help="the bundle (default: model/ of the run folder)")
    parser.add_argument("--logs", metavar="DIR", help="logs and checkpoints (default: logs/ beside the bundle)")
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint, if there is one")
    add_output_options(parser)
    return parser.parse_args(arguments)


def _places(args: argparse.Namespace) -> _Places:
    names = {"shards": "shards", "stats": "stats.json", "output": "model"}
    found = {key: place_of(args, key, name) for key, name in names.items()}
    beside = Folder(args.run_dir).locate("logs") if args.run_dir else Folder(found["output"]).locate("../logs")
    logs = args.logs or beside
    if is_remote(logs):
        raise UsageError(
            f"{logs}: logs and checkpoints grow line by line, so they belong on a local disk. "
            "Give --logs a local folder."
        )
    return _Places(**found, logs=logs)


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, or say that it is done already; returns 0."""
    args = _arguments(arguments)
    # Torch's threads spin while they wait; beside any other work on the same cores that made a step four times as
    # long. Read once, when torch is first imported, which is why nothing above imports it.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with said_once():
        config = load(TrainingConfig, args.config, args.sets, section=SECTION)
        places = _places(args)
        inputs = read_inputs(places.shards, places.stats, config.check_shards and _RANK == 0, config.cache_gb)
        identity = identity_of(config, inputs)
    if _WORLD == 1 and is_done(Folder(places.output), identity, args.overwrite, args.update):
        Folder(places.logs).remove("checkpoints")  # of a run that was killed after it had published
        say(f"{places.output}: up to date")
        return 0
    from training.work import Work  # torch takes seconds to import

    Work(config, inputs, identity, places.output, places.logs).run(args.resume, args.overwrite, args.update)
    return 0


if __name__ == "__main__":
    raise SystemExit(run_command(main))
