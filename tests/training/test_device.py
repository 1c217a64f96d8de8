"""What torch cannot do here is told with the setting to change; memory that was freed is used again."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pipeline.config import build
from pipeline.errors import SetupError
from training.config import TrainingConfig
from training.device import device_of, explained

CONFIG = build(TrainingConfig, {"batch_size": 160})


@pytest.mark.slow
def test_a_compiler_that_does_not_work_is_told() -> None:
    import torch._inductor.config as inductor

    wanted = pytest.raises(SetupError, match=r"compile: true needs a compiler.*Set compile=false")
    with inductor.patch({"cpp.cxx": ("no-such-compiler",)}), wanted, explained(CONFIG):
        torch.compile(lambda x: torch.sin(x) * 3)(torch.ones(4))


def test_joined_batch_norm_needs_gpus() -> None:
    with pytest.raises(SetupError, match=r"batch_norm: sync needs GPUs.*train or frozen"):
        device_of(build(TrainingConfig, {"batch_norm": "sync", "device": "cpu"}))


def test_too_little_memory_is_told_with_what_to_change() -> None:
    what = r"--resume.*training\.micro_batch.*batch_size is 160.*--overwrite"
    with pytest.raises(SetupError, match=what), explained(CONFIG):
        raise torch.OutOfMemoryError("CUDA out of memory")  # a GPU's is in test_gpu.py


def test_other_errors_stay_what_they_are() -> None:
    with pytest.raises(RuntimeError, match="sizes differ"), explained(CONFIG):
        raise RuntimeError("sizes differ")


def page_faults(before: str) -> int:
    """How often three rounds of two blocks of 40 MiB, freed after each, wait for a page of memory: by itself glibc maps
    blocks above 32 MiB anew each time (smaller ones now and then, as their neighbours on the heap have it)."""
    code = f"""
import resource, torch
from training.device import keep_freed_memory
{before}
rounds = []
for _ in range(6):
    blocks = [torch.ones(10 * 2**20) for _ in range(2)]
    del blocks
    rounds.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(rounds[-1] - rounds[2])
"""
    return int(subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout)


def test_memory_that_was_freed_is_had_again_without_asking_the_system() -> None:
    by_itself, kept = page_faults(""), page_faults("keep_freed_memory()")
    assert by_itself >= 60  # half of them where pages have 2 MiB; by thousands where they have 4 KiB
    assert kept < by_itself / 10
