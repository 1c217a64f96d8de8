"""`spark-submit spark_jobs/augment.py --input DATASET --output SHARDS`: the dataset's shards for training.

The training split is multiplied by the variants of the configuration; validation, test and ood get shards of their own,
with identities only. Spark hands out plans, a few hundred bytes each, and collects what became of them; the pictures go
from part to shard in one task, through the storage module and pyarrow, never through Spark. What a shard holds follows
from the dataset's manifest and the configuration (`pipeline.shards`), so any master, partitioning or retry gives the
same bytes. The manifest is published last, after every row has been counted.

No relative imports here: `spark-submit` runs this file as a bare script.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pipeline import content
from pipeline.cli import add_config_options, add_output_options, run_command, say
from pipeline.config import as_dict, load
from pipeline.errors import DataError, TelltaleError, UsageError
from pipeline.manifest import SEAL, file_entries, library_versions, output_state, publish, read_sealed
from pipeline.records import SCHEMA_VERSION, SPLITS
from pipeline.shards import ShardPlan, ShardResult, check_dataset, make_shard, plan_shards
from pipeline.storage import Folder
from spark_jobs.augment_config import AugmentConfig
from spark_jobs.session import raise_first, session, spark_errors

__all__ = ["STAGE_VERSION", "main"]

STAGE_VERSION: Final = 1
"""Raised by hand when the same dataset and configuration would give other shards."""

MANIFEST: Final = "manifest.json"


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the shards of a dataset, unless they are there."""
    parser = argparse.ArgumentParser(prog="spark-submit spark_jobs/augment.py", description="Dataset to shards.")
    parser.add_argument("--input", metavar="DATASET", required=True, help="what spark_jobs/ingest.py made")
    parser.add_argument("--output", metavar="SHARDS", required=True, help="folder to write to")
    add_config_options(parser)
    add_output_options(parser)
    given = parser.parse_args(arguments)
    config = load(AugmentConfig, given.config, given.sets, "augment")
    dataset, output = Folder(given.input), Folder(given.output)
    _check_apart(dataset, output)
    manifest = read_sealed(dataset, MANIFEST, "dataset")
    check_dataset(manifest, dataset.locate(MANIFEST))
    members = _members(manifest, config)
    if output_state(output, MANIFEST, "shards", members, (".parquet",), given.overwrite, given.update) == "done":
        say(f"{output.uri}: up to date")
        return
    plans = plan_shards(manifest, config.variants, config.shard_mb)
    results = _run(dataset, output, plans)
    body = {**members, **_summary(manifest, config, results)}
    publish(output, MANIFEST, body)
    rows = body["counts"]["rows"]
    say(f"{output.uri}: {sum(rows.values()):,} rows in {len(body['files'])} shards ({_listed(rows)})")


def _check_apart(dataset: Folder, output: Folder) -> None:
    """Refuse an output that is, holds or lies in the dataset: `--overwrite` would remove it."""
    if dataset.holds(output) or output.holds(dataset):
        raise UsageError(f"{output.uri}: overlaps the dataset {dataset.uri}. Choose an output beside it.")


def _members(manifest: Mapping[str, Any], config: AugmentConfig) -> dict[str, Any]:
    """What a manifest of the same work would hold."""
    return {
        "kind": "shards",
        "stage_version": STAGE_VERSION,
        "schema_version": SCHEMA_VERSION,
        "config": as_dict(config),
        "libraries": library_versions("numpy", "pillow", "pyarrow", "simplejpeg"),
        "parents": {"dataset": manifest[SEAL]},
        "canonical": manifest["config"]["canonical"],
    }


def _run(dataset: Folder, output: Folder, plans: list[ShardPlan]) -> list[ShardResult]:
    """All shards, a task each, in the order of the plans."""
    make = partial(_make, Folder(dataset.absolute()), Folder(output.absolute()))  # a worker may stand elsewhere
    with spark_errors(), session("telltale augment") as spark:
        return raise_first(spark.sparkContext.parallelize(plans, len(plans)).map(make).collect())


def _make(dataset: Folder, output: Folder, plan: ShardPlan) -> ShardResult | TelltaleError:
    """`make_shard`, its errors returned: raised, they would reach the driver as Java's, after several attempts."""
    try:
        return make_shard(dataset, output, plan)
    except TelltaleError as error:
        return error


def _summary(manifest: Mapping[str, Any], config: AugmentConfig, results: Sequence[ShardResult]) -> dict[str, Any]:
    """Files, content and counts, once every row is accounted for."""
    expected = {split: int(manifest["counts"]["splits"].get(split, {}).get("rows", 0)) for split in SPLITS}
    pictures = _by_split((result.split, result.pictures) for result in results)
    rows = _by_split((result.split, (result.file.rows or 0) if result.file else 0) for result in results)
    for split in SPLITS:
        wanted = expected[split] * (len(config.variants) if split == "train" else 1)
        if (pictures[split], rows[split]) != (expected[split], wanted):
            raise DataError(
                f"{split}: {pictures[split]} pictures and {rows[split]} rows came out, but the dataset's manifest says "
                f"{expected[split]} pictures, so {wanted} rows. Nothing was published; make the dataset again."
            )
    done = sorted((result for result in results if result.file), key=lambda r: (SPLITS.index(r.split), r.shard))
    return {
        "files": file_entries(result.file for result in done if result.file),
        "content_sha256": content.combine(bytes.fromhex(result.content) for result in done),
        "counts": {"rows": rows, "pictures": pictures, "variants": list(config.variants)},
    }


def _by_split(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    totals = dict.fromkeys(SPLITS, 0)
    for split, count in counts:
        totals[split] += count
    return totals


def _listed(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{split} {count:,}" for split, count in rows.items() if count)


if __name__ == "__main__":
    raise SystemExit(run_command(main))
