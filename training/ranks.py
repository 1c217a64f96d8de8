"""The processes that `torchrun` starts for one run, and what they agree on. One process alone is rank 0 of 1.

Every rank reads the same configuration and takes its share of every batch; rank 0 alone writes and speaks. This module
must not know what is trained.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist

from pipeline import cli
from pipeline.errors import SetupError, TelltaleError
from training.said_once import silent

__all__ = ["Ranks", "joined", "local_cores", "local_rank", "local_world"]

T = TypeVar("T")

_PATIENCE: Final = timedelta(minutes=30)  # a rank may wait so long for another, for example while rank 0 exports
_LOST: Final = ("Connection closed by peer", "Connection reset by peer", "gloo", "NCCL")  # in the messages of torch


def local_rank() -> int:
    """This process' number on its machine, as torchrun says it; 0 without torchrun."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def local_world() -> int:
    """How many ranks torchrun started on this machine; 1 without torchrun."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def local_cores() -> int:
    """The cores that are this process': all that it may use, shared equally by those that torchrun started here."""
    return max(1, cli.cores() // local_world())


@dataclass(frozen=True)
class Ranks:
    """Who takes part.

    Attributes:
        rank: this process, from 0.
        world: how many there are.
    """

    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def say(self, text: str) -> None:
        """Tell the user, once."""
        if self.leads:
            cli.say(text)

    def sums(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over all ranks, element by element: float64 or int64 (wrapping), on the CPU."""
        if self.world > 1:
            dist.all_reduce(values)
        return values

    def highest(self, number: int) -> int:
        """The highest number that any rank has."""
        if self.world == 1:
            return number
        value = torch.tensor([number])
        dist.all_reduce(value, dist.ReduceOp.MAX)
        return int(value[0])

    def gather(self, item: Any) -> list[Any]:
        """The item of every rank, in their order, on every rank."""
        if self.world == 1:
            return [item]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, item)
        return found

    def by_rank_0(self, work: Callable[[], T]) -> T:
        """What rank 0's `work` returns, on every rank; on the others it is not called.

        Raises:
            TelltaleError: rank 0's, which it alone shows.
        """
        result: T | None = None
        failure: TelltaleError | None = None
        if self.leads:
            try:
                result = work()
            except TelltaleError as error:
                failure = error
        result, failure = self.gather((result, failure))[0]
        if failure is not None:
            raise self.common(failure)
        return result

    def alike(self, work: Callable[[], T]) -> T:
        """What `work` returns, which every rank does in the same way; of those that fail the first shows why.

        Raises:
            TelltaleError: one of the ranks failed, and so do all.
        """
        result: T | None = None
        failure: TelltaleError | None = None
        try:
            result = work()
        except TelltaleError as error:
            failure = error
        failures = self.gather(failure)
        first = next((rank for rank, found in enumerate(failures) if found is not None), None)
        if first is None:
            return result  # type: ignore[return-value]
        if failure is not None and first == self.rank:
            raise failure
        raise silent(failures[first].exit_code)

    def common(self, error: BaseException, code: int = 1) -> BaseException:
        """An error that all ranks raise at the same place, as this rank should raise it: rank 0 alone shows it."""
        return error if self.leads else silent(error.exit_code if isinstance(error, TelltaleError) else code)

    def as_rank_0(self, tensors: Iterable[torch.Tensor]) -> None:
        """Give every rank the values that rank 0 has."""
        if self.world > 1:
            for tensor in tensors:
                dist.broadcast(tensor, 0)


@contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """Inside, the ranks that torchrun started can talk to one another.

    Args:
        device: what the gradients are on.

    Raises:
        SetupError: the ranks cannot meet, or torchrun's variables are not whole.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield Ranks()
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        dist.init_process_group(backend, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        first = str(error).partition("\n")[0]
        raise SetupError(
            f"the {world} ranks cannot meet ({first}). Start them with torchrun, which sets MASTER_ADDR, MASTER_PORT, "
            "RANK and WORLD_SIZE."
        ) from error
    try:
        yield Ranks(dist.get_rank(), world)
    except RuntimeError as error:
        if any(sign in str(error) for sign in _LOST):
            raise SetupError(
                "another rank of this run ended, so this one cannot go on: what it said is above or below. Start the "
                "run again with --resume."
            ) from error
        raise
    finally:
        dist.destroy_process_group()
