"""The settings of augmentation: defaults, and what is refused by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pipeline.config import as_dict, load
from pipeline.errors import ConfigError
from spark_jobs.augment_config import AugmentConfig


def test_default_makes_four_of_one() -> None:
    assert as_dict(AugmentConfig()) == {"variants": ["identity", "hflip", "rot90", "rot270"], "shard_mb": 256}


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("variants=[identity,hflop]", "did you mean 'hflip'"),
        ("variants=[identity,identity]", "'identity' is there twice"),
        ("variants=[]", "the list is empty"),
        ("variants=hflip", "'variants'"),
        ("variants=[5]", "variants[0]"),
        ("shard_mb=0", "'shard_mb'"),
        ("shard_mb=1.5", "'shard_mb'"),
        ("shard_bm=5", "did you mean 'shard_mb'"),
    ],
)
def test_wrong_settings_are_refused_by_name(item: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(AugmentConfig, None, [item], "augment")
    assert message in str(caught.value)


def test_the_command_prints_every_setting_or_refuses() -> None:
    command = [sys.executable, "-m", "spark_jobs.augment_config", "--set"]
    good = subprocess.run([*command, "variants=[identity, rotate-7.5]"], capture_output=True, text=True, check=False)
    assert (good.returncode, good.stdout) == (
        0,
        "augment:\n  variants:\n  - identity\n  - rotate-7.5\n  shard_mb: 256\n",
    )
    bad = subprocess.run([*command, "variants=[rot45]"], capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("error: ")
    assert bad.stderr.count("\n") == 1
