"""The page: self-contained, sound HTML, readable without eyes or colours, safe with any file name."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from evaluation.report_html import render
from tests.evaluation.conftest import Run

VOID = {"meta", "img", "link", "br", "hr", "input"}


class Page(HTMLParser):
    """Every element's name and attributes, the text, and whether the tags are balanced."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.unbalanced: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.unbalanced.append(tag)

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(run: Run) -> Page:
    return Page(run.html)


def test_the_page_is_sound(page: Page) -> None:
    assert page.unbalanced == page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    paths = [identity for identity in ids if identity and not re.match(r"[a-z]?[0-9a-f]{8,}", identity)]
    assert paths == []  # ids in charts are hashes of what they name; nothing else has one


def test_nothing_is_loaded_from_elsewhere(run: Run, page: Page) -> None:
    assert not {"script", "link", "iframe", "object"} & {name for name, _ in page.elements}
    for _, attributes in page.elements:
        for key in ("src", "href", "xlink:href"):
            assert (attributes.get(key) or "#").startswith(("#", "data:image/"))
    assert "@import" not in run.html
    assert not re.search(r"url\((?!#)", run.html)


def test_everything_has_words(page: Page) -> None:
    assert [attributes for attributes in page.all("img") if not attributes.get("alt")] == []
    charts = [attributes for attributes in page.all("svg") if attributes.get("role") == "img"]
    assert len(charts) == len(page.all("svg")) == 2 + 3 * 2
    assert all(len(attributes["aria-label"] or "") > 20 for attributes in charts)
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    assert page.all("html")[0]["lang"] == "en"
    assert len(page.all("h1")) == 1


def test_charts_take_their_colours_from_the_page(run: Run) -> None:
    charts = "".join(re.findall(r"<svg.*?</svg>", run.html, flags=re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): ?(#[0-9a-f]+)", charts)) == set()
    assert "var(--real)" in charts
    assert "prefers-color-scheme: dark" in run.html


def test_the_page_says_what_the_data_says(run: Run, page: Page) -> None:
    text = re.sub(r"\s+", " ", "".join(page.text))
    report = run.report
    for split in report["splits"].values():
        assert f"{split['auc']:.3f}" in text
        low, high = split["ci95"]["accuracy"]
        assert f"{100 * low:.1f} – {100 * high:.1f}" in text
    for name in report["by_source"]:
        assert name in text
    for key in ("raw", "dataset", "stats", "shards", "bundle"):
        assert report["chain"][key] in text
    for sentence in [report["headline"]["title"], *report["notes"], *report["untested"]]:
        assert sentence in text
    for item in report["mistakes"]["called_ai"]:
        assert item["path"] in text
    pictures = [one for one in page.all("img") if (one["src"] or "").startswith("data:image/jpeg;base64,")]
    assert len(pictures) == len(report["mistakes"]["called_ai"]) > 0


def test_names_cannot_change_the_page(run: Run) -> None:
    body: dict[str, Any] = json.loads(json.dumps(run.report))
    evil = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>"
    for item in body["mistakes"]["called_ai"]:
        item["path"] = evil
    body["by_source"][evil] = body["by_source"].pop("gan")
    body["model"]["name"] = evil
    pictures = {item["image_id"]: b"\xff\xd8" for item in body["mistakes"]["called_ai"]}
    page = Page(render(body, pictures).decode())
    assert page.all("script") == []
    assert page.unbalanced == page.open == []
    assert evil in "".join(page.text)


def test_the_page_bears_a_report_without_figures(run: Run) -> None:
    body: dict[str, Any] = json.loads(json.dumps(run.report))
    gone = dict.fromkeys(("auc", "precision", "curves", "ece", "tpr_at_1pct_fpr", "tpr_at_0_5pct_fpr"))
    body["splits"]["test"] |= gone | {"reasons": {"auc": "no real pictures"}}
    body["splits"]["test"]["ci95"] |= {"auc": None, "precision": None}
    body["headline"] = {"split": None, "level": "unknown", "title": "No verdict", "sentences": []}
    body["mistakes"] = {"called_ai": [], "called_real": []}
    page = Page(render(body, {}).decode())
    assert page.unbalanced == page.open == []
    assert "no real pictures" in "".join(page.text)
