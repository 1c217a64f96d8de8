"""Lines for people and for programs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import detection
from detection.predict import Answer, Problem
from detection.table import Table, json_line, percent, printable


@pytest.mark.parametrize(
    ("probability", "threshold", "expected"),
    [
        (0.0, 0.5, "0.0 %"),
        (0.0004, 0.5, "<0.1 %"),
        (0.12345, 0.5, "12.3 %"),
        (0.49996, 0.5, "49.996 %"),  # 50.0 % would contradict the verdict
        (0.5, 0.5, "50.0 %"),
        (0.41234, 0.41236, "41.2 %"),
        (0.9996, 0.5, ">99.9 %"),
        (1.0, 0.5, "100.0 %"),
    ],
)
def test_per_cent_never_contradict_the_verdict(probability: float, threshold: float, expected: str) -> None:
    assert percent(probability, threshold) == expected


def test_names_cannot_move_the_cursor() -> None:
    assert printable("a b – é写.jpg") == "a b – é写.jpg"
    assert printable("a\n\x1b[31m\u202e.jpg") == "a\\n\\x1b[31m\\u202e.jpg"
    assert printable(os.fsdecode(b"\xff")) == "\\udcff"


def test_json_lines_hold_any_path(bundle: Path) -> None:
    detector = detection.load(str(bundle))
    for path in ("a \"b\" 'c'\n.jpg", "é写", os.fsdecode(b"\xff\xfe.jpg")):
        line = json_line(Answer(path, 0.75, "ai"), detector)
        assert line.isascii()
        assert "\n" not in line
        assert json.loads(line) == {
            "path": path,
            "ai_probability": 0.75,
            "verdict": "ai",
            "threshold": 0.5,
            "model": {"name": "checkerboard", "sha256": detector.bundle.sha256},
        }
    line = json_line(Problem("x", "empty", "the file is empty"), detector)
    assert json.loads(line) == {"path": "x", "error": {"reason": "empty", "message": "the file is empty"}}


@pytest.mark.parametrize("colour", [False, True])
def test_a_table_says_everything_without_colour_too(bundle: Path, colour: bool) -> None:
    table = Table(detection.load(str(bundle)), colour)
    results: list[Answer | Problem] = [
        Answer("a.jpg", 0.9, "ai"),
        Answer("b.jpg", 0.1, "real"),
        Problem("c.jpg", "empty", "it is empty"),
    ]
    text = "\n".join([table.header(), *(table.line(result) for result in results), table.footer()])
    assert ("\x1b[" in text) == colour
    for word in ("90.0 %", "AI-generated", "10.0 %", "real", "no answer", "it is empty", "from 50 % on"):
        assert word in text
    assert "3 pictures: 1 AI-generated, 1 real, 1 no answer." in text
    assert table.detector.bundle.sha256[:16] in text
