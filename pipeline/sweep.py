"""`python -m pipeline.sweep runs/x [--delete]`: lists, and removes, what killed attempts left behind.

Only the stages' own folders are looked into (dataset, shards, model, report): what else lies beside them, be it logs or
raw pictures, is not touched, nor is what a manifest names. Of a stage without a manifest, everything is left over
(running the stage again would continue from it, so it is only removed when asked). On S3 and GCS the parts of uploads
that were cut off are no files: the bucket's own rule (abort incomplete uploads after some days) clears them away.
Whoever removes something from remote storage must know that nothing is at work there. This module must not look inside
files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext

from pipeline.cli import run_command, say
from pipeline.errors import UsageError
from pipeline.manifest import read_sealed
from pipeline.run import run_lock
from pipeline.storage import Folder
from pipeline.verify import CHAIN, unnamed

__all__ = ["left_behind", "main"]


def left_behind(run_dir: str) -> list[str]:
    """Paths, relative to the run folder, of files in the stages' folders that no manifest names.

    Raises:
        UsageError: no such folder.
        IntegrityError: a manifest was changed: `pipeline.verify` says more.
    """
    run = Folder(run_dir)
    if not run.is_folder():
        raise UsageError(f"{run_dir}: no such folder. Name a run folder, for example runs/demo.")
    documents = {
        link.kind: read_sealed(run.child(link.folder) if link.folder else run, link.manifest, link.kind)
        for link in CHAIN
        if run.exists(f"{link.folder}/{link.manifest}" if link.folder else link.manifest)
    }
    return unnamed(run, documents)


def main(arguments: Sequence[str] | None = None) -> None:
    """List what was left behind; with `--delete`, remove it."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.sweep", description="Find what killed attempts left.")
    parser.add_argument("run_dir", help="a run folder, for example runs/demo")
    parser.add_argument("--delete", action="store_true", help="remove what is listed")
    given = parser.parse_args(arguments)
    paths, run = left_behind(given.run_dir), Folder(given.run_dir)
    for path in paths:
        print(path)
    if given.delete and paths:
        # Only a local run folder has a lock: of a remote one, the person must know that nothing writes to it.
        with nullcontext() if run.remote else run_lock(given.run_dir):
            for path in paths:
                run.remove(path)
    say(f"{len(paths)} files {'removed' if given.delete else 'left behind'} in {given.run_dir}")


if __name__ == "__main__":
    raise SystemExit(run_command(main))
