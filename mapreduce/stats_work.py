"""What a map task does with one line of the work list: read pictures, decode them, count their values.

This file must not know mrjob or any engine: it runs inside all of them. Errors that are about the data come back as
values, not exceptions, so that every engine carries them to the user alike and none retries what cannot succeed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.canonical import Canonical, canonicalise
from pipeline.config import build
from pipeline.decode import decode_canonical
from pipeline.errors import ImageError, IntegrityError, StorageError, TelltaleError, UnavailableError
from pipeline.manifest import check_files
from pipeline.packed import PackedFolder
from pipeline.parquet import read_row_group
from pipeline.records import LABELS
from pipeline.statistics import Tally
from pipeline.storage import Folder

__all__ = ["ERROR", "REJECT", "SUM", "Worker"]

SUM, REJECT, ERROR = "sum", "reject", "error"  # what a result may be about

Result = tuple[tuple[str, ...], list[Any]]


class Worker:
    """One map task's state: a tally for each (label, source), and the counters since they were last taken.

    After the first error it does no more work: the whole job has failed.
    """

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str], Tally] = {}
        self._failed = False
        self._counters: dict[str, int] = {}

    def do(self, unit: Mapping[str, Any]) -> Iterator[Result]:
        """Work on one line; gives the rejected files and the error, if any, as (key, value) pairs."""
        if self._failed:
            return
        try:
            yield from self._row_groups(unit) if "part" in unit else self._pictures(unit)
        except TelltaleError as error:
            self._failed = True
            yield (ERROR, f"{unit['number']:012d}"), [type(error).__name__, str(error)]

    def sums(self) -> Iterator[Result]:
        """What was counted, once for each (label, source); nothing after an error."""
        if not self._failed:
            for key, tally in self._tallies.items():
                yield (SUM, *key), tally.to_json()

    def take_counters(self) -> dict[str, int]:
        """How much each counter has grown since the last call."""
        taken, self._counters = self._counters, {}
        return taken

    def _count(self, **amounts: int) -> None:
        for name, amount in amounts.items():
            self._counters[name] = self._counters.get(name, 0) + amount

    def _tally(self, label: str, source: str) -> Tally:
        return self._tallies.setdefault((label, source), Tally())

    def _row_groups(self, unit: Mapping[str, Any]) -> Iterator[Result]:
        """Count some row groups of a dataset's part; the line with the first one also re-hashes the whole part."""
        folder, part = Folder(unit["folder"]), unit["part"]
        first, stop = unit["row_groups"]
        if first == 0:
            check_files(folder, {"files": [{"path": part, "bytes": unit["bytes"], "sha256": unit["sha256"]}]})
        for number in range(first, stop):
            where = f"{folder.locate(part)}: row group {number}"
            table = read_row_group(folder, part, number, columns=["image", "label", "source"])
            rows = zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True)
            for row, (image, label, source) in enumerate(rows):
                self._row(f"{where}, row {row}", image, label, source)
        yield from ()

    def _row(self, where: str, image: bytes, label: int, source: str) -> None:
        if label not in range(len(LABELS)):
            raise IntegrityError(f"{where}: label {label} is not a known one. Make the dataset again.")
        try:
            pixels = decode_canonical(image)
        except ImageError as error:
            raise IntegrityError(
                f"{where}: its picture does not decode ({error}): the file was changed. Make the dataset again."
            ) from error
        self._tally(LABELS[label], source).add(pixels)
        self._count(pictures=1, pixels=pixels.shape[0] * pixels.shape[1], bytes=len(image))

    def _pictures(self, unit: Mapping[str, Any]) -> Iterator[Result]:
        """Count files of a folder or list; those that cannot be used are rejects."""
        folder = PackedFolder(unit["folder"])
        setting = build(Canonical, unit["canonical"], "work list")
        for path, label, source, expected, problem in unit["pictures"]:
            problem = problem or self._picture(folder, path, label, source, expected, setting)
            if problem:
                self._count(rejects=1)
                yield (REJECT, path), list(problem)

    def _picture(
        self, folder: Folder, path: str, label: str, source: str, expected: str | None, setting: Canonical
    ) -> tuple[str, str] | None:
        """Count one file, or say (reason, detail) why not."""
        try:
            data = folder.read(path)
            picture = canonicalise(data, setting)
        except UnavailableError:
            raise
        except StorageError as error:
            return "unreadable", str(error)
        except ImageError as error:
            return error.reason, str(error)
        if picture.image_id != expected:
            raise IntegrityError(
                f"{folder.locate(path)}: changed while statistics were taken. Run again when nobody writes there."
            )
        pixels = decode_canonical(picture.image)
        self._tally(label, source).add(pixels)
        self._count(pictures=1, pixels=pixels.shape[0] * pixels.shape[1], bytes=len(data))
        return None
