"""The settings of the statistics stage, and the command that checks them.

`python -m mapreduce.stats_config --config F` prints them all, or says what is wrong.
This file must not import mrjob: a workflow checks all its sections before any engine starts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from pipeline.canonical import Canonical
from pipeline.cli import show_config
from pipeline.config import as_dict, at_least, between
from pipeline.layouts import Layouts

__all__ = ["SECTION", "StatsConfig", "result_config"]

SECTION: Final = "stats"


@dataclass(frozen=True, kw_only=True)
class StatsConfig(Layouts):
    """How statistics are taken.

    Attributes:
        layout, two_folders, cifake, ai_vs_human: how a folder or list of pictures is laid out (`pipeline/layouts.py`).
        canonical: how files of a folder or list become canonical pixels, at the quality of serving. A dataset's
            pictures are canonical already, so neither this nor the layout counts for them.
        max_reject_fraction: a folder or list of which more than this cannot be used fails; never changes the result.
        row_groups_per_task: row groups of a dataset in one line of the work list; never changes the result.
        pictures_per_task: files of a folder or list in one line; never changes the result.
        pictures_per_map: on Hadoop, about as many in one map task, fewer where that leaves less than 8 tasks. At 256 px
            the default takes 10 to 20 s, some times what it takes to start a container; never changes the result.
    """

    canonical: Canonical = field(default_factory=Canonical)
    max_reject_fraction: float = between(0.0, 1.0, 0.05)
    row_groups_per_task: int = at_least(1, 4)
    pictures_per_task: int = at_least(1, 256)
    pictures_per_map: int = at_least(1, 8192)


def result_config(config: StatsConfig, layout: str) -> dict[str, Any]:
    """What `stats.json` says of the settings for a folder or list: those that change the result."""
    values = as_dict(config)
    settings = {layout: values[layout]} if layout in values else {}
    return {"canonical": values["canonical"], "layout": layout, **settings}


if __name__ == "__main__":
    raise SystemExit(show_config(StatsConfig, SECTION))
