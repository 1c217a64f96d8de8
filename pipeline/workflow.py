"""A workflow: the YAML file of a whole run, and the commands it stands for, the same that a user would type.

This module must not run anything (`pipeline.run` does) and must not know what a stage's section holds: the stage's own
configuration command checks it.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pipeline.config import SECTIONS
from pipeline.errors import ConfigError, SetupError

__all__ = ["CHECKS", "Stage", "Workflow", "stages"]

_ROOT: Final = Path(__file__).resolve().parent.parent
_PREPARERS: Final = {"demo": "training.demo_data"}

CHECKS: Final = {
    "demo": "training.demo_config",
    "ingest": "spark_jobs.ingest_config",
    "stats": "mapreduce.stats_config",
    "augment": "spark_jobs.augment_config",
    "training": "training.config",
    "evaluation": "evaluation.config",
}
"""The command that checks each stage's section."""


@dataclass(frozen=True)
class Workflow:
    """A whole run.

    Attributes:
        name: the run folder is `runs/<name>` unless another is given.
        input: folder of raw pictures, or a list of them.
        prepare: what makes the input when it is not there: `demo`, or nothing.
        spark_submit: options for `spark-submit` (`--master`, `--driver-memory`, …); Spark's own defaults otherwise.
        stats_runner: mrjob's runner.
        demo, ingest, stats, augment, training, evaluation: the stages' own sections.
    """

    name: str
    input: str
    prepare: Literal["demo"] | None = None
    spark_submit: tuple[str, ...] = ()
    stats_runner: Literal["inline", "local", "spark", "hadoop"] = "local"
    demo: dict[str, Any] = field(default_factory=dict)
    ingest: dict[str, Any] = field(default_factory=dict)
    stats: dict[str, Any] = field(default_factory=dict)
    augment: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    evaluation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage:
    """One command of a run: its name, and the words of the command line."""

    name: str
    command: tuple[str, ...]


def spark_submit() -> str:
    """The `spark-submit` that belongs to this Python.

    Raises:
        SetupError: pyspark is not installed here.
    """
    beside = Path(sys.executable).parent / "spark-submit"
    found = str(beside) if beside.exists() else shutil.which("spark-submit")
    if not found:
        raise SetupError("spark-submit not found: install the extra with `pip install 'telltale[spark]'`.")
    return found


def section_sets(sets: Sequence[str], section: str) -> list[str]:
    """The `--set` items of one section, as the stage's own command takes them.

    Raises:
        ConfigError: an item names a whole section.
    """
    for item in sets:
        if item.partition("=")[0] == section:
            raise ConfigError(f"--set {item}: name a key of the section, as in --set {section}.key=value.")
    return [item[len(section) + 1 :] for item in sets if item.startswith(section + ".")]


def top_level_sets(sets: Sequence[str]) -> list[str]:
    """The `--set` items that belong to no section."""
    return [item for item in sets if item.partition("=")[0].partition(".")[0] not in SECTIONS]


def config_options(config: str, sets: Sequence[str], section: str) -> list[str]:
    """`--config` and `--set` for one stage."""
    options = ["--config", config]
    for item in section_sets(sets, section):
        options += ["--set", item]
    return options


def stages(workflow: Workflow, config: str, sets: Sequence[str], run_dir: str) -> Iterator[Stage]:
    """The commands of a run, in order.

    Args:
        workflow: what the file says.
        config: the file, handed to every stage.
        sets: `section.key=value` items.
        run_dir: where the results go.
    """
    python, submit = sys.executable, (spark_submit(), *workflow.spark_submit)
    run = Path(run_dir)
    dataset, stats, shards = str(run / "dataset"), str(run / "stats.json"), str(run / "shards")
    model, report, logs = str(run / "model"), str(run / "report"), str(run / "logs")

    def stage(name: str, *command: str) -> Stage:
        return Stage(name, (*command, *config_options(config, sets, name), "--update"))

    if workflow.prepare:
        module = _PREPARERS[workflow.prepare]
        yield stage("demo", python, "-m", module, "--output", str(Path(workflow.input).parent))
    ingest, augment = str(_ROOT / "spark_jobs" / "ingest.py"), str(_ROOT / "spark_jobs" / "augment.py")
    yield stage("ingest", *submit, ingest, "--input", workflow.input, "--output", dataset)
    yield stage("stats", python, "-m", "mapreduce.stats", "-r", workflow.stats_runner, dataset, "--output", stats)
    yield stage("augment", *submit, augment, "--input", dataset, "--output", shards)
    yield stage(
        "training", python, "-m", "training.run", "--shards", shards, "--stats", stats,
        "--output", model, "--logs", logs, "--resume",
    )  # fmt: skip
    yield stage(
        "evaluation",
        python,
        "-m",
        "evaluation.run",
        "--bundle",
        model,
        "--dataset",
        dataset,
        "--output",
        report,
    )
