"""The settings of an evaluation. Every one but `cache_gb` changes the report, so the others are recorded in it.

python -m evaluation.config --config configs/x.yaml      checks the `evaluation` section and prints it in full
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.cache import DEFAULT_GB
from pipeline.cli import show_config
from pipeline.config import above, as_dict, at_least, between
from pipeline.errors import ConfigError
from pipeline.records import SPLITS

__all__ = ["EvaluationConfig", "result_fields"]


@dataclass(frozen=True)
class EvaluationConfig:
    """What is scored, and how the figures are made.

    Attributes:
        splits: which splits to score, in the report's order. `train` may be among them, to see overfitting.
        bootstrap_samples: resamples of whole groups behind each 95 % interval.
        seed: of the resampling.
        calibration_bins: bins of equal width for the reliability diagram and the calibration error.
        histogram_bins: bins of equal width of the score histogram.
        curve_points: at most that many points of a ROC or precision-recall curve are kept.
        mistakes: how many of the most certain mistakes are shown, of each kind.
        cache_gb: the most that local copies of a remote dataset may take, in GB (10⁹ bytes).
    """

    splits: tuple[str, ...] = ("val", "test", "ood")
    bootstrap_samples: int = between(100, 100_000, 1000)
    seed: int = at_least(0, 0)
    calibration_bins: int = between(2, 100, 10)
    histogram_bins: int = between(2, 100, 20)
    curve_points: int = between(10, 10_000, 200)
    mistakes: int = between(0, 100, 12)
    cache_gb: float = above(0.0, DEFAULT_GB)

    def __post_init__(self) -> None:
        unknown = [name for name in self.splits if name not in SPLITS]
        if unknown or not self.splits or len(set(self.splits)) < len(self.splits):
            raise ConfigError(f"splits: give some of {', '.join(SPLITS)}, each once; got {list(self.splits)}.")


def result_fields(config: EvaluationConfig) -> dict[str, Any]:
    """The settings that change the report, JSON-ready."""
    return {key: value for key, value in as_dict(config).items() if key != "cache_gb"}


if __name__ == "__main__":
    raise SystemExit(show_config(EvaluationConfig, "evaluation"))
