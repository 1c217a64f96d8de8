"""`report.html` from the body of `report.json`: one file that a person likes to look at, with nothing to load besides.

Everything it shows is in the data, but for the pictures of the mistakes. This module must not compute figures.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from evaluation import figures
from evaluation.words import FEW_GROUPS

__all__ = ["render"]

_TEMPLATE: Final = "report.html.jinja"
_ORDER: Final = ("test", "ood", "val", "train")
_RATES: Final = ("accuracy", "precision", "recall", "specificity", "f1")
_CLASSES: Final = {"real": "real", "ai": "AI-generated"}
_MAGIC: Final = ((b"\xff\xd8", "jpeg"), (b"\x89PNG", "png"), (b"RIFF", "webp"))


def render(body: Mapping[str, Any], pictures: Mapping[str, bytes]) -> bytes:
    """The page, UTF-8.

    Args:
        body: of `report.json`.
        pictures: encoded canonical pictures of the mistakes, by image id.
    """
    environment = Environment(
        loader=PackageLoader("evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"rate": _rate, "number": _number, "range": _range, "data_uri": _data_uri}
    splits = {name: body["splits"][name] for name in _ORDER if body["splits"].get(name, {}).get("n")}
    page = environment.get_template(_TEMPLATE).render(
        report=body,
        splits=splits,
        rates=_RATES,
        classes=_CLASSES,
        few_groups=FEW_GROUPS,
        sources=_ordered_sources(body["by_source"]),
        pictures=pictures,
        roc=figures.roc(splits),
        precision_recall=figures.precision_recall(splits),
        reliability={name: figures.reliability(name, one["calibration"]) for name, one in splits.items()},
        histogram={
            name: figures.score_histogram(name, one["histogram"], body["model"]["threshold"])
            for name, one in splits.items()
        },
    )
    return page.encode()


def _ordered_sources(by_source: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """(name, figures) a line: real before AI-generated, test before the other splits of a source."""
    lines = []
    for name, values in by_source.items():
        lines.append((name, values))
        lines += [(name, other) for other in values["other_splits"].values()]
    return sorted(lines, key=lambda line: (_ORDER.index(line[1]["split"]), line[1]["label"] == "ai", line[0]))


def _rate(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _range(bounds: list[float] | None, scale: float = 100, digits: int = 1) -> str:
    if bounds is None:
        return "no interval"
    return f"{scale * bounds[0]:.{digits}f} – {scale * bounds[1]:.{digits}f}"


def _data_uri(data: bytes) -> Markup:
    kind = next((name for magic, name in _MAGIC if data.startswith(magic)), "octet-stream")
    return Markup(f"data:image/{kind};base64,{base64.b64encode(data).decode()}")
