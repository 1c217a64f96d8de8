"""Stopping and going on: at any step, in any way, the losses and the model are those of an undisturbed run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from pipeline.cli import run_command
from pipeline.config import build
from pipeline.errors import DataError, OutputExistsError, SetupError, TelltaleError
from pipeline.storage import Folder
from tests.runs import kill_tree
from tests.training.runs import SMALL, make_run, make_stats, newest, sets, train
from tests.training.test_inputs import change_manifest, read
from training.batch import Batch
from training.checkpoint import Checkpoints
from training.config import TrainingConfig
from training.device import choose, reproducible
from training.loader import Batches
from training.logs import Logs
from training.loop import _LOOK_EVERY, Trainer
from training.model import build_detector
from training.progress import Progress
from training.ranks import Ranks
from training.rows import EpochRows, ShardRows
from training.run import main
from training.signals import Signals
from training.step import Stepper
from training.validation import validation_logits

CPU = torch.device("cpu")
SETTINGS: dict[str, Any] = {
    **SMALL,
    "pretrained": False,
    "checkpoint_steps": 1,
    "checkpoints_kept": 1000,
    "drop_rate": 0.5,
    "drop_path_rate": 0.2,
}


def fit(run: Path, folder: Path, **changes: Any) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    """Train without exporting, from the newest checkpoint in `folder` on; (weights, logged lines without times)."""
    config, inputs = build(TrainingConfig, {**SETTINGS, **changes}), read(run)
    compute = choose(config, CPU)
    checkpoints = Checkpoints(Folder(str(folder / "checkpoints")), config.checkpoints_kept)
    train_batches = Batches(inputs, inputs.train, config.batch_size, 0, config.shuffle_row_groups, config.seed)
    val = Batches(inputs, inputs.val, config.batch_size, 0, 1)
    with reproducible(compute), Signals() as signals:
        trainer = Trainer(build_detector(config, inputs), config, compute, train_batches, val, checkpoints, {}, signals)
        checkpoint = checkpoints.latest()
        if checkpoint is not None:
            trainer.restore(checkpoint)
        with Logs(str(folder), trainer.step, trainer.epochs) as logs:
            trainer.fit(logs)
    return dict(trainer.detector.state_dict()), logged(folder / "metrics.jsonl")


def logged(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    clocks = {"time", "seconds", "wait"}
    return [{key: value for key, value in line.items() if key not in clocks} for line in lines]


@pytest.fixture(scope="module")
def undisturbed(request: pytest.FixtureRequest, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(what is set, folder with a checkpoint of every step, weights, lines) of a run without interruption."""
    folder, (optimizer, _, threads) = tmp_path_factory.mktemp("undisturbed"), request.param.partition(", ")
    changes = {"optimizer": optimizer, "threads": int(threads.partition(" ")[0] or 1)}
    return changes, folder, *fit(prepared, folder, **changes)


def test_a_detector_learns_what_tells_the_classes_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"train": 60, "val": 30}, trace=30)
    _, lines = fit(run, tmp_path / "logs", epochs=3, batch_size=16, drop_rate=0.0, drop_path_rate=0.0)
    assert [line["val_auc"] for line in lines if line["kind"] == "epoch"][-1] > 0.95


def checkpoints_of(folder: Path) -> list[str]:
    return Checkpoints(Folder(str(folder / "checkpoints")), 1).names()


def resumes_at(number: int, whole: Sequence[Any], prepared: Path, place: Path, **changes: Any) -> None:
    """Hold a resume from a checkpoint of a whole run (its folder, weights and lines) to that run, to the bit."""
    folder, weights, lines = whole
    shutil.copytree(folder, place / "again")
    for name in checkpoints_of(folder)[number + 1 :]:
        (place / "again" / "checkpoints" / name).unlink()
    again, lines_again = fit(prepared, place / "again", **changes)
    assert lines_again == lines
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


