"""Layouts: how the pictures of a raw folder or list are laid out, each a small adapter to the same references.

| layout        | what is read                                                                     | source            |
|---------------|----------------------------------------------------------------------------------|-------------------|
| `folders`     | `real/<source>/…` and `ai/<generator>/…`, to any depth                           | the second folder |
| `list`        | CSV or Parquet: `path` (relative to the list's folder), `label` (real, ai),      | its column        |
|               | `source`, optionally `split` (train, val, test, ood) and `group`; others ignored |                   |
| `cifake`      | `train/REAL`, `train/FAKE`, `test/REAL`, `test/FAKE`; `train` becomes train, val | the settings      |
| `two_folders` | one folder of real and one of generated pictures, named in the settings          | the settings      |
| `ai_vs_human` | `train.csv` with `file_name` and `label` (0 human, 1 AI) of the Kaggle set       | the settings      |
| `auto`        | a file is a `list`; a folder with `real/` or `ai/` in it is `folders`            |                   |

Hidden files and whatever lies outside these folders are no part of the input. A tar archive or a Parquet file of
pictures counts as a folder (`pipeline/packed.py`), in lists as well: `camera/0001.tar/a.jpg`. This module must not open
a picture.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from sys import intern
from typing import Any, Final, Literal

from pipeline._lists import read_list
from pipeline.errors import DataError, UsageError
from pipeline.packed import PackedFolder
from pipeline.records import AI, LABELS, REAL, SPLITS
from pipeline.references import BAD_NAME, Reference, References, printable
from pipeline.splitting import FIT
from pipeline.storage import Folder, split_uri

__all__ = [
    "AiVsHuman",
    "Cifake",
    "LayoutName",
    "Layouts",
    "Listing",
    "Reference",
    "TwoFolders",
    "list_input",
]

LayoutName = Literal["auto", "folders", "list", "cifake", "two_folders", "ai_vs_human"]
_LIST_ENDINGS: Final = (".csv", ".parquet")


@dataclass(frozen=True)
class TwoFolders:
    """One folder a label, relative to the input; each may be a path."""

    real: str = "real"
    ai: str = "fake"
    real_source: str = "real"
    ai_source: str = "ai"


@dataclass(frozen=True)
class Cifake:
    """CIFAKE: CIFAR-10 photographs and their counterparts from Stable Diffusion 1.4."""

    real_source: str = "cifar10"
    ai_source: str = "stable_diffusion_1_4"


@dataclass(frozen=True)
class AiVsHuman:
    """The "AI vs human generated images" set: photographs of Shutterstock and their generated counterparts."""

    list: str = "train.csv"
    real_source: str = "shutterstock"
    ai_source: str = "ai_vs_human"


@dataclass(frozen=True, kw_only=True)
class Layouts:
    """The layout, and the settings of those that have some.

    Attributes:
        layout: which (see the module).
        two_folders, cifake, ai_vs_human: settings of the layouts of that name.
    """

    layout: LayoutName = "auto"
    two_folders: TwoFolders = field(default_factory=TwoFolders)
    cifake: Cifake = field(default_factory=Cifake)
    ai_vs_human: AiVsHuman = field(default_factory=AiVsHuman)


@dataclass(frozen=True)
class Listing:
    """The whole input.

    Attributes:
        layout: the layout that was read, never `auto`.
        root: the folder that paths are relative to.
        references: sorted by path, each path once; made one by one when they are asked for.
        inputs: the list files, as a manifest names them.
    """

    layout: str
    root: PackedFolder
    references: References
    inputs: list[dict[str, Any]]


def list_input(uri: str, layouts: Layouts) -> Listing:
    """List an input.

    Args:
        uri: a folder, or a list.
        layouts: which layout, and its settings.

    Raises:
        UsageError: there is no such input, or it is not laid out like that.
        DataError: a row of a list is wrong (its line is named), or there is nothing in it.
        StorageError: a folder cannot be listed.
    """
    parent, name = split_uri(uri)
    is_list, folder = bool(name) and parent.is_file(name), PackedFolder(uri)
    if not is_list and not folder.is_folder():
        raise UsageError(f"{uri}: no such file or folder. Check --input.")
    layout = _resolve(uri, layouts.layout, is_list, folder)
    lists: list[str] = []
    if layout == "list":
        root, lists, rows = PackedFolder(parent.uri), [name], _from_list(parent, name)
    elif layout == "ai_vs_human":
        root, lists = (PackedFolder(parent.uri), [name]) if is_list else (folder, [layouts.ai_vs_human.list])
        rows = _ai_vs_human(root, lists[0], layouts.ai_vs_human)
    else:
        root, rows = folder, _FOLDER_LAYOUTS[layout](folder, layouts)
    references = References(_checked(row) for row in rows)
    if not len(references):
        raise DataError(f"{uri}: no pictures in it. Check --input and the layout ('{layout}').")
    for item in lists:
        _refuse_twice(root, item, "path" if layout == "list" else "file_name", references.twice())
    return Listing(layout, root, references, [_input(root, item) for item in lists])


def _resolve(uri: str, layout: LayoutName, is_list: bool, folder: Folder) -> str:
    if layout == "auto":
        if is_list and uri.lower().endswith(_LIST_ENDINGS):
            return "list"
        if is_list:
            raise UsageError(f"{uri}: a list of pictures must end in .csv or .parquet.")
        if folder.is_folder(LABELS[REAL]) or folder.is_folder(LABELS[AI]):
            return "folders"
        raise UsageError(
            f"{uri}: neither real/<source>/ nor ai/<generator>/ in it. Lay the pictures out like that, give a list "
            "(.csv, .parquet), or name another layout in the configuration: cifake, two_folders, ai_vs_human."
        )
    if layout == "list" and not is_list:
        raise UsageError(f"{uri}: layout 'list' needs a .csv or .parquet file as --input, not a folder.")
    if is_list and layout not in ("list", "ai_vs_human"):
        raise UsageError(f"{uri}: layout '{layout}' needs a folder as --input, not a file.")
    return layout


def _below(root: Folder, folder: str) -> Iterator[str]:
    if root.is_folder(folder):
        for entry in root.child(folder).walk():
            yield f"{folder}/{entry.path}"


def _folders(root: Folder, _: Layouts) -> Iterator[Reference]:
    for label, name in enumerate(LABELS):
        for path in _below(root, name):
            parts = path.split("/")
            problem = None if len(parts) > 2 else ("no_source", f"put it into {name}/<source>/, named after its source")
            yield Reference(path, label, intern(parts[1]) if problem is None else "", problem=problem)


def _two_folders(root: Folder, layouts: Layouts) -> Iterator[Reference]:
    names = layouts.two_folders
    for label, folder, source in ((REAL, names.real, names.real_source), (AI, names.ai, names.ai_source)):
        if not root.is_folder(folder):
            raise UsageError(
                f"{root.uri}: no folder '{folder}' in it. Set two_folders.{LABELS[label]} to the folder's name."
            )
        for path in _below(root, posixpath.normpath(folder)):
            yield Reference(path, label, source)


def _cifake(root: Folder, layouts: Layouts) -> Iterator[Reference]:
    names = layouts.cifake
    for folder, split in (("train", FIT), ("test", "test")):
        for label, name, source in ((REAL, "REAL", names.real_source), (AI, "FAKE", names.ai_source)):
            for path in _below(root, f"{folder}/{name}"):
                yield Reference(path, label, source, split)


def _from_list(root: Folder, name: str) -> Iterator[Reference]:
    for where, row in read_list(root, name, ("path", "label", "source"), ("split", "group")):
        label = row["label"].lower()
        if label not in LABELS:
            raise DataError(f"{where}: label '{row['label']}' is neither 'real' nor 'ai'.")
        if not row["source"]:
            raise DataError(f"{where}: no source. Name the camera set or the generator.")
        split = row.get("split", "").lower() or None
        if split is not None and split not in SPLITS:
            raise DataError(f"{where}: split '{split}' is none of {', '.join(SPLITS)} (or empty, to have it drawn).")
        path = _path(row["path"], where)
        yield Reference(path, LABELS.index(label), intern(row["source"]), split, row.get("group") or None)


def _ai_vs_human(root: Folder, name: str, names: AiVsHuman) -> Iterator[Reference]:
    if not root.is_file(name):
        raise UsageError(f"{root.locate(name)}: no such list. Check --input, or set ai_vs_human.list.")
    for where, row in read_list(root, name, ("file_name", "label")):
        if row["label"] not in ("0", "1"):
            raise DataError(f"{where}: label '{row['label']}' is neither 0 (human) nor 1 (AI-generated).")
        label = int(row["label"])
        yield Reference(_path(row["file_name"], where), label, names.ai_source if label else names.real_source)


def _path(text: str, where: str) -> str:
    """A list's path, checked: relative, inside the list's folder."""
    path = posixpath.normpath(text) if text else ""
    if not path or path == "." or "\0" in path:
        raise DataError(f"{where}: no path.")
    if path.startswith("/") or path.split("/")[0] == "..":
        raise DataError(
            f"{where}: '{text}' leads out of the list's folder. Write paths relative to the folder that holds the list."
        )
    return path


def _refuse_twice(root: Folder, name: str, column: str, twice: set[str]) -> None:
    """Say where a path is listed again: the list is read once more, so that no line need be kept for it before."""
    seen = dict[str, str]()
    for where, row in read_list(root, name, (column,)) if twice else ():
        path = posixpath.normpath(row[column])
        if path in seen:
            raise DataError(f"{where}: '{row[column]}' is listed already, at {seen[path]}. Leave one of them out.")
        if path in twice:
            seen[path] = where.rpartition("/")[2]


def _checked(reference: Reference) -> Reference:
    """The reference, with a name that is no text marked as a problem."""
    try:
        reference.path.encode("utf-8")
    except UnicodeEncodeError:
        raw = reference.path.encode("utf-8", "surrogateescape").hex()
        problem = (BAD_NAME, f"the name is not UTF-8 (its bytes: {raw}): rename the file")
        return Reference(reference.path, reference.label, printable(reference.source), problem=problem)
    return reference


def _input(root: Folder, name: str) -> dict[str, Any]:
    digest, size = root.sha256(name)
    return {"path": name, "bytes": size, "sha256": digest}


_FOLDER_LAYOUTS: Final[dict[str, Callable[[Folder, Layouts], Iterator[Reference]]]] = {
    "folders": _folders,
    "two_folders": _two_folders,
    "cifake": _cifake,
}
