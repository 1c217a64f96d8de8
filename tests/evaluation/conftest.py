"""What the tests of evaluation share: a small dataset, a real bundle that makes some mistakes on it, and its report."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evaluation.run import main
from tests.bundles import make_bundle
from tests.datasets import make_dataset


@dataclass(frozen=True)
class Run:
    """A run folder with raw/, dataset/, model/ and report/; not to be changed."""

    folder: Path
    dataset: dict[str, Any]
    bundle: dict[str, Any]
    report: dict[str, Any]

    @property
    def html(self) -> str:
        return (self.folder / "report/report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Two cameras, two generators, near-duplicates in pairs; a threshold that accuses some real pictures."""
    folder = tmp_path_factory.mktemp("a run")
    dataset = make_dataset(
        folder / "dataset",
        {"train": 2, "val": 8, "test": 12, "ood": 6},
        sources={"real": ("canon", "nikon"), "ai": ("gan", "vae")},
        group_size=2,
    )
    bundle = make_bundle(folder / "model", dataset=dataset, middle=4.0, gain=2.0)
    main(["--bundle", str(folder / "model"), "--dataset", str(folder / "dataset"), "--output", str(folder / "report")])
    report = json.loads((folder / "report/report.json").read_bytes())
    return Run(folder, dataset, bundle, report)
