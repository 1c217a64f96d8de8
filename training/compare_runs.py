"""What a run folder says of itself: bundle, report and logs read into a row, or why there is none.

A report is read as the sealed JSON that it is; nothing here may import `evaluation`, run a model, or import torch (a
table should not wait for it). Whether rows may be compared is `compare_table`'s work.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pipeline.bundle import MANIFEST, MODEL_ONNX, Bundle, read_bundle
from pipeline.errors import IntegrityError, StorageError, TelltaleError, UnavailableError
from pipeline.manifest import canonical_json, read_sealed
from pipeline.storage import Folder
from training.compare_cost import Cost, cost_of

__all__ = ["MEASURES", "Evaluation", "Figure", "Measure", "Row", "Unusable", "read_runs"]

_METRICS: Final = "logs/metrics.jsonl"  # as in training.logs, which imports torch
_REPORT: Final = "report.json"
_SHOWN: Final = ("curve_points", "histogram_bins", "mistakes")  # settings of a report that change no figure here
_FEW_GROUPS: Final = 30  # as evaluation.words has it: with fewer, intervals are rough and usually too narrow


@dataclass(frozen=True)
class Measure:
    """A figure of the report: its key here, its title, the split and the name there, and how to read it."""

    key: str
    title: str
    split: str
    name: str
    percent: bool = False
    more_is_better: bool = True


MEASURES: Final = (
    Measure("test_auc", "test AUC", "test", "auc"),
    Measure("ood_auc", "ood AUC", "ood", "auc"),
    Measure("tpr_1", "TPR at 1 % FPR", "test", "tpr_at_1pct_fpr", percent=True),
    Measure("tpr_05", "TPR at 0.5 % FPR", "test", "tpr_at_0_5pct_fpr", percent=True),
    Measure("ece", "ECE", "test", "ece", more_is_better=False),
    Measure("brier", "Brier", "test", "brier", more_is_better=False),
)


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval, where the report has one."""

    value: float
    low: float | None = None
    high: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval; None if there is none."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Evaluation:
    """What figures were measured on, and how.

    Attributes:
        dataset: the hash of the dataset, which need not be that which the bundle was trained on.
        settings: what else decides the figures, canonical JSON.
    """

    dataset: str
    settings: str


@dataclass(frozen=True)
class Row:
    """A run with a finished bundle; None is what its files do not say.

    The figures of the report compare only between rows of the same `evaluation`; `val_auc`, on the validation split of
    what a run was trained on, only between rows of the same `dataset`.
    """

    run: str
    model: str
    dataset: str
    device: str
    ranks: int
    parameters: int | None
    best_epoch: int | None
    epochs: int | None
    val_auc: Figure | None
    onnx_bytes: int
    cost: Cost | None
    figures: Mapping[str, Figure]
    evaluation: Evaluation | None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Unusable:
    """A folder without a row: why, and what to do."""

    run: str
    problem: str


def read_runs(uris: Sequence[str]) -> tuple[list[Row], list[Unusable]]:
    """Read run folders, each once, in the order given.

    Raises:
        UnavailableError: the storage as a whole does not answer.
    """
    places: dict[str, str] = {}
    for uri in uris:
        places.setdefault(Folder(uri).absolute(), uri)
    rows, unusable = list[Row](), list[Unusable]()
    for uri, name in zip(places.values(), _names(list(places.values())), strict=True):
        found = _read_run(Folder(uri), _printable(name))
        rows.append(found) if isinstance(found, Row) else unusable.append(found)
    return rows, unusable


def _names(uris: Sequence[str]) -> list[str]:
    """A short name for each folder: its last part, unless two would have the same."""
    short = [Folder(uri).absolute().rstrip("/").rpartition("/")[2] or uri for uri in uris]
    count = Counter(short)
    return [name if count[name] == 1 else uri for name, uri in zip(short, uris, strict=True)]


