"""Manifests: what a stage made, from what, under which configuration, sealed by a hash of its own body.

A manifest is canonical JSON (RFC 8785). It holds no time, host or absolute path. Readers trust it alone: a data file
that no manifest names does not exist. This module must not know how any stage works.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import rfc8785

from pipeline.errors import IntegrityError, OutputExistsError, StorageError, UnavailableError
from pipeline.storage import STAGING, Folder

__all__ = [
    "SEAL",
    "FileEntry",
    "canonical_json",
    "check_files",
    "file_entries",
    "file_state",
    "leftovers",
    "library_versions",
    "output_state",
    "publish",
    "read_sealed",
    "seal",
    "unseal",
]

SEAL = "sha256"
_KINDS = ("dataset", "stats", "shards", "bundle", "report", "locations", "demo")


@dataclass(frozen=True, order=True)
class FileEntry:
    """A data file as a manifest names it."""

    path: str
    bytes: int
    sha256: str
    rows: int | None = None


def canonical_json(value: Any) -> bytes:
    """RFC 8785 canonical JSON, UTF-8."""
    return rfc8785.dumps(value)


def seal(body: Mapping[str, Any]) -> dict[str, Any]:
    """The body with the sha256 of its canonical JSON added under `sha256`."""
    unsealed = {key: value for key, value in body.items() if key != SEAL}
    return {**unsealed, SEAL: hashlib.sha256(canonical_json(unsealed)).hexdigest()}


def unseal(data: bytes, where: str, kind: str) -> dict[str, Any]:
    """Parse and check a sealed document.

    Args:
        data: the file's bytes; they must be the canonical JSON of what they say.
        where: the file's name, for messages.
        kind: the `kind` it must be of.

    Raises:
        IntegrityError: not JSON, not canonical, another kind, or the seal does not match.
    """
    try:
        document = json.loads(data)
    except ValueError as error:
        raise IntegrityError(f"{where}: not valid JSON ({error}): the file was changed or cut.") from error
    if not isinstance(document, dict) or document.get("kind") != kind:
        raise IntegrityError(f"{where}: not a Telltale {kind} manifest.")
    if document.get(SEAL) != seal(document)[SEAL] or canonical_json(document) != data:
        raise IntegrityError(f"{where}: its contents do not match its own hash: the file was changed. Make it again.")
    return document


def read_sealed(folder: Folder, path: str, kind: str) -> dict[str, Any]:
    """Read a sealed document from a folder (`unseal` says what is checked).

    Raises:
        StorageError: it is missing: the stage did not finish.
        IntegrityError: it was changed.
    """
    if not folder.exists(path):
        raise StorageError(
            f"{folder.locate(path)}: missing: this is not a finished {kind}. Run the stage that makes it (again)."
        )
    return unseal(folder.read(path), folder.locate(path), kind)


def publish(folder: Folder, path: str, body: Mapping[str, Any], overwrite: bool = False) -> dict[str, Any]:
    """Seal a body and create the file, last of a stage's files. Returns the sealed document.

    Two runs that did the same work coincide: if the same document is already there, that is success.

    Raises:
        OutputExistsError: another document is there and `overwrite` is false.
    """
    if body.get("kind") not in _KINDS:
        raise ValueError(f"unknown kind of manifest: {body.get('kind')}")
    document = seal(body)
    data = canonical_json(document)
    if overwrite:
        folder.put(path, data)
        return document
    try:
        folder.create(path, data)
    except OutputExistsError:
        if folder.read(path) != data:
            raise
    return document


def file_entries(entries: Iterable[FileEntry]) -> list[dict[str, Any]]:
    """The entries as a manifest holds them: sorted by path, without `rows` where there are none."""
    return [{k: v for k, v in asdict(entry).items() if v is not None} for entry in sorted(entries)]


def check_files(folder: Folder, document: Mapping[str, Any]) -> None:
    """Re-hash every file that a manifest names.

    Raises:
        IntegrityError: naming the first file that is missing or changed.
    """
    for entry in document["files"]:
        where = folder.locate(entry["path"])
        if not folder.is_file(entry["path"]):
            raise IntegrityError(f"{where}: missing, though the manifest names it. Make this stage again.")
        found, size = folder.sha256(entry["path"])
        if (found, size) != (entry["sha256"], entry["bytes"]):
            raise IntegrityError(
                f"{where}: changed: sha256 {found[:16]}…, {size} bytes; "
                f"the manifest says {entry['sha256'][:16]}…, {entry['bytes']} bytes. Make this stage again."
            )


def leftovers(folder: Folder, named: Iterable[str]) -> list[str]:
    """Files below a folder that are not among those named: what killed attempts left behind."""
    known = set(named)
    return [entry.path for entry in folder.list(hidden=True) if entry.path not in known] if folder.exists() else []


def library_versions(*names: str) -> dict[str, str]:
    """The installed versions of the libraries that set bytes."""
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def output_state(
    folder: Folder,
    manifest: str,
    kind: str,
    expected: Mapping[str, Any],
    ours: tuple[str, ...],
    overwrite: bool = False,
    update: bool = False,
) -> Literal["done", "go"]:
    """Decide what to do with an output folder before a stage writes to it.

    Args:
        folder: where the stage will write.
        manifest: the manifest's name in it.
        kind: its kind.
        expected: the members (configuration, parents, versions …) that a manifest of the same work would have.
        ours: the endings of the data files that this stage writes, e.g. `(".parquet",)`.
        overwrite: whether the user said `--overwrite`: whatever is there is removed.
        update: whether the user said `--update`: a finished or damaged result of this very stage is replaced when
            inputs or configuration changed; files that Telltale did not write are still refused.

    Returns:
        `"done"`: a valid manifest of the same work is there, nothing to do; `"go"`: write (what killed attempts of
        ours left is continued).

    Raises:
        OutputExistsError: something else is there and `overwrite` is false.
    """
    if not folder.exists() or not any(True for _ in folder.list(hidden=True)):
        return "go"
    problem = _difference(folder, manifest, kind, expected, ours)
    if problem is None:
        return "done" if folder.exists(manifest) else "go"
    foreign = _foreign(folder, (manifest, *ours))
    if not overwrite and (foreign or not update):
        also = f" It also holds '{foreign[0]}', which Telltale did not write." if foreign and update else ""
        raise OutputExistsError(
            f"{folder.uri}: {problem}{also} Choose another output, or give --overwrite to replace it."
        )
    folder.remove(manifest)  # first: from here on, nobody takes what is left for a finished result
    folder.remove("")
    return "go"


def _difference(
    folder: Folder, manifest: str, kind: str, expected: Mapping[str, Any], ours: tuple[str, ...]
) -> str | None:
    """What stands against using the folder as it is, or None."""
    if not folder.exists(manifest):
        foreign = _foreign(folder, ours)
        return f"holds files that Telltale did not write ('{foreign[0]}')." if foreign else None
    try:
        document = read_sealed(folder, manifest, kind)
        check_files(folder, document)
    except UnavailableError:
        raise  # nothing is known to be wrong with what is there
    except (IntegrityError, StorageError) as error:
        return f"holds a damaged {kind}: {error}"
    for key, value in expected.items():
        if document.get(key) != value:
            return f"holds the result of other work: '{key}' differs."
    return None


def _foreign(folder: Folder, ours: tuple[str, ...]) -> list[str]:
    """Files that no attempt of ours can have written."""
    paths = (entry.path for entry in folder.list(hidden=True))
    return [path for path in paths if not path.endswith(ours) and not path.startswith(STAGING + "/")]


def file_state(
    folder: Folder,
    path: str,
    kind: str,
    expected: Mapping[str, Any],
    overwrite: bool = False,
    update: bool = False,
) -> Literal["done", "new", "replace"]:
    """`output_state` for a stage whose whole result is one sealed document.

    Args:
        folder, path: where the document will be.
        kind: its kind.
        expected: the members that a document of the same work would have.
        overwrite: the user said `--overwrite`: any file there is replaced.
        update: the user said `--update`: an earlier or damaged document of this kind is replaced, another file is not.

    Returns:
        `"done"`: the same work's document is there; `"new"`: the name is free; `"replace"`: publish over what is there.

    Raises:
        OutputExistsError: something else is there, and neither option lets it be replaced.
    """
    where = folder.locate(path)
    if not folder.exists(path):
        return "new"
    if folder.is_folder(path):
        raise OutputExistsError(
            f"{where}: is a folder. Name a file, for example {folder.locate(path + '/stats.json')}."
        )
    try:
        data = folder.read(path)
        document = unseal(data, where, kind)
        different = next((key for key, value in expected.items() if document.get(key) != value), None)
        if different is None:
            return "done"
        ours, problem = True, f"holds the result of other work: '{different}' differs."
    except UnavailableError:
        raise
    except (IntegrityError, StorageError) as error:
        ours = not isinstance(error, StorageError) and f'"kind":"{kind}"'.encode() in data
        problem = f"holds a damaged {kind} document: {error}" if ours else f"holds something else: {error}"
    if not overwrite and not (update and ours):
        raise OutputExistsError(f"{where}: {problem} Choose another output, or give --overwrite to replace it.")
    return "replace"
