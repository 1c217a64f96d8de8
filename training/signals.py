"""SIGTERM and SIGINT become a flag that the loop looks at, so that a checkpoint is written before the run ends."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, NoReturn

from pipeline.errors import TelltaleError
from training.ranks import Ranks

__all__ = ["Signals"]


class Signals:
    """Inside the `with` block the first SIGTERM or SIGINT is only noted; the second SIGINT ends at once.

    Args:
        ranks: who else takes part, and stops at the same step.
    """

    def __init__(self, ranks: Ranks | None = None) -> None:
        self._ranks = ranks or Ranks()
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Signals:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers there only
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt("before a checkpoint was written: continue from the last one with --resume.")
        self.received = signal.Signals(number)
        if self._ranks.leads:  # print cannot be called here: the signal may have come in the midst of a print
            with suppress(OSError, ValueError):  # nobody reads it any more
                os.write(sys.stderr.fileno(), f"{self.received.name}: writing a checkpoint after this step.\n".encode())

    def agreed(self) -> signal.Signals | None:
        """What any rank has received so far, the same on every rank; all call this at the same place.

        What comes later, also while a checkpoint is written, is for the next time.
        """
        if number := self._ranks.highest(int(self.received or 0)):
            self.received = signal.Signals(number)
            return self.received
        return None

    def stop(self, number: signal.Signals, where: str) -> NoReturn:
        """End the run, every rank of it, by a signal that was agreed upon.

        Raises:
            KeyboardInterrupt: on SIGINT.
            TelltaleError: on SIGTERM.
        """
        told = f"{where}; a checkpoint was written: continue with --resume."
        if number == signal.SIGINT:
            raise self._ranks.common(KeyboardInterrupt(told), code=128 + signal.SIGINT)
        raise self._ranks.common(TelltaleError(f"stopped by {number.name} {told}"))
