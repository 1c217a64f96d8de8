"""`spark-submit spark_jobs/ingest.py --input RAW --output DATASET`: raw pictures become a dataset.

Two passes over the files, both in tasks that get JSON lines and return a few bytes a picture: the first finds out what
every file is (`_examine.py`), the driver then decides what becomes of it (`_select.py`, with the links of `_near.py`),
the second writes the canonical rows (`_write.py`). No picture passes through Spark itself, and nothing depends on how
the work is cut or on which task ends first. The driver holds columns, some hundreds of bytes a picture, and gives the
work out in waves (`_waves.py`), so that neither it nor its JVM ever holds the whole list of it.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import SparkSession

from pipeline.cli import add_config_options, add_output_options, run_command, say
from pipeline.config import load
from pipeline.content import combine
from pipeline.errors import ConfigError, DataError, UsageError
from pipeline.layouts import Listing, list_input
from pipeline.manifest import canonical_json, file_entries, library_versions, output_state, publish, seal
from pipeline.parquet import write_parquet
from pipeline.records import LABELS, REJECT_SCHEMA, SCHEMA_VERSION
from pipeline.references import Indexes
from pipeline.storage import Folder
from spark_jobs._admit import Admitted, admit
from spark_jobs._examine import fingerprints, look, work_line
from spark_jobs._facts import Facts, Look, raw_hash
from spark_jobs._near import near_links
from spark_jobs._select import Selection, select
from spark_jobs._waves import tasks_in_wave, waves
from spark_jobs._write import Part, part_line, part_plan, write_part
from spark_jobs.ingest_config import SECTION, IngestConfig, result_config
from spark_jobs.session import parallelism, raise_first, session, spark_errors

__all__ = ["STAGE_VERSION", "main"]

STAGE_VERSION: Final = 1
"""Raised by hand whenever the same input and settings give another dataset."""

_MANIFEST: Final = "manifest.json"
_REJECTS: Final = "rejects.parquet"
_LOCATIONS: Final = "locations.json"
_LIBRARIES: Final = ("numpy", "pillow", "pillow-heif", "pyarrow", "simplejpeg")

F = TypeVar("F", bound=Folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make a dataset (see the module)."""
    given = _parse(arguments)
    config = load(IngestConfig, given.config, given.sets, SECTION)
    listing, output = list_input(given.input, config), Folder(given.output)
    _check(listing, output, config)
    body = _fixed_members(listing, config)
    expected = (
        {**body, "parents": {"raw": raw_hash(listing.references, fingerprints(listing))}}
        if output.exists(_MANIFEST)
        else body
    )
    ours = (".parquet", _LOCATIONS)
    if output_state(output, _MANIFEST, "dataset", expected, ours, given.overwrite, given.update) == "done":
        say(f"{given.output}: up to date")
        return
    with spark_errors(), session("telltale ingest") as spark:
        document = _ingest(spark, listing, output, config, body)
    _report(given.output, document["counts"])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="spark-submit spark_jobs/ingest.py", description=main.__doc__)
    parser.add_argument("--input", required=True, metavar="RAW", help="a folder, or a list (.csv, .parquet)")
    parser.add_argument("--output", required=True, metavar="DATASET", help="the folder to make")
    add_config_options(parser)
    add_output_options(parser)
    return parser.parse_args(arguments)


def _check(listing: Listing, output: Folder, config: IngestConfig) -> None:
    """Refuse, before anything is read, what cannot end well."""
    folders = {path.split("/")[0] for path in listing.references.all_paths() if "/" in path}
    if output.holds(listing.root) or any(listing.root.child(folder).holds(output) for folder in folders):
        raise UsageError(f"{output.uri}: the output must lie outside the raw pictures. Choose another --output.")
    _check_classes(listing.root.uri, listing.references.labels, "listed")
    sources = set(listing.references.source_names)
    unknown = sorted(set(config.split.ood_sources) - sources)
    if unknown:
        raise ConfigError(
            f"split.ood_sources: '{unknown[0]}' is no source of {listing.root.uri}; its sources are "
            f"{', '.join(sorted(sources))}."
        )


def _check_classes(where: str, labels: NDArray[np.int8], what: str) -> None:
    counts = np.bincount(labels, minlength=len(LABELS))
    if not counts.all():
        found = ", ".join(f"{counts[label]} {name}" for label, name in enumerate(LABELS))
        raise DataError(f"{where}: pictures of both classes are needed; {what}: {found}. Add the missing class.")


def _fixed_members(listing: Listing, config: IngestConfig) -> dict[str, Any]:
    """What the manifest says before any picture is read."""
    return {
        "stage_version": STAGE_VERSION,
        "schema_version": SCHEMA_VERSION,
        "config": result_config(config, listing.layout),
        "libraries": library_versions(*_LIBRARIES),
        "inputs": listing.inputs,
    }


