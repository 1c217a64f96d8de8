"""From the input that a user names to the work list: a dataset's training parts, or a plain folder or list of pictures.

This file must not decode a picture or know mrjob.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mapreduce.stats_config import StatsConfig, result_config
from mapreduce.stats_pictures import Picture, find_pictures
from pipeline.cli import progress
from pipeline.config import as_dict
from pipeline.content import raw_sha256
from pipeline.errors import DataError, IntegrityError, StorageError, UnavailableError
from pipeline.manifest import SEAL, library_versions, read_sealed
from pipeline.parquet import ROW_GROUP_ROWS
from pipeline.records import SCHEMA_VERSION
from pipeline.storage import Folder

__all__ = ["Work", "find_work"]

MANIFEST = "manifest.json"
_STAGE = "train-"  # the beginning of a training part's name


@dataclass(frozen=True)
class Work:
    """What is to be counted.

    Attributes:
        head: the members of `stats.json` that are known beforehand: parents, config, libraries.
        lines: the work list, each line JSON-ready, the first row group's line of a part before its others.
        pictures: how many pictures will be found in the end; rejects of a plain folder are among them.
        is_dataset: whether they come from a dataset, where nothing may be rejected.
        what: the input in words.
    """

    head: Mapping[str, Any]
    lines: Sequence[Mapping[str, Any]]
    pictures: int
    is_dataset: bool
    what: str


def find_work(uri: str, config: StatsConfig) -> Work:
    """The work list of an input.

    Args:
        uri: a dataset's folder, a folder of pictures, or a list of pictures.
        config: how to divide the work, and what canonical means for pictures that are not yet.

    Raises:
        UsageError: no such input.
        DataError: nothing in it to count.
        IntegrityError: a dataset's manifest was changed, or is of another version.
    """
    folder = Folder(uri)
    if folder.is_folder() and folder.is_file(MANIFEST):
        return _dataset(folder, config)
    return _pictures(uri, config)


def _dataset(folder: Folder, config: StatsConfig) -> Work:
    manifest = read_sealed(folder, MANIFEST, "dataset")
    where = folder.locate(MANIFEST)
    if manifest.get("schema_version") != SCHEMA_VERSION:
        raise IntegrityError(
            f"{where}: record schema version {manifest.get('schema_version')}, this Telltale reads version "
            f"{SCHEMA_VERSION}. Make the dataset again with this version (spark_jobs/ingest.py)."
        )
    parts = [entry for entry in manifest["files"] if entry["path"].startswith(_STAGE)]
    rows = sum(entry["rows"] for entry in parts)
    if rows == 0:
        raise DataError(f"{folder.uri}: its training split is empty, and statistics are those of the training split.")
    if rows != manifest["counts"]["splits"]["train"]["rows"]:
        raise IntegrityError(f"{where}: its parts do not add up to its own count of training rows. Make it again.")
    lines = [line for part in parts for line in _row_groups(folder.absolute(), part, config.row_groups_per_task)]
    return Work(
        head={
            "parents": {"dataset": manifest[SEAL]},
            "config": {},
            "libraries": library_versions("pillow", "simplejpeg"),
        },
        lines=_numbered(lines),
        pictures=rows,
        is_dataset=True,
        what=f"{rows:,} training pictures in {len(parts):,} parts",
    )


def _row_groups(folder: str, part: Mapping[str, Any], per_line: int) -> Iterator[dict[str, Any]]:
    count = -(-part["rows"] // ROW_GROUP_ROWS)
    for first in range(0, count, per_line):
        yield {
            "folder": folder,
            "part": part["path"],
            "bytes": part["bytes"],
            "sha256": part["sha256"],
            "row_groups": [first, min(first + per_line, count)],
        }


def _pictures(uri: str, config: StatsConfig) -> Work:
    found = find_pictures(uri, config)
    pictures = found.items
    if not pictures:
        raise DataError(f"{uri}: no pictures there. Name a dataset, a folder of pictures, or a list of pictures.")
    hashes = [_sha256(found.root, picture) for picture in progress(pictures, "hashing", len(pictures), "file")]
    items = [[p.path, p.label, p.source, digest, p.problem] for p, digest in zip(pictures, hashes, strict=True)]
    setting, per_line = as_dict(config.canonical), config.pictures_per_task
    lines = [
        {"folder": found.root.absolute(), "canonical": setting, "pictures": items[first : first + per_line]}
        for first in range(0, len(items), per_line)
    ]
    return Work(
        head={
            "parents": {"raw": raw_sha256(zip((picture.shown for picture in pictures), hashes, strict=True))},
            "config": result_config(config, found.layout),
            "libraries": library_versions("numpy", "pillow", "pillow-heif", "simplejpeg"),
        },
        lines=_numbered(lines),
        pictures=len(items),
        is_dataset=False,
        what=f"{len(items):,} files",
    )


def _sha256(root: Folder, picture: Picture) -> str | None:
    try:
        return root.sha256(picture.path)[0]
    except UnavailableError:
        raise
    except StorageError:
        return None  # the task that cannot read it either rejects it and says why


def _numbered(lines: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"number": number, **line} for number, line in enumerate(lines)]
