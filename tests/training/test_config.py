"""Settings: what is refused, what a bundle carries of them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import yaml

from pipeline.config import build, load
from pipeline.errors import ConfigError
from training.config import SECTION, TrainingConfig, result_fields


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epoch": 1}, "did you mean 'epochs'"),
        ({"batch_size": 1}, "'batch_size'"),
        ({"lr": 0.0}, "'lr'"),
        ({"optimizer": "lion"}, "'optimizer'"),
        ({"warmup_epochs": 1.0, "warmup_steps": 5}, "give one of them"),
        ({"lr": 0.001, "lr_min": 0.1}, "'lr_min' .* is above 'lr'"),
        ({"epochs": 3, "phases": [{"epochs": 1}, {"epochs": 2}]}, "'epochs' is without effect"),
        ({"warmup_steps": 3, "phases": [{"warmup_epochs": 1}]}, "'warmup_steps' is without effect"),
        ({"workers": -1}, "'workers'"),
        ({"workers": "many"}, "'workers'"),
        ({"pretrained": ""}, "'pretrained' is empty"),
        ({"threshold": {"rule": "target_fpr", "target_fpr": 1.5}}, r"'threshold\.target_fpr'"),
        ({"threshold": {"role": "target_fpr"}}, r"did you mean 'threshold\.rule'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TrainingConfig, values)


def test_what_the_run_says_of_rates_is_held_against_the_phases_that_use_it() -> None:
    plan = build(TrainingConfig, {"lr_min": 0.001, "phases": [{"lr": 0.1}, {"lr": 0.05}]}).plan
    assert [(phase.lr, phase.lr_min) for phase in plan] == [(0.1, 0.001), (0.05, 0.001)]
    with pytest.raises(ConfigError, match=r"phases\[1\].*'lr_min' .* is above 'lr'"):
        build(TrainingConfig, {"lr_min": 0.001, "phases": [{"lr": 0.1}, {"lr": 0.0001}]})


@pytest.mark.parametrize(
    "change",
    [{"workers": 3}, {"checkpoint_steps": 7}, {"checkpoints_kept": 9}, {"check_shards": False}],
)
def test_settings_that_change_no_bit_are_not_in_the_bundle(change: dict[str, Any]) -> None:
    assert result_fields(build(TrainingConfig, change)) == result_fields(TrainingConfig())


@pytest.mark.parametrize("change", [{"seed": 1}, {"shuffle_row_groups": 2}, {"threads": 1}, {"loss": "ce"}])
def test_settings_that_change_the_result_are_in_the_bundle(change: dict[str, Any]) -> None:
    assert result_fields(build(TrainingConfig, change)) != result_fields(TrainingConfig())


def test_the_settings_of_a_run_can_be_printed_and_used_again() -> None:
    command = [sys.executable, "-m", "training.config", "--set", "lr=0.5", "--set", "threshold.rule=target_fpr"]
    printed = yaml.safe_load(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    again = build(TrainingConfig, printed.get(SECTION, printed))
    assert again == load(TrainingConfig, None, ["lr=0.5", "threshold.rule=target_fpr"])
