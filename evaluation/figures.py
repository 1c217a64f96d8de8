"""The report's charts, drawn by matplotlib from the report's data, as SVG that takes its colours from the page.

The same data gives the same bytes: no dates, no random ids. This module must not compute figures; nor may it use
pyplot, whose state is global.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import matplotlib
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

__all__ = ["precision_recall", "reliability", "roc", "score_histogram"]

# matplotlib knows no CSS variables, so it draws with colours that nothing else has, exchanged afterwards.
_INK, _FAINT, _LINE, _REAL, _AI, _SURE = "#010203", "#010204", "#010205", "#010206", "#010207", "#010208"
_PANEL: Final = "#010209"
_VARIABLES: Final = {
    _INK: "var(--ink)",
    _FAINT: "var(--faint)",
    _LINE: "var(--line)",
    _REAL: "var(--real)",
    _AI: "var(--ai)",
    _SURE: "var(--accent)",
    _PANEL: "var(--panel)",
}
_STYLES: Final = {  # split → colour and dashes: a chart must be readable without colours too
    "test": (_SURE, "-"),
    "ood": (_AI, (0, (5, 1.5))),
    "val": (_FAINT, (0, (1, 1.2))),
    "train": (_FAINT, (0, (4, 1, 1, 1))),
}
_SETTINGS: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "telltale",
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": _INK,
    "axes.labelcolor": _FAINT,
    "axes.edgecolor": _LINE,
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": _LINE,
    "grid.linewidth": 0.6,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": _INK,
}

Splits = Mapping[str, Mapping[str, Any]]


def roc(splits: Splits) -> Markup:
    """Receiver operating characteristic of every split that has both classes."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1.2, zorder=1)
        for name, figures in _with_curves(splits):
            curve, (colour, dashes) = figures["curves"]["roc"], _STYLES[name]
            axes.plot(
                curve["fpr"],
                curve["tpr"],
                color=colour,
                linestyle=dashes,
                label=f"{name}, area {figures['auc']:.3f}",
                clip_on=False,
            )
        _square(axes, "real pictures called AI-generated", "AI-generated pictures recognised")
        _legend(axes, "lower right")

    areas = ", ".join(f"{name} area {figures['auc']:.3f}" for name, figures in _with_curves(splits))
    return _svg(draw, (4.6, 4.3), f"ROC curves: {areas or 'no split has both classes'}")


def precision_recall(splits: Splits) -> Markup:
    """Precision over recall of every split that has both classes."""

    def draw(axes: Axes) -> None:
        for name, figures in _with_curves(splits):
            curve, (colour, dashes) = figures["curves"]["pr"], _STYLES[name]
            axes.plot(
                curve["recall"],
                curve["precision"],
                color=colour,
                linestyle=dashes,
                label=f"{name}, average precision {figures['average_precision']:.3f}",
                drawstyle="steps-post",
                clip_on=False,
            )
        _square(axes, "AI-generated pictures recognised (recall)", "share of alarms that are right (precision)")
        _legend(axes, "lower left")

    values = ", ".join(f"{name} {figures['average_precision']:.3f}" for name, figures in _with_curves(splits))
    return _svg(draw, (4.6, 4.3), f"Precision-recall curves, average precision: {values or 'none'}")


def reliability(name: str, bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Said probability against the share that really is AI-generated; a dot's area grows with its pictures."""
    filled = [one for one in bins if one["n"]]
    most = max((one["n"] for one in filled), default=1)

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=_LINE, linewidth=1.2, zorder=1)
        said, found = [one["mean_probability"] for one in filled], [one["share_ai"] for one in filled]
        axes.plot(said, found, color=_SURE, linewidth=1.0, alpha=0.6, clip_on=False)
        sizes = [14 + 120 * one["n"] / most for one in filled]
        axes.scatter(said, found, s=sizes, color=_SURE, linewidths=0, alpha=0.85, zorder=3, clip_on=False)
        _square(axes, "AI probability, as said", "share really AI-generated", aspect="auto")

    points = "; ".join(f"said {one['mean_probability']:.0%}, is {one['share_ai']:.0%}, n {one['n']}" for one in filled)
    return _svg(draw, (4.3, 3.1), f"Calibration of {name}: {points or 'no pictures'}")


def score_histogram(name: str, counts: Mapping[str, Sequence[int]], threshold: float) -> Markup:
    """Scores of real pictures upwards, of AI-generated ones downwards, each in per cent of its class."""
    bins = len(counts["real"])
    lefts = [number / bins for number in range(bins)]
    shares = {kind: [100 * n / max(1, sum(values)) for n in values] for kind, values in counts.items()}

    def draw(axes: Axes) -> None:
        width = 0.9 / bins
        above = axes.bar(lefts, shares["real"], width, align="edge", color=_REAL, linewidth=0, label="real")
        below = axes.bar(
            lefts, [-v for v in shares["ai"]], width, align="edge", color=_AI, linewidth=0, label="AI-generated"
        )
        axes.axhline(0, color=_FAINT, linewidth=0.8)
        line = axes.axvline(threshold, color=_INK, linewidth=1.0, linestyle=(0, (3, 2)), label="threshold")
        top = 1.08 * max(1.0, *shares["real"], *shares["ai"])
        axes.set(xlim=(0, 1), ylim=(-top, top), xlabel="AI probability", ylabel="% of the class")
        axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):.0f}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(axis="x", visible=False)
        axes.legend(
            handles=[above, below, line],
            loc="upper center",
            bbox_to_anchor=(0.5, 1.16),
            ncols=3,
            fontsize=8.5,
            handlelength=1.2,
        )

    half = bins // 2
    words = ", ".join(
        f"{kind.replace('ai', 'AI-generated')} {sum(values[half:]):.0f} % in the upper half"
        for kind, values in shares.items()
    )
    return _svg(draw, (4.3, 3.1), f"Histogram of scores of {name}: {words}")


def _with_curves(splits: Splits) -> list[tuple[str, Mapping[str, Any]]]:
    """In the order of `_STYLES`, which is the order of importance."""
    return [(name, splits[name]) for name in _STYLES if splits.get(name, {}).get("curves")]


def _square(axes: Axes, xlabel: str, ylabel: str, aspect: str = "equal") -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=xlabel, ylabel=ylabel, aspect=aspect)
    ticks = [0.0, 0.25, 0.5, 0.75, 1.0]
    axes.set(xticks=ticks, yticks=ticks)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(lambda value, _: f"{value:.0%}")


def _legend(axes: Axes, place: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(
            loc=place, fontsize=8.5, handlelength=2.2, frameon=True, facecolor=_PANEL, edgecolor="none", framealpha=0.8
        )


def _svg(draw: Any, size: tuple[float, float], description: str) -> Markup:
    """An inline SVG of `size` inches at most, as wide as its place, in the page's colours and font."""
    stream = io.BytesIO()
    with matplotlib.rc_context(_SETTINGS):
        figure = Figure(figsize=size)
        FigureCanvasSVG(figure)
        # Fixed margins in inches: a layout engine would draw everything twice.
        width, height = size[0] - 0.9, size[1] - 0.8
        draw(figure.add_axes((0.65 / size[0], 0.5 / size[1], width / size[0], height / size[1])))
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
    text = stream.getvalue().decode()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)  # ids would occur in several charts of a page
    text = re.sub(r"font: ([0-9.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    width, height = 72 * size[0], 72 * size[1]
    opening = (
        f'<svg class="chart" role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="max-width: {1.5 * width:.0f}px">'
    )
    text = re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1)
    return Markup(re.sub(r"\n\s*", "\n", text).strip())
