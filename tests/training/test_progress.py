"""What a person sees while a run trains."""

from __future__ import annotations

import io
import time

import pytest

from training.config import Phase
from training.progress import Progress
from training.schedule import Position


class Terminal(io.StringIO):
    """Somebody watches."""

    def isatty(self) -> bool:
        return True


def bar_on(terminal: io.StringIO, monkeypatch: pytest.MonkeyPatch, shown: bool = True) -> str:
    """The terminal after 20 of 100 pictures of the second of three epochs, in 10 seconds of which 2.5 were waiting."""
    monkeypatch.setattr("sys.stderr", terminal)
    plan = (Phase(epochs=1), Phase(epochs=2))
    where = Position(phase=1, first=1, epoch=1, reductions=0)
    with Progress(plan, where, rows=100, done=0, shown=shown) as progress:
        begin = time.time() + 0.01
        for number in (1, 2):
            time.sleep(0.12)  # a bar is drawn anew every tenth of a second
            progress.step({"pictures": 10, "wait": 1.25, "time": begin + 5 * number, "loss": 0.25})
    assert progress.summary() == "2.0 pictures a second, 25.0% waiting for data, 01:30 left"
    return terminal.getvalue()


def test_the_bar_tells_the_share_of_waiting_and_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """180 of the 200 pictures of this epoch and the next are left, at 2 a second."""
    bar = bar_on(Terminal(), monkeypatch)
    assert "epoch 2/3" in bar
    assert "20/100" in bar
    assert "loss=0.2500" in bar
    assert "waiting=25%" in bar
    assert "left=01:30" in bar
    assert "img/s" in bar


def test_what_an_earlier_process_did_of_the_epoch_is_not_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """40 of 100 pictures were done, 20 more in ten seconds: 40 are left, at 2 a second."""
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with Progress((Phase(epochs=1),), Position(0, 0, 0, 0), rows=100, done=40, shown=True) as progress:
        time.sleep(0.12)
        progress.step({"pictures": 20, "wait": 0.0, "time": progress._begin + 10, "loss": 0.25})
    assert progress.summary() == "2.0 pictures a second, 0.0% waiting for data, 00:20 left"
    assert "60/100" in terminal.getvalue()


def test_nothing_is_drawn_where_nobody_watches_or_by_another_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bar_on(io.StringIO(), monkeypatch) == ""
    assert bar_on(Terminal(), monkeypatch, shown=False) == ""
