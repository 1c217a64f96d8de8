"""The second look at the files that become rows: canonical pictures, written in the task, part by part.

Which row goes into which part, and where it stands there, follows from its image_id alone. Nothing here may choose
rows.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from pipeline.canonical import Canonical, canonicalise
from pipeline.content import combine, row_digest
from pipeline.decode import decode_canonical
from pipeline.errors import ImageError, StorageError, TelltaleError
from pipeline.manifest import FileEntry
from pipeline.parquet import write_parquet
from pipeline.records import SPLITS
from pipeline.references import References
from pipeline.storage import Folder
from spark_jobs._facts import Facts
from spark_jobs._select import Rows

__all__ = ["Part", "PartWork", "part_line", "part_plan", "write_part"]


class PartWork(NamedTuple):
    """A part that is to be written: the rows from `start` to before `end`."""

    split: str
    part: int
    start: int
    end: int


class Part(NamedTuple):
    """A part that was written."""

    entry: FileEntry
    content: str


def part_plan(rows: Rows, facts: Facts, rows_per_part: int) -> list[PartWork]:
    """The parts of the dataset, in the order of the splits and their numbers; an id's first 64 bits decide which."""
    plan, begin = [], 0
    for split, name in enumerate(SPLITS):
        mine = rows.files[rows.splits == split]
        first_bits = np.ascontiguousarray(facts.sha256[mine, :8]).view(">u8").reshape(-1)
        count = -(-len(mine) // rows_per_part)
        edges = [np.searchsorted(first_bits, -((-part << 64) // count)) for part in range(count)]
        for part, (start, end) in enumerate(pairwise([*map(int, edges), len(mine)])):
            plan.append(PartWork(name, part, begin + start, begin + end))
        begin += len(mine)
    return plan


def part_line(work: PartWork, references: References, facts: Facts, rows: Rows) -> str:
    """The line of the work list that stands for a part: JSON, so that any name survives."""
    mine = rows.take(slice(work.start, work.end))
    chosen = [
        [path, label, references.source_names[source], image_id.tobytes().hex(), group_id.tobytes().hex()]
        for path, label, source, image_id, group_id in zip(
            references.paths(mine.files),
            references.labels[mine.files].tolist(),
            references.sources[mine.files].tolist(),
            facts.sha256[mine.files],
            mine.groups,
            strict=True,
        )
    ]
    return json.dumps({"split": work.split, "part": work.part, "rows": chosen})


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
