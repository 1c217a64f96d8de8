"""What is wrong for several ranks of a run is said by one of them, even before they have met.

`torchrun` ends all ranks as soon as one has ended, so the silent ones leave the one that speaks a moment. This
module is imported before torch and must not need it where there is one process alone.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Final

from pipeline.errors import TelltaleError

__all__ = ["said_once", "silent"]

_MOMENT: Final = 2.0  # seconds: what printing a line may take on a machine that is busy
_PATIENCE: Final = timedelta(minutes=1)  # for the store that torchrun holds


@contextmanager
def said_once() -> Iterator[None]:
    """Inside, before the ranks have met: of those that fail with the same message one raises it.

    Raises:
        TelltaleError: that of the block, on the first rank that has it.
        SystemExit: with that error's exit code, on the others.
    """
    try:
        yield
    except TelltaleError as error:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not _is_first(str(error)):
            raise silent(error.exit_code) from error
        raise


def silent(code: int) -> SystemExit:
    """What a rank raises, with this exit code, while another says why."""
    time.sleep(_MOMENT)
    return SystemExit(code)


def _is_first(message: str) -> bool:
    """Whether no other rank has asked this before; True too if nobody can be asked, as saying it twice is no harm."""
    from torch.distributed.rendezvous import rendezvous  # torch takes seconds to import

    try:
        store = next(iter(rendezvous("env://", timeout=_PATIENCE)))[0]
        return int(store.add(f"telltale/{hashlib.sha256(message.encode()).hexdigest()}", 1)) == 1
    except (RuntimeError, ValueError):
        return True
