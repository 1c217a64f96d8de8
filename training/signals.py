"""SIGTERM and SIGINT become a flag that the loop looks at, so that a checkpoint is written before the run ends."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

from pipeline.cli import say
from pipeline.errors import TelltaleError

__all__ = ["Signals"]


class Signals:
    """Inside the `with` block the first SIGTERM or SIGINT is only noted; the second SIGINT ends at once."""

    def __init__(self) -> None:
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
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        say(f"{self.received.name}: writing a checkpoint after this step.")

    def stop_if_received(self, where: str) -> None:
        """End the run if a signal came.

        Raises:
            KeyboardInterrupt: on SIGINT.
            TelltaleError: on SIGTERM.
        """
        if self.received == signal.SIGINT:
            raise KeyboardInterrupt
        if self.received is not None:
            raise TelltaleError(
                f"stopped by {self.received.name} {where}; a checkpoint was written: continue with --resume."
            )
