"""Each recipe trained for real, only shorter and on small pictures: stopped, continued, exported, asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detection.model import load as load_bundle
from pipeline.config import read_yaml
from pipeline.errors import TelltaleError
from tests.training.recipes import RECIPES, path_of, training_of
from tests.training.runs import make_run, stop_soon
from tests.training.test_inputs import read
from training.model import build_detector
from training.run import main


def smaller(recipe: str) -> list[str]:
    """Options that leave the recipe as it is, but for its length, its weights, and where it runs."""
    phases = [{**phase, "epochs": 1} for phase in read_yaml(path_of(recipe))["training"].get("phases", [])]
    sets = {
        "pretrained": "false",
        "batch_size": 8,
        "warmup_steps": 0,
        "threads": 1,
        "workers": 0,
        "device": "cpu",
        "checkpoint_steps": 0,
        **({"phases": json.dumps(phases)} if phases else {"epochs": 1}),
    }
    return [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of 24 rows to train on: three steps an epoch; not to be written to."""
    return make_run(tmp_path_factory.mktemp("recipes") / "run", {"train": 6, "val": 4}, trace=30)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_trains_stops_resumes_exports_and_predicts(recipe: str, pictures: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    for name in ("shards", "stats.json"):
        (run / name).symlink_to(pictures / name)
    arguments = ["--config", path_of(recipe), "--run-dir", str(run), *smaller(recipe)]
    with pytest.raises(TelltaleError, match=r"stopped by SIGTERM.*--resume"):
        stop_soon(run, arguments)
    assert not (run / "model").exists()

    assert main([*arguments, "--resume"]) == 0
    lines = [json.loads(line) for line in (run / "logs" / "metrics.jsonl").read_text().splitlines()]
    phases = training_of(recipe).plan
    assert [line["step"] for line in lines if line["kind"] == "step"] == list(range(1, 3 * len(phases) + 1))
    check_frozen(recipe, pictures, run)

    check_calibrated(recipe, json.loads((run / "model" / "bundle.json").read_bytes())["validation"])
    detector = load_bundle(str(run / "model"))
    assert detector.name == training_of(recipe).model
    for path in (pictures / "raw").rglob("val-00000.*"):
        assert 0.0 <= detector.probability(path.read_bytes()) <= 1.0


def check_calibrated(recipe: str, validation: dict[str, float]) -> None:
    assert validation["nll"] <= validation["nll_uncalibrated"]
    if training_of(recipe).threshold.rule == "target_fpr":
        assert validation["false_positive_rate"] <= training_of(recipe).threshold.target_fpr


def check_frozen(recipe: str, pictures: Path, run: Path) -> None:
    """What no phase frees is as it began, running statistics included; something in each freed part is not."""
    config = training_of(recipe, "pretrained=false")
    began = dict(build_detector(config, read(pictures)).backbone.state_dict())
    ended = {
        key.removeprefix("backbone."): value
        for key, value in load_file(run / "model" / "model.safetensors").items()
        if key.startswith("backbone.")
    }
    assert began.keys() == ended.keys()
    free: list[str] = []
    for phase in config.plan:
        free += [""] if phase.unfreeze == "all" else phase.unfreeze if isinstance(phase.unfreeze, list) else []
    changed = {key for key, value in began.items() if not torch.equal(value, ended[key])}
    assert all(any(key.startswith(f"{one}." if one else "") for one in free) for key in changed)
    assert all(any(key.startswith(f"{one}." if one else "") for key in changed) for one in free)
