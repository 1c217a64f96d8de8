"""The settings of ingest, and the command that checks and prints them: `python -m spark_jobs.ingest_config --config F`.

This file must not import Spark: a workflow checks all its sections before any engine starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal

from pipeline.canonical import Canonical
from pipeline.cli import show_config
from pipeline.config import as_dict, at_least, between
from pipeline.layouts import Layouts
from pipeline.perceptual import NearDuplicates
from pipeline.splitting import Split

__all__ = ["SECTION", "IngestConfig", "result_config"]

SECTION: Final = "ingest"
_NEVER: Final = {"max_reject_fraction", "files_per_task"}  # change no result


@dataclass(frozen=True, kw_only=True)
class IngestConfig(Layouts):
    """How raw pictures become a dataset.

    Attributes:
        layout, two_folders, cifake, ai_vs_human: how the input is laid out (`pipeline/layouts.py`).
        canonical: how a file becomes canonical pixels.
        split: how groups go to train, val, test and ood (`pipeline/splitting.py`).
        near_duplicates: what counts as the same picture (`pipeline/perceptual.py`).
        cross_label: a group that holds both labels is kept whole and counted, or all of it rejected.
        max_reject_fraction: ingest fails if more than this fraction of the files is unusable; never changes the result.
        rows_per_part: pictures in a Parquet file, at most about this many.
        files_per_task: files that a task looks at, fewer where cores would be idle; never changes the result.
    """

    canonical: Canonical = field(default_factory=Canonical)
    split: Split = field(default_factory=Split)
    near_duplicates: NearDuplicates = field(default_factory=NearDuplicates)
    cross_label: Literal["keep", "reject"] = "keep"
    max_reject_fraction: float = between(0.0, 1.0, 0.05)
    rows_per_part: int = at_least(1, 2048)
    files_per_task: int = at_least(1, 128)


def result_config(config: IngestConfig, layout: str) -> dict[str, Any]:
    """What a manifest says of the settings: those that change the result, with the layout that was really read."""
    values = as_dict(config)
    others = {field.name for field in fields(Layouts)} - {layout}
    return {**{key: value for key, value in values.items() if key not in _NEVER | others}, "layout": layout}


if __name__ == "__main__":
    raise SystemExit(show_config(IngestConfig, SECTION))
