"""What the table of a comparison marks, ranks and claims."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.training.compared import AUC, ECE, WIDE, A, B, cells, row, shown
from training.compare import as_json
from training.compare_cost import Cost
from training.compare_runs import Evaluation, Figure, Row, Unusable
from training.compare_table import leader, make_table, marks, ordered, verdict


def test_rows_are_ordered_by_test_auc_then_validation_auc_then_name() -> None:
    rows = [
        row("no report, worse", val_auc=Figure(0.8)),
        row("b", (0.9, 0.8, 1.0)),
        row("no report, better", val_auc=Figure(0.9)),
        row("a", (0.9, 0.8, 1.0)),
        row("best", (0.95, 0.9, 1.0)),
        row("nothing", val_auc=None),
    ]
    names = [item.run for item in ordered(rows)]
    assert names == ["best", "a", "b", "no report, better", "no report, worse", "nothing"]


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ({"a": (0.95, 0.94, 0.96), "b": (0.92, 0.91, 0.93)}, "a"),
        ({"a": (0.92, 0.91, 0.93), "b": (0.95, 0.94, 0.96)}, "b"),
        ({"a": (0.95, 0.93, 0.97), "b": (0.92, 0.90, 0.94)}, None),  # overlap
        ({"a": (0.95, 0.93, 0.97), "b": (0.92, 0.90, 0.93)}, None),  # touch
        ({"a": (0.95, 0.94, 0.96), "b": (0.92, 0.91, 0.93), "c": (0.91, 0.85, 0.97)}, None),  # the third one might be
        ({"a": (1.0, 1.0, 1.0), "b": (0.92, 0.91, 0.93)}, None),  # no width: nothing is known of how sure it is
        ({"a": (0.95, None, None), "b": (0.92, 0.91, 0.93)}, None),
        ({"a": (0.95, 0.94, 0.96), "b": (0.92, None, None)}, None),
        ({"a": (0.95, 0.94, 0.96)}, None),  # nothing to compare with
        ({}, None),
    ],
)
def test_a_best_value_needs_an_interval_of_its_own(figures: dict[str, Any], expected: str | None) -> None:
    assert leader([row(run, auc) for run, auc in figures.items()], AUC) == expected


def test_of_errors_the_smallest_is_best() -> None:
    rows = [row("a", figures={"ece": Figure(0.02, 0.01, 0.03)}), row("b", figures={"ece": Figure(0.09, 0.08, 0.10)})]
    assert leader(rows, ECE) == "a"


def test_the_best_is_bold_and_nothing_else() -> None:
    table = cells(shown(row("a", (0.95, 0.94, 0.96)), row("b", (0.92, 0.91, 0.93)), row("c")))
    assert table["a"]["test AUC"] == "**0.9500 [0.9400, 0.9600]**"
    assert [value for line in table.values() for value in line.values() if "**" in value] == [table["a"]["test AUC"]]


def test_each_group_has_its_own_best() -> None:
    elsewhere: dict[str, Any] = {"dataset": "e" * 64}
    rows = [
        row("a", (0.95, 0.94, 0.96)),
        row("b", (0.92, 0.91, 0.93)),
        row("c", (0.85, 0.84, 0.86), **elsewhere),
        row("d", (0.82, 0.81, 0.83), **elsewhere),
        row("e", (0.99, 0.98, 0.995), evaluation=Evaluation("d" * 64, '{"seed":1}')),  # alone in its way
    ]
    table = cells(shown(*rows))
    assert {run for run, line in table.items() if "**" in line["test AUC"]} == {"a", "c"}
    assert {run: line["data"] for run, line in table.items()} == {"e": "A1", "a": "A2", "b": "A2", "c": "B3", "d": "B3"}


def test_runs_of_different_data_compare_on_the_same_test_pictures() -> None:
    same = Evaluation("f" * 64, "{}")
    rows = [row("a", A, evaluation=same), row("b", B, dataset="e" * 64, evaluation=same)]
    table = make_table(rows, [])
    assert table.verdict.title == "a is ahead"
    assert "whether one of those holds test pictures is not known here" in table.verdict.sentence
    assert table.marks == {"a": "A1", "b": "B1"}
    assert f"1: evaluated on dataset {'f' * 16}." in table.notes
    assert any("do not compare validation AUC across them" in note for note in table.notes)
    assert not any("Different numbers" in note for note in table.notes)


def test_a_run_without_a_report_has_the_letter_of_its_dataset_alone() -> None:
    rows = [row("a", (0.9, 0.8, 1.0)), row("b", (0.9, 0.8, 1.0), evaluation=Evaluation("f" * 64, "{}")), row("c")]
    assert marks(rows)[0] == {"a": "A1", "b": "A2", "c": "A"}


def test_more_datasets_than_letters_have_marks_of_their_own() -> None:
    found, _ = marks([row(str(number), dataset=f"{number:064}") for number in range(60)])
    assert (found["25"], found["26"], found["52"]) == ("Z", "AA", "BA")
    assert len(set(found.values())) == 60


@pytest.mark.parametrize(
    ("rows", "title", "sentence"),
    [
        ([row("a", A), row("b", B)], "a is ahead", "0.9500 [0.9400, 0.9600]; no other run’s interval overlaps"),
        ([row("a", A), row("b", WIDE)], "No run is clearly ahead", "its interval overlaps that of b: these pictures"),
        ([row("a", (1, 1, 1)), row("b", B)], "No run is clearly ahead", "has no width"),
        ([row("a", A), row("b", (0.9, None, None))], "No run is clearly ahead", "not every test AUC has an interval"),
        ([row("a", A), row("b")], "Only a has test figures", "none to compare it with"),
        ([row("a")], "No test figures yet", "the notes say what to do"),
        ([row("a", A), row("b", B, dataset="e" * 64)], "Different data: no ranking", "the same number in the column"),
    ],
)
def test_the_verdict_claims_no_more_than_the_intervals_do(rows: list[Row], title: str, sentence: str) -> None:
    found = verdict(rows)
    assert found.title == title
    assert sentence in found.sentence


def test_different_devices_are_told() -> None:
    said = "different devices (1 x cpu, {}): hours and rates do not compare"
    assert said.format("1 x cuda") in shown(row("a"), row("b", device="cuda"))
    assert said.format("2 x cpu") in shown(row("a"), row("b", ranks=2))
    assert "different devices" not in shown(row("a"), row("b"))


def test_validation_auc_has_an_interval_where_there_is_one() -> None:
    table = cells(shown(row("a", val_auc=Figure(0.97, 0.96, 0.98)), row("b")))
    assert [table[run]["val AUC"] for run in "ab"] == ["0.9700 [0.9600, 0.9800]", "0.9700"]


def test_numbers_are_written_for_people() -> None:
    line = cells(shown(row("a"), row("b", parameters=21_400, cost=Cost(12, 0.0001, 3.0))))
    assert line["a"]["parameters"] == "23.51 M"
    assert (line["a"]["pictures"], line["a"]["hours"], line["a"]["pictures/s"]) == ("80,000", "1.50", "14.8")
    assert (line["b"]["parameters"], line["b"]["hours"]) == ("21.4 k", "< 0.01")
    assert cells(shown(row("a", cost=Cost(1, 1.0, 3642.7))))["a"]["pictures/s"] == "3,643"


def test_json_tells_programs_what_the_table_tells_people() -> None:
    rows = [row("a", A), row("b", B, dataset="e" * 64), row("c", B)]
    said = json.loads(as_json(make_table(rows, [Unusable("x", "no such folder.")])))
    assert [item["run"] for item in said["runs"]] == ["a", "b", "c"]
    assert [item["best"] for item in said["runs"]] == [["test AUC"], [], []]
    assert [item["mark"] for item in said["runs"]] == ["A1", "B2", "A1"]
    assert said["unusable"] == [{"run": "x", "problem": "no such folder."}]
    assert said["verdict"]["title"] == "Different data: no ranking"
