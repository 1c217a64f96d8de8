"""Where a run computes, and how it computes the same there every time.

This module must not hold settings; it turns those of the configuration into torch's, and torch's errors into words.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from pipeline.errors import SetupError
from training.config import TrainingConfig
from training.ranks import local_cores, local_rank

__all__ = ["Compute", "choose", "device_of", "explained", "keep_freed_memory", "reproducible"]

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
_SWITCHES: Any = torch.utils.deterministic  # a module whose switches are properties, unknown to type checkers
_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Compute:
    """How to compute.

    Attributes:
        device: cpu or cuda.
        threads: of torch on the CPU.
        amp: mixed precision's type, or None.
        workers: loader processes (of this rank).
    """

    device: torch.device
    threads: int
    amp: torch.dtype | None
    workers: int


def device_of(config: TrainingConfig) -> torch.device:
    """What this rank computes on.

    Raises:
        SetupError: a GPU is asked for, or needed, and there is none.
    """
    on_gpu = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    if on_gpu and not torch.cuda.is_available():
        raise SetupError("device: cuda, but torch sees no GPU here: check the driver, or give --set device=auto")
    if config.batch_norm == "sync" and not on_gpu:
        raise SetupError("batch_norm: sync needs GPUs: torch has it for no CPU. Set it to train or frozen.")
    return torch.device("cuda", _gpu()) if on_gpu else torch.device("cpu")


def choose(config: TrainingConfig, device: torch.device, recorded_threads: int | None = None) -> Compute:
    """Decide what the configuration leaves open.

    Args:
        config: threads, amp, workers.
        device: this rank's.
        recorded_threads: of the checkpoint that the run continues: it goes on with that number, so that its losses
            stay those of a run that was never interrupted, unless the configuration names a number.
    """
    cores, on_gpu = local_cores(), device.type == "cuda"
    return Compute(
        device=device,
        threads=config.threads or recorded_threads or cores,
        amp=_AMP.get(config.amp) if on_gpu else None,
        workers=(min(8, max(1, cores - 1)) if on_gpu else 0) if config.workers == "auto" else config.workers,
    )


def _gpu() -> int:
    """This rank's GPU."""
    if local_rank() >= torch.cuda.device_count():
        raise SetupError(
            f"rank {local_rank()} of this machine has no GPU: torch sees {torch.cuda.device_count()}. Give torchrun "
            f"--nproc-per-node {torch.cuda.device_count()}."
        )
    torch.cuda.set_device(local_rank())
    return local_rank()


def keep_freed_memory() -> None:
    """Let this process keep the memory that it frees, for good; with a C library other than glibc, do nothing.

    By itself glibc gives large blocks back to the system, and gets them again zeroed and page by page. On the CPU that
    befell every step, once batches and log lines were made between a step's activations and the next one's: it cost a
    tenth of the rate (`benchmarks.train`). Source: mallopt(3).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # The threshold of mmap first: without it, the other one alone would have every block of 128 kB mapped anew. Some
    # versions of glibc take no more than 32 MiB.
    if mallopt is not None and (mallopt(_M_MMAP_THRESHOLD, 2**30) or mallopt(_M_MMAP_THRESHOLD, 2**25)):
        mallopt(_M_TRIM_THRESHOLD, -1)


@contextmanager
def reproducible(compute: Compute) -> Iterator[None]:
    """Inside, the same step on the same type of CPU gives the same bits; torch's settings are put back afterwards."""
    threads = torch.get_num_threads()
    algorithms = torch.are_deterministic_algorithms_enabled()
    fill = _SWITCHES.fill_uninitialized_memory
    benchmark = torch.backends.cudnn.benchmark
    try:
        torch.set_num_threads(compute.threads)
        torch.use_deterministic_algorithms(compute.device.type == "cpu")
        _SWITCHES.fill_uninitialized_memory = False  # a debugging aid that costs time
        torch.backends.cudnn.benchmark = compute.device.type == "cuda"
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(algorithms)
        _SWITCHES.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def explained(config: TrainingConfig) -> Iterator[None]:
    """Inside, what torch cannot do on this machine is told with the setting to change.

    Raises:
        SetupError: the GPU is out of memory, or nothing can be compiled.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise SetupError(
            "the GPU is out of memory. If other processes use it, end them and continue with --resume; otherwise set "
            f"training.micro_batch to a part of the batch (batch_size is {config.batch_size}; batch norm then sees a "
            "part at a time), amp to bf16, or use a smaller model, then start anew with --overwrite."
        ) from error
    except RuntimeError as error:
        if type(error).__name__ not in ("BackendCompilerFailed", "InductorError"):
            raise
        raise SetupError(
            f"compile: true needs a compiler that works here ({str(error).partition(chr(10))[0]}). Set compile=false."
        ) from error
