"""The second look at the files that become rows: canonical pictures, written in the task, part by part.

Which row goes into which part, and where it stands there, follows from its image_id alone. Nothing here may choose
rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.canonical import Canonical, canonicalise
from pipeline.content import combine, row_digest
from pipeline.decode import decode_canonical
from pipeline.errors import ImageError, StorageError, TelltaleError
from pipeline.manifest import FileEntry
from pipeline.parquet import write_parquet
from pipeline.records import SPLITS
from pipeline.storage import Folder
from spark_jobs._select import Row

__all__ = ["Part", "part_lines", "write_part"]


class Part(NamedTuple):
    """A part that was written."""

    entry: FileEntry
    content: str


def part_lines(rows: Sequence[Row], rows_per_part: int) -> list[str]:
    """The work list of the parts, a JSON line each, in the order of the splits and their parts."""
    lines = []
    for split in SPLITS:
        mine = sorted((row for row in rows if row.split == split), key=lambda row: row.image_id)
        count = -(-len(mine) // rows_per_part)
        parts: list[list[Row]] = [[] for _ in range(count)]
        for row in mine:
            parts[int(row.image_id[:16], 16) * count >> 64].append(row)
        for number, part in enumerate(parts):
            chosen = [[row.path, row.label, row.source, row.image_id, row.group_id] for row in part]
            lines.append(json.dumps({"split": split, "part": number, "rows": chosen}))
    return lines


def write_part(line: str, root: Folder, output: Folder, canonical: Canonical) -> Part | TelltaleError:
    """Write one part. Errors are returned, not raised: the driver says them in their own words."""
    work = json.loads(line)
    digests: list[bytes] = []
    try:
        rows = _records(work["rows"], work["split"], root, canonical, digests)
        entry = write_parquet(output, f"{work['split']}-{work['part']:05d}", rows)
    except TelltaleError as error:
        return error
    return Part(entry, combine(digests))


def _records(
    rows: Sequence[Sequence[Any]], split: str, root: Folder, canonical: Canonical, digests: list[bytes]
) -> Iterator[dict[str, Any]]:
    for path, label, source, image_id, group_id in rows:
        data = root.read(path)
        where = root.locate(path)
        if hashlib.sha256(data).hexdigest() != image_id:
            raise StorageError(f"{where}: changed while ingest was reading it. Let the input rest, then run again.")
        try:
            picture = canonicalise(data, canonical, training=split == "train")
        except ImageError as error:
            raise ImageError(error.reason, f"{where}: {error}") from error
        row = {
            **picture.columns(),
            "label": label,
            "source": source,
            "split": split,
            "group_id": group_id,
            "variant": "identity",
            "path": path,
        }
        digests.append(row_digest(row, decode_canonical(picture.image)))
        yield row