@pytest.mark.parametrize("undisturbed", ["adamw"], indirect=True)
def test_there_is_a_checkpoint_at_every_step_and_two_at_an_epoch_s_end(undisturbed: Any) -> None:
    stems = [name.removesuffix(".json").split("-")[1:] for name in checkpoints_of(undisturbed[1])]
    steps = [(int(step), int(epochs)) for step, epochs in stems]
    assert steps == [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (5, 1), (6, 1), (7, 1), (8, 1), (9, 1), (10, 1), (10, 2)]


@pytest.mark.parametrize(
    ("undisturbed", "number"),
    [*product(["adamw"], range(12)), *product(["sgd"], [1, 4, 5]), *product(["adamw, 2 threads"], [2, 5])],
    indirect=["undisturbed"],
)
def test_a_resume_at_any_step_is_the_undisturbed_run(
    undisturbed: Any, prepared: Path, tmp_path: Path, number: int
) -> None:
    """Numbers 4, 5, 10 and 11 are an epoch's end, before and after its validation."""
    changes, *whole = undisturbed
    resumes_at(number, whole, prepared, tmp_path, **changes)


def test_checkpoints_come_every_so_many_steps_however_seldom_losses_are_looked_at(
    undisturbed_plain: Any, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU every look makes it wait. Here every second step has one, and every third a checkpoint."""
    monkeypatch.setitem(_LOOK_EVERY, "cpu", 2)
    assert fit(prepared, tmp_path, checkpoint_steps=3)[1] == undisturbed_plain[1]
    stems = [name.removesuffix(".json").split("-")[1:] for name in checkpoints_of(tmp_path)]
    assert [int(step) for step, _ in stems] == [3, 5, 6, 9, 10]


def test_the_time_of_steps_that_are_looked_at_late_is_counted(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The look at an epoch's five steps takes half a second, as when a GPU has them all still to do."""
    monkeypatch.setitem(_LOOK_EVERY, "cpu", 100)
    sums = Ranks.sums

    def slowly(*given: Any) -> torch.Tensor:
        time.sleep(0.25)
        return sums(*given)

    monkeypatch.setattr(Ranks, "sums", slowly)
    fit(prepared, tmp_path, checkpoint_steps=0)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for epoch in (1, 2):
        of_epoch = [line for line in lines if line["kind"] == "step" and line["epoch"] == epoch]
        assert of_epoch[-1]["seconds"] > 0.5
        assert of_epoch[-1]["time"] - of_epoch[0]["time"] > 0.5


def test_a_signal_that_comes_after_the_look_for_one_is_for_the_next_step(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not end the run with a checkpoint that was not written."""
    agreed, calls = Signals.agreed, count(1)

    def before_it_comes(signals: Signals) -> Any:
        found = agreed(signals)
        if next(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(Signals, "agreed", before_it_comes)
    with pytest.raises(TelltaleError, match=r"at step 4; a checkpoint was written"):
        fit(prepared, tmp_path, checkpoint_steps=0)
    assert [name.split("-")[1] for name in checkpoints_of(tmp_path)] == ["000000004"]


def test_a_resume_s_progress_begins_with_what_was_done_of_its_epoch(
    undisturbed_plain: Any, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after seven steps of 32 pictures, five an epoch."""
    found = []

    class Recording(Progress):
        def __init__(self, *given: Any) -> None:
            found.append(given[2:4])
            super().__init__(*given)

    whole = tmp_path / "whole"
    fit(prepared, whole)
    for name in checkpoints_of(whole)[8:]:  # beside one a step, one more at each epoch's end
        (whole / "checkpoints" / name).unlink()
    monkeypatch.setattr("training.loop.Progress", Recording)
    assert fit(prepared, whole, checkpoint_steps=0)[1] == undisturbed_plain[1]
    assert found == [(160, 64)]


@pytest.mark.parametrize("signalled", [True, False])
def test_a_run_that_ends_between_micro_batches_continues_as_the_undisturbed_one(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signalled: bool
) -> None:
    """In the seventh step, of the second epoch, after the second of three micro-batches: told to stop, or broken."""
    changes = {"micro_batch": 12, "ema": 0.9}
    weights, lines = fit(prepared, tmp_path / "whole", **changes)
    backward, calls = Stepper._backward, count(1)

    def ending(*given: Any, **named: Any) -> torch.Tensor:
        total = backward(*given, **named)
        if next(calls) == 6 * 3 + 2:
            if not signalled:
                raise KeyError("broken")
            os.kill(os.getpid(), signal.SIGTERM)
        return total

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "_backward", ending)
        with pytest.raises(TelltaleError if signalled else KeyError, match=r"stopped by SIGTERM|broken"):
            fit(prepared, tmp_path / "ended", **changes)
    assert checkpoints_of(tmp_path / "ended")[-1].split("-")[1] == f"{6 + signalled:09}"
    again, lines_again = fit(prepared, tmp_path / "ended", **changes)
    assert lines_again == lines
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


def test_a_run_whose_loader_process_died_continues_as_the_undisturbed_one(
    finished: Path, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is killed for real, at a batch of the second epoch; the rest of the run has another one."""
    with monkeypatch.context() as patch:
        patch.setattr("training.loader.ShardRows", Dying)
        with pytest.raises(SetupError, match=r"loader process died.*--resume"):
            train(fresh, workers=1, checkpoint_steps=1)
    assert logged(fresh / "logs" / "metrics.jsonl")[-1]["step"] >= 5
    assert train(fresh, "--resume", workers=1) == 0
    assert (fresh / "model" / "bundle.json").read_bytes() == (finished / "model" / "bundle.json").read_bytes()
    assert logged(fresh / "logs" / "metrics.jsonl") == logged(finished / "logs" / "metrics.jsonl")


def test_a_stop_in_validation_is_continued_with_that_validation(
    undisturbed_plain: Any, prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a checkpoint every so many steps: the one that the message speaks of is the stop's own."""
    weights, lines = undisturbed_plain

    def stopped(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGTERM)
        return validation_logits(*given)

    with monkeypatch.context() as patch:
        patch.setattr("training.loop.validation_logits", stopped)
        with pytest.raises(TelltaleError, match=r"in validation.*a checkpoint was written"):
            fit(prepared, tmp_path, checkpoint_steps=0)
    assert [name.split("-")[1:] for name in checkpoints_of(tmp_path)] == [["000000005", "00000.json"]]
    again, lines_again = fit(prepared, tmp_path, checkpoint_steps=0)
    assert lines_again == lines
    assert all(torch.equal(value, again[key]) for key, value in weights.items())


@pytest.fixture(scope="module")
def undisturbed_plain(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(weights, lines) of a run with the checkpoints of epochs alone."""
    return fit(prepared, tmp_path_factory.mktemp("plain"), checkpoint_steps=0)


class Dying(ShardRows):
    """Its process ends without a word at the third batch of the second epoch."""

    def __getitems__(self, rows: Sequence[int]) -> Batch | TelltaleError:
        if isinstance(rows, EpochRows) and rows.epoch == 1:
            self.asked = getattr(self, "asked", 0) + 1
            if self.asked == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitems__(rows)


def start(run: Path, **changes: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "training.run", "--run-dir", str(run), *sets(checkpoint_steps=1, **changes)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)


def steps_saved(run: Path) -> set[str]:
    """The steps that have a checkpoint; one at an epoch's end may have two, before and after its validation."""
    return {path.stem.rpartition("-")[0] for path in (run / "logs").glob("checkpoints/*.json")}


def wait_for_checkpoint(
    run: Path, process: subprocess.Popen[str], known: Collection[str] = (), seconds: float = 240
) -> None:
    """Until a step has one that is not known; a run that gets to none is ended, so that it disturbs no other."""
    deadline = time.monotonic() + seconds
    while not steps_saved(run) - set(known):
        if time.monotonic() > deadline:
            kill_tree(process.pid)  # the next look fails with what it said
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


@pytest.mark.slow
def test_a_killed_run_continued_gives_the_same_bytes(
    finished: Path, fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also in another process, with other numbers of workers and checkpoints."""
    process = start(fresh)
    wait_for_checkpoint(fresh, process)
    process.kill()
    process.communicate(timeout=60)
    assert not (fresh / "model").exists()
    assert train(fresh, "--resume", workers=2, checkpoint_steps=3) == 0
    assert "continuing at step" in capsys.readouterr().err
    for name in ("bundle.json", "model.onnx", "model.safetensors"):
        assert (fresh / "model" / name).read_bytes() == (finished / "model" / name).read_bytes()
    assert logged(fresh / "logs" / "metrics.jsonl") == logged(finished / "logs" / "metrics.jsonl")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "workers"),
    [(signal.SIGTERM, 1, 0), (signal.SIGINT, 130, 0), (signal.SIGTERM, 1, 2), (signal.SIGINT, 130, 2)],
)
def test_a_run_that_is_told_to_stop_writes_a_checkpoint_first(
    fresh: Path, number: signal.Signals, code: int, workers: int
) -> None:
    """The signal goes to every process of the run, as batch systems and service managers send it."""
    process = start(fresh, epochs=1000, workers=workers)
    wait_for_checkpoint(fresh, process)
    everyone = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    assert len(everyone) > workers
    for one in everyone:
        one.send_signal(number)
    shown = process.communicate(timeout=60)[1]
    assert process.returncode == code, shown
    assert "Traceback" not in shown
    assert "a checkpoint was written: continue with --resume." in shown
    assert "same command" not in shown
    steps = [line["step"] for line in logged(fresh / "logs" / "metrics.jsonl")]
    last = max((fresh / "logs" / "checkpoints").glob("*.json"))
    assert json.loads(last.read_bytes())["at"]["step"] == steps[-1]
    assert psutil.wait_procs(everyone, timeout=30)[1] == []


class _Unfinished:
    """Checkpoints of an unfinished run in a run folder, made in this process."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.before = self.files()

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self.run / "logs" / "checkpoints").iterdir()}


@pytest.fixture
def unfinished(fresh: Path) -> _Unfinished:
    """A run that its own loss ended after the first checkpoint."""
    assert run_command(main, ["--run-dir", str(fresh), *sets(lr=1e30, checkpoint_steps=1)]) == 1
    return _Unfinished(fresh)


@pytest.mark.parametrize("options", [(), ("--update",)])
def test_checkpoints_are_not_dropped_unasked(unfinished: _Unfinished, options: tuple[str, ...]) -> None:
    with pytest.raises(OutputExistsError, match=r"unfinished run\. Continue it with --resume.*--overwrite"):
        train(unfinished.run, *options, lr=1e30)
    with pytest.raises(
        OutputExistsError, match=r"cannot be continued: training\.lr was 1e\+30.*--update or --overwrite"
    ):
        train(unfinished.run, lr=1e29)
    assert unfinished.files() == unfinished.before


def test_a_resume_with_other_settings_is_refused_by_name(unfinished: _Unfinished) -> None:
    with pytest.raises(OutputExistsError, match=r"training\.lr was 1e\+30 and is 0\.003"):
        train(unfinished.run, "--resume")
    assert unfinished.files() == unfinished.before


def test_a_resume_on_another_dataset_is_refused_with_both_hashes(unfinished: _Unfinished) -> None:
    shards = read(unfinished.run).shards
    for name in ("shards", "dataset"):
        shutil.rmtree(unfinished.run / name)
    make_run(unfinished.run, {"train": 40, "val": 17}, seed=1)
    with pytest.raises(OutputExistsError) as caught:
        train(unfinished.run, "--resume", lr=1e30)
    now = read(unfinished.run)
    assert now.shards != shards
    assert "comes from dataset" in str(caught.value)
    assert now.dataset in str(caught.value)
    assert unfinished.files() == unfinished.before


def test_a_resume_on_other_shards_or_statistics_of_the_same_dataset_is_refused(unfinished: _Unfinished) -> None:
    before, stats = read(unfinished.run), (unfinished.run / "stats.json").read_bytes()
    make_stats(unfinished.run, before.dataset, mean=[0.1, 0.2, 0.3])
    with pytest.raises(OutputExistsError, match=f"comes from stats {before.stats}"):
        train(unfinished.run, "--resume", lr=1e30)
    (unfinished.run / "stats.json").write_bytes(stats)
    change_manifest(unfinished.run, libraries={"pyarrow": "0"})
    assert read(unfinished.run).dataset == before.dataset
    with pytest.raises(OutputExistsError, match=f"comes from shards {before.shards}"):
        train(unfinished.run, "--resume", lr=1e30)
    assert unfinished.files() == unfinished.before


def saved_again(run: Path, **changes: Any) -> None:
    """The newest checkpoint, as if another machine or version had written it."""
    checkpoint = newest(run)
    Checkpoints(Folder(str(run / "logs" / "checkpoints")), 2).save(
        1, 0, checkpoint.tensors, {**checkpoint.state, **changes}
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("libraries", {"torch": "1.0"}, "other versions of the libraries made it"),
        ("stage_version", 1, "another version of Telltale made it"),
    ],
)
def test_a_resume_with_other_versions_is_refused(unfinished: _Unfinished, key: str, value: Any, message: str) -> None:
    saved_again(unfinished.run, identity={**newest(unfinished.run).state["identity"], key: value})
    with pytest.raises(OutputExistsError, match=message):
        train(unfinished.run, "--resume", lr=1e30)


def test_a_resume_continues_with_settings_that_change_nothing(
    unfinished: _Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match="not a finite number"):  # it goes on, to the same end
        train(unfinished.run, "--resume", lr=1e30, checkpoint_steps=0, workers=1)
    assert "continuing at step 1" in capsys.readouterr().err
    assert logged(unfinished.run / "logs" / "metrics.jsonl")[0]["step"] == 1


def test_a_resume_elsewhere_is_told_that_the_last_digits_differ(
    unfinished: _Unfinished, capsys: pytest.CaptureFixture[str]
) -> None:
    saved_again(unfinished.run, ranks=2, device="cuda")
    with pytest.raises(DataError, match="not a finite number"):
        train(unfinished.run, "--resume", lr=1e30)
    assert (
        "continuing at step 1, which was reached by 2 x cuda: losses agree but for rounding" in capsys.readouterr().err
    )


OTHERWISE = [("--resume", "--update"), ("--update",), ("--overwrite",), ("--overwrite", "--resume")]


@pytest.mark.parametrize("options", OTHERWISE)
def test_asked_to_the_run_starts_anew(unfinished: _Unfinished, options: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="not a finite number"):  # to the same end, by other settings
        train(unfinished.run, *options, lr=1e29, checkpoint_steps=1)
    names = Checkpoints(Folder(str(unfinished.run / "logs" / "checkpoints")), 1).names()
    settings = [json.loads(unfinished.files()[name])["identity"]["config"]["lr"] for name in names]
    assert settings
    assert set(settings) == {1e29}


def test_a_resume_without_checkpoints_starts_at_the_first_step(fresh: Path) -> None:
    with pytest.raises(DataError, match="not a finite number"):
        train(fresh, "--resume", lr=1e30)
    assert logged(fresh / "logs" / "metrics.jsonl")[0]["step"] == 1


@pytest.mark.parametrize(("ranks", "used"), [(1, 3), (4, len(os.sched_getaffinity(0)))])
def test_a_resume_goes_on_with_the_recorded_number_of_threads(
    fresh: Path, capsys: pytest.CaptureFixture[str], ranks: int, used: int
) -> None:
    """Unless the ranks were more or fewer: they share the cores."""
    assert run_command(main, ["--run-dir", str(fresh), *sets(lr=1e30, checkpoint_steps=1, threads=0)]) == 1
    saved_again(fresh, threads=3, ranks=ranks)
    capsys.readouterr()
    with pytest.raises(DataError, match="not a finite number"):
        train(fresh, "--resume", lr=1e30, threads=0)
    assert f", {used} threads" in capsys.readouterr().err


def test_a_resume_uses_the_recorded_number_of_threads() -> None:
    config = build(TrainingConfig, {})
    assert choose(config, CPU, recorded_threads=7).threads == 7
    assert choose(config, CPU).threads == len(os.sched_getaffinity(0))
    assert choose(build(TrainingConfig, {"threads": 3}), CPU, recorded_threads=7).threads == 3
