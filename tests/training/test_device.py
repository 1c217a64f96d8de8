"""What torch cannot do here is told with the setting to change."""

from __future__ import annotations

import pytest
import torch

from pipeline.config import build
from pipeline.errors import SetupError
from training.config import TrainingConfig
from training.device import explained

CONFIG = build(TrainingConfig, {"batch_size": 160})


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch._inductor.config as inductor

    monkeypatch.setattr(inductor.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(SetupError, match=r"compile: true needs a compiler.*Set compile=false"), explained(CONFIG):
        torch.compile(lambda x: torch.sin(x) * 3)(torch.ones(4))


def test_too_little_memory_is_told_with_what_to_change() -> None:
    what = r"--resume.*training\.micro_batch.*batch_size is 160.*--overwrite"
    with pytest.raises(SetupError, match=what), explained(CONFIG):
        raise torch.OutOfMemoryError("CUDA out of memory")  # a GPU's is in test_gpu.py


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), explained(CONFIG):
        raise RuntimeError("sizes differ")