def _ingest(
    spark: SparkSession, listing: Listing, output: Folder, config: IngestConfig, body: dict[str, Any]
) -> dict[str, Any]:
    references, facts = listing.references, _facts(spark, listing, config)
    admitted = admit(references, facts)
    links = _links(spark, facts, admitted, config)
    selection = select(references, facts, admitted, links, config.split, config.cross_label == "keep")
    rejects = write_parquet(output, "rejects", selection.rejects, REJECT_SCHEMA, name=_REJECTS)
    _check_selection(listing, output, selection, config)
    parts = _parts(spark, listing, output, facts, selection, config)
    output.put(_LOCATIONS, canonical_json(seal({"kind": "locations", "raw": listing.root.absolute()})))
    document = {
        **body,
        "kind": "dataset",
        "parents": {"raw": raw_hash(references, facts)},
        "files": file_entries([rejects, *(part.entry for part in parts)]),
        "content_sha256": combine(bytes.fromhex(part.content) for part in parts),
        "counts": selection.counts,
    }
    return publish(output, _MANIFEST, document)


def _absolute(folder: F) -> F:
    return type(folder)(folder.absolute())  # a worker may stand elsewhere


def _facts(spark: SparkSession, listing: Listing, config: IngestConfig) -> Facts:
    examine = partial(look, root=_absolute(listing.root), canonical=config.canonical)
    facts, whole = Facts(len(listing.references)), len(listing.references)
    each = -(-whole // parallelism(spark, whole, config.files_per_task))

    def run(files: range) -> list[Look]:
        references = listing.references.part(files.start, files.stop)
        lines = [work_line(index, reference) for index, reference in zip(files, references, strict=True)]
        return spark.sparkContext.parallelize(lines, -(-len(lines) // each)).mapPartitions(examine).collect()

    for found in waves(whole, each * tasks_in_wave(spark, 8), run):
        for some in found:
            facts.add(some)
    return facts


def _links(spark: SparkSession, facts: Facts, admitted: Admitted, config: IngestConfig) -> Indexes:
    kept = admitted.kept
    links = near_links(spark, kept[facts.marked[kept]], facts.marks, config.near_duplicates)
    facts.drop_marks()
    return links


def _parts(
    spark: SparkSession, listing: Listing, output: Folder, facts: Facts, selection: Selection, config: IngestConfig
) -> list[Part]:
    plan = part_plan(selection.rows, facts, config.rows_per_part)
    write = partial(write_part, root=_absolute(listing.root), output=_absolute(output), canonical=config.canonical)

    def run(parts: range) -> list[Part]:
        works = plan[parts.start : parts.stop]
        lines = [part_line(work, listing.references, facts, selection.rows) for work in works]
        return raise_first(spark.sparkContext.parallelize(lines, len(lines)).map(write).collect())

    return [part for parts in waves(len(plan), tasks_in_wave(spark, 1), run) for part in parts]


def _check_selection(listing: Listing, output: Folder, selection: Selection, config: IngestConfig) -> None:
    """Fail if too much was unusable, or a class is empty now; the list of rejects stays for the person to look at."""
    bad, whole, listed = selection.rejects.bad, len(listing.references), output.locate(_REJECTS)
    if bad > config.max_reject_fraction * whole:
        counts = Counter(reject["reason"] for reject in selection.rejects.faulty())
        reasons = ", ".join(f"{reason} {n}" for reason, n in counts.most_common())
        some = islice(selection.rejects.faulty(), 3)
        examples = "; ".join(f"{reject['path']}: {reject['detail']}" for reject in some)
        raise DataError(
            f"{listing.root.uri}: {bad} of {whole} files cannot be used, over max_reject_fraction "
            f"{config.max_reject_fraction:g} ({reasons}). For example {examples}. All of them are listed in {listed}. "
            "Mend or remove them, or raise max_reject_fraction."
        )
    _check_classes(listing.root.uri, listing.references.labels[selection.rows.files], f"usable (see {listed})")


def _report(output: str, counts: dict[str, Any]) -> None:
    splits = ", ".join(f"{name} {split['rows']}" for name, split in counts["splits"].items() if split["rows"])
    say(
        f"{output}: {counts['files']} files: {counts['rows']} rows in {counts['groups']} groups ({splits}), "
        f"{counts['duplicates']} duplicates, {counts['rejected']} rejected"
    )
    for name in ("train", "val", "test"):
        missing = [label for label in LABELS if not counts["splits"][name][label]]
        if missing:
            say(f"note: no {' and no '.join(missing)} pictures in {name}")


if __name__ == "__main__":
    raise SystemExit(run_command(main))
