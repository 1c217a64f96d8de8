"""Answers as lines: a table for people, JSON lines for programs. Must not print, score or read anything.

The table's columns have fixed widths and the path comes last, so a line can be written as soon as its answer is
there, however long the paths are.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

from detection.model import Detector
from detection.predict import Answer, Problem

__all__ = ["Table", "json_line", "percent", "printable"]

_WORDS = {"ai": "AI-generated", "real": "real", "error": "no answer"}
_STYLES = {"ai": "1;33", "real": "32", "error": "31", "faint": "2"}  # SGR codes; the words say it without colour too


def json_line(result: Answer | Problem, detector: Detector) -> str:
    """One JSON object: `path`, `ai_probability`, `verdict`, `threshold`, `model` {name, sha256}; or `path`, `error`
    {reason, message}. ASCII, so that any path comes through any terminal (its `\\u` escapes are the path's own)."""
    if isinstance(result, Problem):
        return json.dumps({"path": result.path, "error": {"reason": result.reason, "message": result.message}})
    return json.dumps(
        {
            "path": result.path,
            "ai_probability": result.ai_probability,
            "verdict": result.verdict,
            "threshold": detector.bundle.threshold,
            "model": {"name": detector.name, "sha256": detector.bundle.sha256},
        }
    )


def percent(probability: float, threshold: float) -> str:
    """A probability in per cent, with as many digits as it takes to stand on the right side of the threshold."""
    if 0 < probability < 0.0005:
        return "<0.1 %"
    if 0.9995 <= probability < 1:
        return ">99.9 %"
    for digits in (1, 2, 3, 4):
        text = f"{100 * probability:.{digits}f}"
        if (float(text) >= 100 * threshold) == (probability >= threshold):
            break
    return f"{text} %"


def printable(text: str) -> str:
    """The text with everything that would move or colour a terminal's cursor escaped."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


@dataclass
class Table:
    """The lines of a table, and a count of what they said."""

    detector: Detector
    colour: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def header(self) -> str:
        """The line above."""
        return self._styled(f"{'AI':>9}   {'verdict':<12}   picture", "faint")

    def line(self, result: Answer | Problem) -> str:
        """One answer."""
        if isinstance(result, Problem):
            self.counts["error"] += 1
            word = self._styled(f"{_WORDS['error']:<12}", "error")
            return f"{'–':>9}   {word}   {printable(result.path)}\n{'':27}{printable(result.message)}"
        self.counts[result.verdict] += 1
        word = self._styled(f"{_WORDS[result.verdict]:<12}", result.verdict)
        share = percent(result.ai_probability, self.detector.bundle.threshold)
        return f"{share:>9}   {word}   {printable(result.path)}"

    def footer(self) -> str:
        """The lines below: how many, and what the verdict rests on."""
        total = self.counts.total()
        parts = [f"{self.counts[key]} {_WORDS[key]}" for key in ("ai", "real", "error") if self.counts[key]]
        bundle = self.detector.bundle
        said = f"{total} {'picture' if total == 1 else 'pictures'}: {', '.join(parts)}."
        basis = (
            f"“AI-generated” from {100 * bundle.threshold:.6g} % on. "
            f"Model {self.detector.name}, sha256 {bundle.sha256[:16]}…, {bundle.folder.uri}"
        )
        return f"\n{said}\n" + self._styled(printable(basis), "faint")

    def _styled(self, text: str, style: str) -> str:
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self.colour else text
