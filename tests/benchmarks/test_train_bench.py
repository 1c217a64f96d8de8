"""What the benchmark of the trainer concludes from its clocks and traces, and that the clock sees the real trainer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks._train_jobs import Bare, Steps, bare, checkpoint_at, trainer
from benchmarks._train_shards import Plan, make_run
from benchmarks._train_trace import busy, kind_of, shares
from benchmarks._train_watch import Clock, Enough
from benchmarks.train import BARE, OURS, report
from benchmarks.train_gpu import rate_rows, stage_row
from training.batch import Batch


def clock(checkpoint: int = 0) -> Steps:
    """Five steps: a slow first one, then of a second each, the fourth two longer; a tenth of it waiting in each."""
    asked = [0.0, 9.0, 10.0, 11.0, 14.0, 15.0]
    return Steps(asked, [at + 0.1 for at in asked[:-1]], [32] * 5, skip=1, checkpoint=checkpoint, peak=2**31)


def test_steps_that_do_not_count_are_left_out() -> None:
    one = clock()
    assert (one.counted, one.span) == (4, 6.0)
    assert one.rate == pytest.approx(4 * 32 / 6)
    assert one.usual_rate == pytest.approx(4 * 32 / 6)
    assert one.stall == pytest.approx(0.4 / 6)
    assert one.checkpoint_seconds == 0.0


def test_a_checkpoint_counts_as_often_as_training_writes_one() -> None:
    one = clock(checkpoint=4)
    assert one.seconds == [1.0, 1.0, 1.0]
    assert one.checkpoint_seconds == 2.0
    assert one.usual_rate == pytest.approx(32 / (1 + 2 / 500))
    assert one.rate == pytest.approx(4 * 32 / 6)


@pytest.mark.parametrize(("steps", "skip"), [(23, 3), (240, 40), (5, 1), (6, 1), (4, 1)])
def test_exactly_one_checkpoint_falls_among_the_steps_that_count(steps: int, skip: int) -> None:
    every = checkpoint_at(steps, skip)
    written = [step for step in range(1, steps + 1) if step % every == 0]
    assert written == [every]
    assert skip < every < steps


@pytest.mark.parametrize(("steps", "skip"), [(3, 2), (10, 0), (2, 1)])
def test_too_few_steps_for_a_checkpoint_are_refused(steps: int, skip: int) -> None:
    with pytest.raises(ValueError, match="too few for a checkpoint"):
        checkpoint_at(steps, skip)


@pytest.mark.parametrize(("said", "word"), [(31.0, "met (96.9%)"), (30.0, "NOT met (93.8%)")])
def test_report_says_whether_the_criterion_is_met(said: float, word: str) -> None:
    def steady(rate: float) -> Steps:
        asked = [32 * at / rate for at in range(6)]
        return Steps(asked, asked[:-1], [32] * 5, skip=1)

    lines = "\n".join(report({BARE: [steady(32.0)] * 3, OURS: [steady(said)] * 3}, "a_model"))
    assert f"at least 95% of the bare model's rate: {word}" in lines
    assert "under 2% of a step: met (0.00%)" in lines


@pytest.mark.parametrize(
    ("cat", "name", "kind"),
    [
        ("gpu_memcpy", "Memcpy HtoD (Pinned -> Device)", "to the device"),
        ("gpu_memcpy", "Memcpy DtoH (Device -> Pageable)", "forward and backward"),
        ("kernel", "void at::native::multi_tensor_apply_kernel<FusedAdamMathFunctor<float, 4>>", "optimiser"),
        ("kernel", "sm90_xmma_fprop_implicit_gemm_bf16", "forward and backward"),
        ("gpu_user_annotation", "Optimizer.step#AdamW.step", None),
        ("cpu_op", "aten::conv2d", None),
    ],
)
def test_kind_of_a_gpus_work(cat: str, name: str, kind: str | None) -> None:
    assert kind_of({"cat": cat, "name": name, "ts": 0, "dur": 5}) == kind


def test_streams_that_work_at_once_count_once() -> None:
    assert busy([(0, 4), (6, 8), (1, 2), (3, 5)]) == 7
    events = [
        {"cat": "kernel", "name": "gemm", "ts": 0, "dur": 4e6},
        {"cat": "gpu_memcpy", "name": "Memcpy HtoD", "ts": 2e6, "dur": 3e6},
        {"cat": "kernel", "name": "fused_adam", "ts": 6e6, "dur": 1e6},
        {"cat": "python_function", "name": "gemm", "ts": 0, "dur": 9e6},
    ]
    assert shares(events) == {"to the device": 3.0, "optimiser": 1.0, "forward and backward": 4.0, "busy": 6.0}


def test_gpu_tables_are_per_step_and_to_the_bare_model() -> None:
    one = clock()
    one.shares.update({"to the device": 0.4, "optimiser": 0.2, "forward and backward": 4.0, "busy": 4.5})
    assert stage_row("x", one) == ["x", "21", "1500.0", "100.0", "100.0", "50.0", "1000.0", "25%", "2.0"]
    rows = rate_rows(128, {"bare model, pictures in GPU memory": [one], "ours": [one]})
    assert [row[3] for row in rows] == ["100.0%", "100.0%"]


@pytest.mark.slow
def test_clock_sees_the_real_trainer_and_the_bare_model(tmp_path: Path) -> None:
    home = make_run(Plan(24, 32, ("identity", "hflip"), val=4), tmp_path)
    settings = {"model": "test_efficientnet", "batch_size": 8, "device": "cpu", "threads": 1}
    ours = trainer(home, settings, steps=5, skip=1)
    reference = bare(Bare(32, 8, 5, 1, "test_efficientnet", threads=1))
    for one in (ours, reference):
        assert one.rows == [8] * 5
        assert one.asked == sorted(one.asked)
        assert len(one.asked) == 6
        assert one.usual_rate > 0
    assert ours.checkpoint == 3
    assert 0 < ours.stall < 1
    assert reference.stall == 0


def test_clock_ends_after_the_steps_asked_for_and_refuses_fewer() -> None:
    batch = Batch(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.zeros(2), ["a", "b"], 0, 2)
    clock = Clock(3, 1, traced=False)
    with pytest.raises(Enough):
        list(clock.follow(iter([batch] * 4)))
    assert (clock.rows, len(clock.asked), len(clock.got)) == ([2] * 3, 4, 3)
    with pytest.raises(SystemExit, match="the epoch has 3 steps, 4 were asked for"):
        list(Clock(4, 1, traced=False).follow(iter([batch] * 3)))
