"""What a run reads: finished shards and the statistics of the same dataset, refused when they do not fit together.

This module must not import torch, so that bad input is told at once.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pipeline.cache import DEFAULT_GB, cached
from pipeline.canonical import Canonical
from pipeline.cli import progress, say
from pipeline.config import build
from pipeline.errors import DataError, IntegrityError, UsageError
from pipeline.manifest import SEAL, check_files, read_sealed
from pipeline.parquet import open_parquet
from pipeline.records import LABELS, SCHEMA_VERSION
from pipeline.storage import Folder, split_uri

__all__ = ["Inputs", "RowGroup", "Split", "read_inputs"]

_MANIFEST: Final = "manifest.json"
_READERS: Final = 8  # shards whose footers are read at once: far away, most of the time is waiting


@dataclass(frozen=True)
class RowGroup:
    """A row group: its file, its number there, its rows."""

    path: str
    number: int
    rows: int


@dataclass(frozen=True)
class Split:
    """A split's row groups, in the order of the manifest, and how many rows have each label."""

    name: str
    groups: tuple[RowGroup, ...]
    labels: dict[str, int]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return sum(group.rows for group in self.groups)


@dataclass(frozen=True)
class Inputs:
    """Checked inputs.

    Attributes:
        folder: of the shards.
        shards, stats, dataset: sha256 of the manifests.
        canonical: how a file becomes the model's input; `document` is the same as the manifest holds it.
        mean, std: per channel, in [0, 1].
        train, val: the splits.
    """

    folder: Folder
    shards: str
    stats: str
    dataset: str
    canonical: Canonical
    document: dict[str, Any]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    train: Split
    val: Split


def read_inputs(shards_uri: str, stats_uri: str, check_shards: bool = True, cache_gb: float = DEFAULT_GB) -> Inputs:
    """Read and check shards and statistics.

    Args:
        shards_uri: the folder that augment wrote.
        stats_uri: the file that the statistics job wrote.
        check_shards: compare every byte of the shards with the manifest; otherwise the sizes only.
        cache_gb: the most that local copies of remote shards may take, in GB (10⁹ bytes).

    Raises:
        UsageError: one of them is not there.
        IntegrityError: changed, or of another version, or of different datasets.
        DataError: a split is empty or has one class only.
    """
    folder = Folder(shards_uri)
    if not folder.exists(_MANIFEST):
        raise UsageError(
            f"{shards_uri}: no finished shards there ({_MANIFEST} is missing). Run spark_jobs/augment.py first."
        )
    stats_folder, stats_name = split_uri(stats_uri)
    if not stats_folder.exists(stats_name):
        raise UsageError(f"{stats_uri}: no such statistics. Run python -m mapreduce.stats first.")
    shards = read_sealed(folder, _MANIFEST, "shards")
    stats = read_sealed(stats_folder, stats_name, "stats")
    dataset = _same_dataset(shards, shards_uri, stats, stats_uri)
    if shards.get("schema_version") != SCHEMA_VERSION:
        raise IntegrityError(
            f"{shards_uri}: record schema version {shards.get('schema_version')}, this Telltale reads version "
            f"{SCHEMA_VERSION}. Make dataset and shards again with this version."
        )
    folder = _near(folder, shards, cache_gb)
    _check_bytes(folder, shards, check_shards)
    mean, std = _three(stats, "mean", stats_uri), _three(stats, "std", stats_uri)
    if min(std) <= 0:
        raise DataError(f"{stats_uri}: a standard deviation is zero: the training pictures are all of one colour.")
    return Inputs(
        folder=folder,
        shards=shards[SEAL],
        stats=stats[SEAL],
        dataset=dataset,
        canonical=build(Canonical, shards["canonical"], folder.locate(_MANIFEST)),
        document=shards["canonical"],
        mean=mean,
        std=std,
        train=_split(folder, shards, "train"),
        val=_split(folder, shards, "val"),
    )


def _same_dataset(shards: dict[str, Any], shards_uri: str, stats: dict[str, Any], stats_uri: str) -> str:
    of_shards = str(shards.get("parents", {}).get("dataset"))
    of_stats = str(stats.get("parents", {}).get("dataset"))
    if of_shards != of_stats:
        raise IntegrityError(
            f"{shards_uri} comes from dataset {of_shards}, but {stats_uri} from dataset {of_stats}: "
            "make both again from one dataset."
        )
    return of_shards


def _near(folder: Folder, shards: dict[str, Any], cache_gb: float) -> Folder:
    """The shards' folder, remote ones by way of the local cache."""
    size = sum(entry["bytes"] for entry in shards["files"])
    if folder.remote and size > cache_gb * 1e9:
        say(
            f"note: {folder.uri}: the shards have {size / 1e9:.1f} GB and the local cache {cache_gb:g} GB: some will "
            "be fetched again in every epoch. Raise training.cache_gb if there is room."
        )
    return cached(folder, shards["files"], cache_gb)


def _check_bytes(folder: Folder, shards: dict[str, Any], every_byte: bool) -> None:
    if every_byte:
        check_files(folder, {**shards, "files": progress(shards["files"], "checking shards", unit="file")})
        return
    sizes = {entry.path: entry.size for entry in folder.list()}
    for entry in shards["files"]:
        if sizes.get(entry["path"]) != entry["bytes"]:
            raise IntegrityError(
                f"{folder.locate(entry['path'])}: {sizes.get(entry['path'], 'no')} bytes, the manifest says "
                f"{entry['bytes']}. Make the shards again."
            )


def _three(stats: dict[str, Any], key: str, where: str) -> tuple[float, float, float]:
    try:
        first, second, third = (float(value) for value in stats[key])
    except (KeyError, TypeError, ValueError) as error:
        raise IntegrityError(f"{where}: '{key}' does not hold three numbers. Make the statistics again.") from error
    return first, second, third


def _split(folder: Folder, shards: dict[str, Any], name: str) -> Split:
    entries = [entry for entry in shards["files"] if entry["path"].startswith(f"{name}-")]
    groups: list[RowGroup] = []
    labels: Counter[int] = Counter()
    with ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(partial(_row_groups, folder), entries)
        for of_file, counted in progress(found, f"row groups of {name}", len(entries), "file"):
            groups += of_file
            labels.update(counted)
    counts = {text: labels[label] for label, text in enumerate(LABELS)}
    _check_labels(folder, name, counts)
    return Split(name, tuple(groups), counts)


def _row_groups(folder: Folder, entry: dict[str, Any]) -> tuple[list[RowGroup], Counter[int]]:
    """Those of a file, and how many rows have each label."""
    with open_parquet(folder, entry["path"]) as file:
        meta = file.metadata
        if meta.num_rows != entry["rows"]:
            raise IntegrityError(
                f"{folder.locate(entry['path'])}: {meta.num_rows} rows, the manifest says {entry['rows']}. "
                "Make the shards again."
            )
        groups = [
            RowGroup(entry["path"], number, meta.row_group(number).num_rows) for number in range(meta.num_row_groups)
        ]
        return groups, Counter(file.read(columns=["label"]).column("label").to_pylist())


def _check_labels(folder: Folder, name: str, counts: dict[str, int]) -> None:
    if not any(counts.values()):
        raise DataError(
            f"{folder.uri}: the {name} split is empty: add pictures, or raise its share (ingest.split.fractions)."
        )
    for text, count in counts.items():
        if not count:
            raise DataError(
                f"{folder.uri}: the {name} split has no {text} picture: training needs both classes there. Add "
                f"pictures under {text}/, or raise the split's share (ingest.split.fractions)."
            )
