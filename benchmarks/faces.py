"""How good `configs/faces.yaml` and the robust recipe are on a folder of faces that the user names.

    python -m benchmarks.faces --input FOLDER --weights WEIGHTS.safetensors

Two whole runs by the user's own command, `python -m pipeline.run`, each continued where it was if it was stopped; hours
on two cores. The figures are those of the two reports, and the same for the test pictures saved anew (`_resaved`);
intervals are drawn over whole groups. The pictures are not part of Telltale: docs/datasets.md says what the folder must
look like.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from benchmarks._common import table, write_result
from benchmarks._resaved import figures_resaved
from training.compare_cost import cost_of

RECIPES: Final = {"plain": "configs/faces.yaml", "robust": "configs/recipes/efficientnet_b1_robust.yaml"}
FIGURES: Final = {"auc": "AUC", "tpr_at_1pct_fpr": "TPR at 1 % FPR", "tpr_at_0_5pct_fpr": "TPR at 0.5 % FPR"}
_ROOT: Final = Path(__file__).resolve().parent.parent


def run(config: str, place: Path, given: argparse.Namespace) -> dict[str, Any]:
    """The report of a whole run; what is done already is not done again.

    Raises:
        SystemExit: a stage failed, or was stopped; it has said why.
    """
    sets = [f"input={given.input}", *([f"training.pretrained={given.weights}"] if given.weights else []), *given.sets]
    options = [word for item in sets for word in ("--set", item)]
    command = [sys.executable, "-m", "pipeline.run", config, "--run-dir", str(place), *options]
    done = subprocess.run(command, check=False, cwd=_ROOT)
    if done.returncode:
        raise SystemExit(f"error: {config} was not finished; the same command goes on with {place}")
    report: dict[str, Any] = json.loads((place / "report" / "report.json").read_bytes())
    return report


def hours(place: Path) -> str:
    """What the steps of training took, as `training.compare` counts it."""
    lines = [json.loads(line) for line in (place / "logs" / "metrics.jsonl").read_text().splitlines()]
    cost = cost_of(lines)
    return "unknown" if cost is None or cost.hours is None else f"{cost.hours:.2f}"


def cell(figures: Mapping[str, Any], name: str) -> str:
    """A figure with its 95 % interval; a dash where it is undefined."""
    value, interval = figures.get(name), figures["ci95"].get(name)
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def rows(found: Mapping[str, Mapping[str, Any]], name: str) -> list[list[str]]:
    """A line for each set of pictures, by its name."""
    return [
        [on, name, str(figures["n_real"]), str(figures["n_ai"]), *(cell(figures, key) for key in FIGURES)]
        for on, figures in found.items()
    ]


def sets_of(report: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The figures of a report's splits and of its sources, by name."""
    splits = {name: report["splits"][name] for name in ("test", "ood")}
    sources = {f"{name} ({figures['split']})": figures for name, figures in sorted(report["by_source"].items())}
    return splits | sources


def main() -> None:
    """Run both, print the table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faces", description=__doc__)
    parser.add_argument("--input", required=True, metavar="FOLDER", help="real/<source>/ and ai/<generator>/")
    parser.add_argument("--weights", metavar="FILE", help="a start for efficientnet_b1; without it timm's hub")
    parser.add_argument("--runs", default="runs/faces-benchmark", metavar="DIR", help="where the two runs go")
    parser.add_argument("--set", dest="sets", action="append", default=[], metavar="A.B=C", help="for both runs")
    parser.add_argument("--no-write", action="store_true", help="print only")
    given = parser.parse_args()
    lines: list[list[str]] = []
    notes = []
    for name, config in RECIPES.items():
        place = Path(given.runs).resolve() / name
        report = run(config, place, given)
        resaved = {f"test, {how}": figures for how, figures in figures_resaved(place, given.input).items()}
        lines += rows(sets_of(report) | resaved, name)
        notes.append(f"- {name}: `{config}`, {hours(place)} hours of training steps")
    order = list(dict.fromkeys(line[0] for line in lines))  # both recipes' line of a set side by side
    lines.sort(key=lambda line: order.index(line[0]))
    head = ["on", "recipe", "real", "AI", *FIGURES.values()]
    packages = ["torch", "timm", "simplejpeg"]
    write_result(
        "faces",
        "Faces: the plain recipe and the robust one",
        [*notes, "", *table(head, lines)],
        packages,
        not given.no_write,
    )


if __name__ == "__main__":
    main()
