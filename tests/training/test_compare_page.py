"""The page of a comparison: sound whatever the runs are called, and its plot to scale."""

from __future__ import annotations

import pytest

from tests.evaluation.test_report_html import Page
from tests.training.compared import A, B, row
from training.compare_page import plot_of, render
from training.compare_runs import Figure, Row, Unusable
from training.compare_table import make_table


def page_of(*rows: Row, unusable: tuple[Unusable, ...] = ()) -> tuple[Page, str]:
    html = render(make_table(rows, unusable)).decode()
    return Page(html), html


def test_names_cannot_change_the_page() -> None:
    evil = "<script>alert(1)</script>\"><img src=x onerror=alert('1')>"
    rows = [row(evil, A, model=evil, remarks=(evil,)), row("b", B, dataset="e" * 64)]
    page, html = page_of(*rows, unusable=(Unusable(evil, evil),))
    assert page.all("script") == page.all("img") == []
    assert page.unbalanced == page.open == []
    assert "".join(page.text).count(evil) >= 5
    assert "<script" not in html


def test_the_page_bears_runs_without_figures() -> None:
    page, _ = page_of(row("a", parameters=None, best_epoch=None, epochs=None, val_auc=None, cost=None))
    assert page.all("svg") == []
    assert page.unbalanced == page.open == []


def test_the_best_is_marked_on_the_page() -> None:
    page, _ = page_of(row("a", A), row("b", B))
    assert [attributes["class"] for attributes in page.all("td")].count("best") == 1


def test_the_plot_places_every_auc_on_one_axis() -> None:
    ood = {"test_auc": Figure(*A), "ood_auc": Figure(0.83, 0.81, 0.86)}
    plot = plot_of([row("a", figures=ood), row("b", B), row("c"), row("d", figures={"ood_auc": Figure(1.0)})])
    assert plot is not None
    assert [text for _, text in plot.ticks] == ["0.8", "0.9", "1"]
    assert [[mark.split for mark in marks] for marks in plot.rows] == [["test", "ood"], ["test"], [], ["ood"]]
    places = dict(zip((0.8, 0.9, 1.0), (place for place, _ in plot.ticks), strict=True))
    for mark, figure in zip(plot.rows[0], ood.values(), strict=True):
        assert figure.low is not None
        share = (figure.value - 0.8) / 0.2
        assert mark.at == pytest.approx(places[0.8] + share * (places[1.0] - places[0.8]), abs=0.1)
        assert mark.low is not None
        assert mark.high is not None
        assert places[0.8] < mark.low < mark.at < mark.high < places[1.0]
    (alone,) = plot.rows[3]
    assert (alone.at, alone.low, alone.high) == (places[1.0], None, None)


@pytest.mark.parametrize("lowest", [0.0, 0.1, 0.333, 0.5, 0.7, 0.8999, 0.95, 0.99, 0.9999, 1.0])
def test_the_axis_begins_below_every_auc_but_not_far_below(lowest: float) -> None:
    plot = plot_of([row("a", (lowest, lowest, 1.0))])
    assert plot is not None
    (left, text), *_, (right, one) = plot.ticks
    assert one == "1"
    assert lowest - 0.2 <= float(text) <= lowest
    (mark,) = plot.rows[0]
    assert left <= mark.at <= right
