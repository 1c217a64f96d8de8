"""Pictures that are in no dataset: which files a folder or list names, and what it says about them.

`pipeline.layouts` reads labelled folders and lists; any other folder is simply all its files. This file must not open
a picture.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.errors import UsageError
from pipeline.layouts import Layouts, Reference, list_input
from pipeline.records import LABELS, REAL
from pipeline.storage import Folder

__all__ = ["UNLABELLED", "Picture", "Pictures", "find_pictures"]

UNLABELLED = "unlabelled"  # label and source of a picture of which nothing is known


@dataclass(frozen=True, slots=True)
class Picture:
    """A file outside any dataset.

    Attributes:
        path: relative to the input's root.
        shown: the path as text that any file may hold.
        label, source: the label's name and the source, or `UNLABELLED`.
        problem: (reason, detail) if it cannot be used whatever is in it.
    """

    path: str
    shown: str
    label: str
    source: str
    problem: tuple[str, str] | None


@dataclass(frozen=True)
class Pictures:
    """An input: how it is laid out, the folder that its paths are relative to, and its pictures by path."""

    layout: str
    root: Folder
    items: list[Picture]


def find_pictures(uri: str, layouts: Layouts) -> Pictures:
    """The pictures of an input, sorted by path.

    A list, a folder with `real/` or `ai/` in it, and any layout that the settings name are read as ingest reads them;
    another folder gives all its files, unlabelled.

    Raises:
        UsageError: no such input, or a dataset or shards that are not finished.
        DataError: a row of a list is wrong, or there is nothing in it.
    """
    folder = Folder(uri)
    plain = layouts.layout == "auto" and folder.is_folder() and not any(folder.is_folder(name) for name in LABELS)
    if not plain:
        listing = list_input(uri, layouts)
        items = [Picture(r.path, r.shown, LABELS[r.label], r.source, r.problem) for r in listing.references]
        return Pictures(listing.layout, listing.root, items)
    files = [Reference(entry.path, REAL, UNLABELLED) for entry in folder.list()]
    if any(file.path.endswith(".parquet") for file in files):
        raise UsageError(
            f"{uri}: holds Parquet files but no manifest.json: not a finished dataset. Run spark_jobs/ingest.py."
        )
    return Pictures(UNLABELLED, folder, [Picture(f.path, f.shown, UNLABELLED, UNLABELLED, None) for f in files])
