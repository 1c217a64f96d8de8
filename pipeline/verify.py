"""`python -m pipeline.verify runs/x`: the whole hash chain, from the raw pictures to the report, checked again.

A line a link; exit 1 and the file's name when one byte anywhere has changed. `logs/` is outside the chain, and the last
line says so. This module must not repair anything.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from pipeline.bundle import MANIFEST as BUNDLE
from pipeline.cli import progress, run_command
from pipeline.content import raw_sha256
from pipeline.errors import IntegrityError, StorageError, TelltaleError, UsageError
from pipeline.manifest import SEAL, check_files, leftovers, read_sealed
from pipeline.packed import PackedFolder
from pipeline.parquet import open_parquet
from pipeline.records import REJECT_SCHEMA, SCHEMA
from pipeline.storage import STAGING, Folder

__all__ = ["CHAIN", "Link", "check_raw", "main", "unnamed", "verify"]


@dataclass(frozen=True)
class Link:
    """A stage's place in a run folder: its folder, its manifest there, and the kinds of its parents."""

    kind: str
    folder: str
    manifest: str
    parents: tuple[str, ...]


CHAIN = (
    Link("dataset", "dataset", "manifest.json", ()),
    Link("stats", "", "stats.json", ("dataset",)),
    Link("shards", "shards", "manifest.json", ("dataset",)),
    Link("bundle", "model", BUNDLE, ("dataset", "stats", "shards")),
    Link("report", "report", "report.json", ("bundle", "dataset")),
)


@dataclass
class Outcome:
    """What was found: a line a link, and whether all holds."""

    lines: list[str] = field(default_factory=list)
    good: bool = True

    def note(self, word: str, name: str, text: str) -> None:
        self.lines.append(f"{word:<8} {name:<8} {text}")
        self.good = self.good and word != "FAILED"


def verify(run_dir: str) -> Outcome:
    """Check every link of a run.

    Args:
        run_dir: a run folder.

    Raises:
        UsageError: it is no run folder.
    """
    run, outcome, seals = Folder(run_dir), Outcome(), {}
    if not run.exists("dataset/manifest.json") and not any(
        run.exists(f"{link.folder}/{link.manifest}") for link in CHAIN
    ):
        raise UsageError(f"{run_dir}: not a finished run: no manifest in it. Run pipeline.run first.")
    documents: dict[str, dict[str, Any]] = {}
    for link in CHAIN:
        folder = run.child(link.folder) if link.folder else run
        try:
            document = read_sealed(folder, link.manifest, link.kind)
            seals[link.kind] = document[SEAL]
            check_files(folder, document) if "files" in document else None
            _check_parents(folder.locate(link.manifest), document, link, seals)
            documents[link.kind] = document
            outcome.note("ok", link.kind, _summary(document))
        except TelltaleError as error:
            outcome.note("FAILED", link.kind, str(error))
    _note_raw(run.child("dataset"), documents.get("dataset"), outcome)
    for path in unnamed(run, documents) if outcome.good else ():
        outcome.note("note", "", f"{run.locate(path)}: not part of the chain; `python -m pipeline.sweep` removes it")
    return outcome


def _check_parents(where: str, document: Mapping[str, Any], link: Link, seals: Mapping[str, str]) -> None:
    for parent in link.parents:
        found, expected = document["parents"].get(parent), seals.get(parent)
        if found != expected:
            raise IntegrityError(
                f"{where}: made from {parent} {str(found)[:16]}…, but this run's {parent} is {str(expected)[:16]}…. "
                "Run pipeline.run again."
            )


def _summary(document: Mapping[str, Any]) -> str:
    files = document.get("files", [])
    size = sum(entry["bytes"] for entry in files)
    return f"{document[SEAL]}  {len(files)} files, {size:,} bytes"


def _note_raw(dataset: Folder, document: Mapping[str, Any] | None, outcome: Outcome) -> None:
    if document is None:
        outcome.note("FAILED", "raw", "not checked: the dataset's manifest, which names the raw files, is damaged")
        return
    try:
        count = check_raw(dataset, document)
        outcome.note("ok", "raw", f"{document['parents']['raw']}  {count} files")
    except TelltaleError as error:
        outcome.note("FAILED", "raw", str(error))


def check_raw(dataset: Folder, document: Mapping[str, Any]) -> int:
    """Re-hash every raw file that a dataset was made from. Returns their number.

    Raises:
        IntegrityError: naming the first raw file that is missing or changed.
    """
    locations = read_sealed(dataset, "locations.json", "locations")
    raw = PackedFolder(locations["raw"])
    if not raw.is_folder():
        raise StorageError(
            f"{raw.uri}: no such folder, though {dataset.locate('locations.json')} says the raw pictures are there."
        )
    known = list(_raw_files(dataset, document))
    if raw_sha256(known) != document["parents"]["raw"]:
        raise IntegrityError(f"{dataset.uri}: its rows and rejects do not add up to its raw input.")
    inputs = [(entry["path"], entry["sha256"]) for entry in document.get("inputs", [])]
    with ThreadPoolExecutor() as pool:
        checks = pool.map(_checker(raw), known + inputs)
        for problem in progress(checks, "raw files", total=len(known) + len(inputs)):
            if problem:
                raise IntegrityError(problem)
    return len(known)


def _checker(raw: Folder) -> Callable[[tuple[str, str | None]], str | None]:
    def check(item: tuple[str, str | None]) -> str | None:
        path, expected = item
        if expected is None:
            return None  # it could not be read at ingest either
        if not raw.is_file(path):
            return f"{raw.locate(path)}: this raw file is missing"
        found = raw.sha256(path)[0]
        return None if found == expected else f"{raw.locate(path)}: this raw file has changed since ingest"

    return check


def _raw_files(dataset: Folder, document: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    for entry in document["files"]:
        rejects = entry["path"] == "rejects.parquet"
        columns = ["path", "sha256"] if rejects else ["path", "image_id"]
        with open_parquet(dataset, entry["path"], REJECT_SCHEMA if rejects else SCHEMA) as file:
            for batch in file.iter_batches(columns=columns):
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def unnamed(run: Folder, documents: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Files in the stages' folders that no manifest of theirs names: what killed attempts left behind.

    What else lies in the run folder is not the chain's: on a lake it may well be the raw pictures.

    Args:
        run: the run folder.
        documents: the manifests that are there, by kind.
    """
    found = [f"{STAGING}/{path}" for path in leftovers(run.child(STAGING), ())]
    for link in CHAIN:
        if not link.folder:
            continue
        named = {"locations.json"} if link.kind == "dataset" and link.kind in documents else set()
        if link.kind in documents:
            named |= {link.manifest, *(entry["path"] for entry in documents[link.kind].get("files", []))}
        found += [f"{link.folder}/{path}" for path in leftovers(run.child(link.folder), named)]
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line a link; exit 0 when all hold, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.verify", description="Re-check a run's whole hash chain.")
    parser.add_argument("run_dir", help="a run folder, for example runs/demo")
    outcome = verify(parser.parse_args(arguments).run_dir)
    print("\n".join(outcome.lines))
    print(
        "all holds" if outcome.good else "the chain is broken",
        "(logs/ is outside the chain and was not looked at)",
    )
    return 0 if outcome.good else 1


if __name__ == "__main__":
    raise SystemExit(run_command(main))
