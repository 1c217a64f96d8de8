"""The settings of `spark_jobs/augment.py`; `python -m spark_jobs.augment_config` checks and prints them.

Only what changes the result may stand here: workers, memory and places are the engine's and the command line's.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.cli import show_config
from pipeline.config import at_least
from pipeline.variants import check_variants

__all__ = ["AugmentConfig"]


@dataclass(frozen=True)
class AugmentConfig:
    """How training pictures are multiplied.

    Attributes:
        variants: of each training picture, by name (`pipeline.variants` lists them).
        shard_mb: about how large a shard becomes, in units of 2**20 bytes. A running task needs one and a half times
            that much memory, beside 250 MB for Python and its libraries. Data too small for eight such shards gets up
            to eight smaller ones, of at least 256 rows.
    """

    variants: tuple[str, ...] = ("identity", "hflip", "rot90", "rot270")
    shard_mb: int = at_least(1, 256)

    def __post_init__(self) -> None:
        check_variants(self.variants)


if __name__ == "__main__":
    raise SystemExit(show_config(AugmentConfig, "augment"))