def _printable(text: str) -> str:
    """Without what would move a terminal's cursor or break a line of the table."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _read_run(run: Folder, name: str) -> Row | Unusable:
    missing = _unfinished(run)
    if missing is not None:
        return Unusable(name, _printable(missing))
    try:
        bundle = read_bundle(run.locate("model"))
        return _row(run, name, bundle)
    except UnavailableError:
        raise
    except TelltaleError as error:
        again = f"python -m training.run --run-dir {_quoted(run)} --overwrite"
        return Unusable(name, _printable(f"damaged bundle: {error} With the settings it had: {again}"))


def _unfinished(run: Folder) -> str | None:
    """Why a folder has no bundle, and what to do; None: it has one."""
    if run.exists(f"model/{MANIFEST}"):
        return None
    if not run.exists():
        return "no such folder."
    train = f"python -m training.run --run-dir {_quoted(run)}"
    if run.exists("logs/checkpoints") or run.exists(_METRICS):
        return f"not finished: training runs still, or was stopped. With the settings it has: {train} --resume"
    if run.exists("shards") or run.exists("dataset"):
        return f"not trained yet: {train}"
    if run.exists(MANIFEST):
        return "a bundle, not a run: name the folder above it, which has logs/ and report/ too."
    return "not a run: it has none of model/, logs/, shards/ and dataset/."


def _quoted(run: Folder, path: str = "") -> str:
    return shlex.quote(run.locate(path) if path else run.uri)


def _row(run: Folder, name: str, bundle: Bundle) -> Row:
    document = bundle.document
    lines, remarks = _logged(run), list[str]()
    if not lines:
        remarks.append(f"no {_METRICS}, so what training took is not known.")
    report, problem = _report(run, bundle)
    remarks += [problem] if problem else _of_report(report)
    validation, architecture = document.get("validation", {}), document.get("architecture", {})
    return Row(
        run=name,
        model=_printable(str(architecture.get("name", "?"))),
        dataset=str(document.get("parents", {}).get("dataset", "?")),
        device=str(document.get("device", "?")),
        ranks=int(document.get("ranks", 1)),
        parameters=architecture.get("parameters"),
        best_epoch=validation.get("epoch"),
        epochs=sum(line.get("kind") == "epoch" for line in lines) or None,
        val_auc=_validation(document, report),
        onnx_bytes=next(entry["bytes"] for entry in document["files"] if entry["path"] == MODEL_ONNX),
        cost=cost_of(lines),
        figures=_figures(report),
        evaluation=_evaluation(report) if report else None,
        remarks=tuple(_printable(remark) for remark in remarks),
    )


def _logged(run: Folder) -> list[dict[str, Any]]:
    """The whole lines of `metrics.jsonl`; the last one of a killed run may be cut."""
    found = []
    for text in run.read(_METRICS).decode(errors="replace").splitlines() if run.is_file(_METRICS) else ():
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            found.append(line)
    return found


def _report(run: Folder, bundle: Bundle) -> tuple[dict[str, Any], str | None]:
    """The report, or {} and why there is none, with the command that makes it."""
    make = (
        f"python -m evaluation.run --bundle {_quoted(run, 'model')} --dataset {_quoted(run, 'dataset')} "
        f"--output {_quoted(run, 'report')}"
    )
    folder = run.child("report")
    if not folder.exists(_REPORT):
        return {}, f"no report: {make}"
    try:
        document = read_sealed(folder, _REPORT, "report")
    except UnavailableError:
        raise
    except (IntegrityError, StorageError) as error:
        return {}, f"damaged report: {error} {make} --update"
    if document["parents"]["bundle"] != bundle.sha256:
        return {}, f"its report is of another bundle, from before it was trained anew: {make} --update"
    return document, None


def _figures(report: Mapping[str, Any]) -> dict[str, Figure]:
    found = {}
    for measure in MEASURES:
        split = report.get("splits", {}).get(measure.split, {})
        if split.get(measure.name) is not None:
            low, high = split.get("ci95", {}).get(measure.name) or (None, None)
            found[measure.key] = Figure(split[measure.name], low, high)
    return found


def _validation(bundle: Mapping[str, Any], report: Mapping[str, Any]) -> Figure | None:
    """The AUC on the validation split, with an interval where the report is of the same split."""
    value = bundle.get("validation", {}).get("auc")
    if value is None:
        return None
    same = bool(report) and report["parents"]["dataset"] == bundle["parents"]["dataset"]
    ends = report["splits"].get("val", {}).get("ci95", {}).get("auc") if same else None
    return Figure(value, *(ends or (None, None)))


def _evaluation(report: Mapping[str, Any]) -> Evaluation:
    settings = {key: value for key, value in report["config"].items() if key not in _SHOWN}
    settings["stage_version"] = report["stage_version"]
    return Evaluation(report["parents"]["dataset"], canonical_json(settings).decode())


def _of_report(report: Mapping[str, Any]) -> list[str]:
    """What a reader must know of its figures."""
    found, few = [], []
    for name in ("test", "ood"):
        split = report["splits"].get(name)
        if split is None:
            found.append(f"{name} was not evaluated.")
        elif split.get("auc") is None:
            found.append(f"no {name} AUC: {split.get('reasons', {}).get('auc', 'the report does not say why')}.")
        elif split.get("groups_drawn", _FEW_GROUPS) < _FEW_GROUPS:
            few.append(f"{name} {split['groups_drawn']}")
    return (
        [*found, f"few groups of pictures ({', '.join(few)}): its intervals are rough, and usually too narrow."]
        if few
        else found
    )
