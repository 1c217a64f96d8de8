"""`python -m training.compare`: real runs side by side, what may be compared, and how sure the best is."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from evaluation.run import main as evaluate
from pipeline.cli import run_command
from pipeline.manifest import publish
from pipeline.storage import Folder
from tests.datasets import make_dataset
from tests.evaluation.test_report_html import Page
from tests.training.runs import make_run, train
from training.compare import as_json, as_markdown, main
from training.compare_cost import Cost, cost_of
from training.compare_page import plot_of, render
from training.compare_runs import MEASURES, Evaluation, Figure, Row, Unusable, read_runs
from training.compare_table import leader, make_table, marks, ordered, verdict

AUC, ECE = MEASURES[0], next(measure for measure in MEASURES if measure.key == "ece")
OURS = Evaluation(None, '{"seed":0}')
Compare = Callable[..., tuple[int, str, str]]


def report(run: Path, *options: str) -> dict[str, Any]:
    """Evaluate a run, as its user would; returns the report."""
    places = {"--bundle": "model", "--dataset": "dataset", "--output": "report"}
    evaluate([*(text for key, name in places.items() for text in (key, str(run / name))), *options])
    return dict(json.loads((run / "report/report.json").read_bytes()))


@pytest.fixture(scope="module")
def runs(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`one` and `two`, on the same data with other seeds, and `other` on other data; `other` has no report."""
    folder = tmp_path_factory.mktemp("runs")
    make_run(folder / "one", {"train": 40, "val": 20, "test": 12, "ood": 6})
    shutil.copytree(folder / "one", folder / "two")
    shutil.copytree(finished, folder / "other")
    for name, changes in {"one": {}, "two": {"seed": 3, "epochs": 1}}.items():
        assert train(folder / name, **changes) == 0
        report(folder / name)
    return folder


@pytest.fixture
def mine(runs: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may change."""
    return Path(shutil.copytree(runs, tmp_path / "runs"))


@pytest.fixture
def compare(capsys: pytest.CaptureFixture[str]) -> Compare:
    """Run the command: exit code, standard output, standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run_command(main, [str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        assert "unexpected" not in err
        return code, out, err

    return call


def cells(out: str) -> dict[str, dict[str, str]]:
    """The Markdown table: by run and column."""
    lines = [line for line in out.splitlines() if line.startswith("|")]
    titles, _, *rows = [[part.strip() for part in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return {row[0]: dict(zip(titles, row, strict=True)) for row in rows}


def row(run: str, auc: tuple[float, float | None, float | None] | None = None, **changes: Any) -> Row:
    """A made-up row; `auc` is (value, low, high) on test."""
    values: dict[str, Any] = {
        "model": "resnet50",
        "dataset": "d" * 64,
        "device": "cpu",
        "parameters": 23_510_081,
        "best_epoch": 3,
        "epochs": 5,
        "val_auc": 0.97,
        "onnx_bytes": 94_000_000,
        "cost": Cost(80_000, 1.5, 14.8),
        "figures": {"test_auc": Figure(*auc)} if auc else {},
        "evaluation": OURS if auc else None,
    }
    return Row(run, **{**values, **changes})


def shown(*rows: Row) -> str:
    return as_markdown(make_table(rows, []))


def test_the_table_says_what_bundle_report_and_logs_say(runs: Path, compare: Compare) -> None:
    code, out, _ = compare(runs / "one", runs / "two")
    assert code == 0
    table = cells(out)
    assert set(table) == {"one", "two"}
    for name, line in table.items():
        bundle = json.loads((runs / name / "model/bundle.json").read_bytes())
        test, ood = (
            json.loads((runs / name / "report/report.json").read_bytes())["splits"][s] for s in ("test", "ood")
        )
        for title, split in (("test AUC", test), ("ood AUC", ood)):
            low, high = split["ci95"]["auc"]
            assert line[title].strip("*") == f"{split['auc']:.4f} [{low:.4f}, {high:.4f}]"
        for title, key in (("TPR at 1 % FPR", "tpr_at_1pct_fpr"), ("TPR at 0.5 % FPR", "tpr_at_0_5pct_fpr")):
            low, high = test["ci95"][key]
            assert line[title].strip("*") == f"{100 * test[key]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        assert (line["ECE"], line["Brier"]) == (f"{test['ece']:.4f}", f"{test['brier']:.4f}")
        assert line["val AUC"] == f"{bundle['validation']['auc']:.4f}"
        assert line["model"] == "test_efficientnet"
        assert line["ONNX, MB"] == f"{(runs / name / 'model/model.onnx').stat().st_size / 1e6:.1f}"
    assert table["one"]["best epoch"][-1] == "2"
    assert table["two"]["best epoch"] == "1 / 1"
    assert (table["one"]["pictures"], table["two"]["pictures"]) == ("320", "160")  # 2 labels × 40 × 2 variants × epochs
    assert "data" not in table["one"]


def test_json_has_the_same_numbers_unrounded(runs: Path, compare: Compare) -> None:
    code, out, _ = compare(runs / "one", "--json")
    assert code == 0
    (only,) = json.loads(out)["runs"]
    test = json.loads((runs / "one/report/report.json").read_bytes())["splits"]["test"]
    bundle = json.loads((runs / "one/model/bundle.json").read_bytes())
    assert only["figures"]["test_auc"] == {"value": test["auc"], "ci95": test["ci95"]["auc"]}
    assert only["parameters"] == bundle["architecture"]["parameters"]
    assert only["evaluation"]["dataset"] == only["dataset"] == bundle["parents"]["dataset"]
    assert only["mark"] is None
    assert only["cost"]["rate"] * only["cost"]["hours"] * 3600 == pytest.approx(only["cost"]["pictures"])


def test_a_run_without_a_report_has_dashes_and_the_command_that_makes_it(mine: Path, compare: Compare) -> None:
    shutil.rmtree(mine / "two/report")
    _, out, _ = compare(mine / "one", mine / "two")
    assert list(cells(out)) == ["one", "two"]  # what has no test AUC is last
    assert {cells(out)["two"][title] for title in ("test AUC", "ood AUC", "ECE")} == {"–"}
    (command,) = re.findall(r"^- two: no report: python -m evaluation\.run (.*)$", out, flags=re.MULTILINE)
    evaluate(shlex.split(command))
    _, out, _ = compare(mine / "one", mine / "two")
    assert "–" not in cells(out)["two"].values()
    assert "no report" not in out


def test_a_report_of_an_earlier_bundle_is_not_shown(mine: Path, compare: Compare) -> None:
    shutil.rmtree(mine / "one/report")
    shutil.copytree(mine / "two/report", mine / "one/report")
    _, out, _ = compare(mine / "one", mine / "two")
    assert cells(out)["one"]["test AUC"] == "–"
    assert re.search(r"- one: its report is of another bundle.*evaluation\.run .* --update", out)


def test_a_damaged_report_is_not_shown(mine: Path, compare: Compare, flip_byte: Callable[[Path, int], None]) -> None:
    flip_byte(mine / "one/report/report.json", 200)
    code, out, _ = compare(mine / "one")
    assert code == 0
    assert cells(out)["one"]["test AUC"] == "–"
    assert re.search(r"- one: damaged report: .*report\.json.*--update", out)


def test_a_split_without_pictures_has_a_dash_and_the_reason(mine: Path, compare: Compare) -> None:
    report(mine / "other")
    _, out, _ = compare(mine / "other")
    assert cells(out)["other"]["test AUC"] == "–"
    assert "- other: no test AUC: no pictures." in out
    assert "No test figures yet." in out


def test_a_split_that_was_not_asked_for_is_told(mine: Path, compare: Compare) -> None:
    report(mine / "one", "--set", "splits=[test]", "--update")
    _, out, _ = compare(mine / "one")
    assert cells(out)["one"]["ood AUC"] == "–"
    assert "- one: ood was not evaluated." in out


def test_few_groups_are_told(runs: Path, compare: Compare) -> None:
    _, out, _ = compare(runs / "one")
    assert "- one: few groups of pictures (test 24, ood 24): its intervals are rough" in out


def test_a_report_of_before_has_no_column_of_half_a_percent(mine: Path, compare: Compare) -> None:
    assert "TPR at 0.5 % FPR" in compare(mine / "one")[1]
    body = json.loads((mine / "one/report/report.json").read_bytes())
    for name in ("test", "ood"):
        del body["splits"][name]["tpr_at_0_5pct_fpr"], body["splits"][name]["ci95"]["tpr_at_0_5pct_fpr"]
    publish(Folder(str(mine / "one/report")), "report.json", body, overwrite=True)
    assert "TPR at 0.5 % FPR" not in compare(mine / "one")[1]


def test_unfinished_runs_are_listed_with_what_to_do(mine: Path, compare: Compare) -> None:
    shutil.rmtree(mine / "two/model")
    shutil.rmtree(mine / "other/model")
    shutil.rmtree(mine / "other/logs")
    folders = ["one", "two", "other", "none", "one/model", "one/raw"]
    code, out, _ = compare(*(mine / name for name in folders))
    assert code == 0
    assert list(cells(out)) == ["one"]
    assert re.search(r"- two: not finished: .*training\.run --run-dir \S*two --resume", out)
    assert re.search(r"- other: not trained yet: python -m training\.run --run-dir \S*other$", out, flags=re.MULTILINE)
    assert "- none: no such folder." in out
    assert "- model: a bundle, not a run: name the folder above it" in out
    assert "- raw: not a run:" in out


@pytest.mark.parametrize("file", ["bundle.json", "model.onnx", "model.safetensors"])
def test_a_damaged_bundle_is_listed_and_the_others_are_shown(
    mine: Path, compare: Compare, flip_byte: Callable[[Path, int], None], file: str
) -> None:
    flip_byte(mine / "one/model" / file, 300)
    code, out, _ = compare(mine / "one", mine / "two")
    assert code == 0
    assert list(cells(out)) == ["two"]
    assert re.search(rf"- one: damaged bundle: .*{re.escape(file)}.*training\.run --run-dir \S*one --overwrite", out)


def test_nothing_usable_exits_2_and_says_why_of_each(prepared: Path, tmp_path: Path, compare: Compare) -> None:
    code, out, err = compare(prepared, tmp_path / "nowhere")
    assert (code, out) == (2, "")
    assert "not trained yet" in err
    assert "nowhere: no such folder" in err
    code, _, err = compare(tmp_path)
    assert code == 2
    assert "not a run" in err


def test_runs_on_other_data_are_marked(runs: Path, compare: Compare) -> None:
    _, out, _ = compare(runs / "one", runs / "two", runs / "other")
    table = cells(out)
    assert table["one"]["data"] == table["two"]["data"] != table["other"]["data"]
    for name in ("one", "other"):
        dataset = json.loads((runs / name / "dataset/manifest.json").read_bytes())["sha256"]
        assert f"- {table[name]['data']}: trained on dataset {dataset[:16]}." in out
    assert "do not compare across them" in out


def test_other_ways_of_evaluation_are_marked(mine: Path, compare: Compare) -> None:
    report(mine / "two", "--set", "bootstrap_samples=200", "--update")
    _, out, _ = compare(mine / "one", mine / "two")
    assert sorted(line["data"] for line in cells(out).values()) == ["A1", "A2"]
    assert re.search(r"- \d: evaluated on the dataset it was trained on, bootstrap samples 200\.", out)
    assert "seed" not in out  # which is the same


def test_evaluation_on_another_dataset_is_marked(mine: Path, compare: Compare) -> None:
    shutil.rmtree(mine / "two/dataset")
    dataset = make_dataset(mine / "two/dataset", {"test": 12}, seed=7, raw=mine / "two/other raw")
    report(mine / "two", "--update")
    _, out, _ = compare(mine / "one", mine / "two")
    assert {line["data"] for line in cells(out).values()} == {"A1", "A2"}
    assert f"evaluated on dataset {dataset['sha256'][:16]}." in out
    assert "Different data: no ranking." in out


def test_settings_that_only_change_the_report_s_looks_are_not_marked(mine: Path, compare: Compare) -> None:
    report(mine / "two", "--set", "mistakes=1", "--set", "curve_points=20", "--update")
    assert "data" not in cells(compare(mine / "one", mine / "two")[1])["two"]


def logged(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "logs/metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("earlier", [False, True])
def test_the_time_between_a_stop_and_its_resume_does_not_count(mine: Path, earlier: bool) -> None:
    """The logs of a run that was stopped in its third step and continued ten hours later, also without `seconds`."""

    def cost(pause: float) -> Cost:
        kept = [{key: value for key, value in line.items() if not (earlier and key == "seconds")} for line in lines]
        for line in kept[2:]:
            line |= {"time": line["time"] + pause} if "time" in line else {}
        (mine / "one/logs/metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in kept))
        (found,), _ = read_runs([str(mine / "one")])
        assert found.cost is not None
        return found.cost

    lines = logged(mine / "one")
    before, after = cost(0), cost(36_000)
    assert before.hours is not None
    assert after.hours is not None
    assert after.pictures == before.pictures
    assert after.hours < 10 * before.hours < 1.0


def test_hours_are_the_sum_of_the_steps(runs: Path) -> None:
    (found,), _ = read_runs([str(runs / "one")])
    assert found.cost is not None
    seconds = sum(line["seconds"] for line in logged(runs / "one") if line["kind"] == "step")
    assert found.cost.hours == pytest.approx(seconds / 3600)


def steps(*times: float, epoch: int = 1, pictures: int = 32) -> list[dict[str, Any]]:
    return [{"kind": "step", "epoch": epoch, "time": time, "pictures": pictures} for time in times]


VALIDATED = [*steps(0, 2, 4), {"kind": "epoch", "epoch": 1}, *steps(1000, 1002, 1004, epoch=2)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], None),
        ([{"kind": "epoch", "epoch": 1}], None),
        ([{**step, "seconds": 4.0} for step in steps(0, 9000, 0, 5)], Cost(128, 128 / 8 / 3600, 8.0)),
        (steps(0, 2, 4, 6), Cost(128, 128 / 16 / 3600, 16.0)),
        (steps(0, 2, 4, 3600, 3602), Cost(160, 160 / 16 / 3600, 16.0)),  # stopped and resumed
        (steps(0, 2, 32, 34), Cost(128, 128 / (96 / 34) / 3600, 96 / 34)),  # a slow step is no pause
        (steps(0, 100, 600, 700), Cost(128, 128 / (96 / 700) / 3600, 96 / 700)),  # nor is one of a slow model
        (steps(100, 102, 50, 52), Cost(128, 128 / 16 / 3600, 16.0)),  # resumed where the clock is behind
        (VALIDATED, Cost(192, 192 / 16 / 3600, 16.0)),  # validation is no training
        (steps(5), Cost(32, None, None)),
        ([{"kind": "step", "epoch": 1, "pictures": 8}] * 3, Cost(24, None, None)),  # without times
    ],
)
def test_cost_is_that_of_training_steps(lines: list[dict[str, Any]], expected: Cost | None) -> None:
    found = cost_of(lines)
    if expected is None or found is None:
        assert found is expected
        return
    assert found.pictures == expected.pictures
    assert (found.hours, found.rate) == (pytest.approx(expected.hours), pytest.approx(expected.rate))


def test_a_bundle_without_logs_has_dashes_for_its_cost(mine: Path, compare: Compare) -> None:
    shutil.rmtree(mine / "one/logs")
    _, out, _ = compare(mine / "one")
    line = cells(out)["one"]
    assert [line[title] for title in ("pictures", "hours", "pictures/s")] == ["–"] * 3
    assert line["best epoch"].endswith(" / –")
    assert "what training took is not known" in out


def test_rows_are_ordered_by_test_auc_then_validation_auc_then_name() -> None:
    rows = [
        row("no report, worse", val_auc=0.8),
        row("b", (0.9, 0.8, 1.0)),
        row("no report, better", val_auc=0.9),
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
        row("e", (0.99, 0.98, 0.995), evaluation=Evaluation(None, '{"seed":1}')),  # alone in its way
    ]
    table = cells(shown(*rows))
    assert {run for run, line in table.items() if "**" in line["test AUC"]} == {"a", "c"}
    assert {run: line["data"] for run, line in table.items()} == {"e": "A1", "a": "A2", "b": "A2", "c": "B2", "d": "B2"}


def test_a_run_without_a_report_has_the_letter_of_its_dataset_alone() -> None:
    rows = [row("a", (0.9, 0.8, 1.0)), row("b", (0.9, 0.8, 1.0), evaluation=Evaluation("f" * 64, "{}")), row("c")]
    assert marks(rows)[0] == {"a": "A1", "b": "A2", "c": "A"}


def test_more_datasets_than_letters_have_marks_of_their_own() -> None:
    found, _ = marks([row(str(number), dataset=f"{number:064}") for number in range(60)])
    assert (found["25"], found["26"], found["52"]) == ("Z", "AA", "BA")
    assert len(set(found.values())) == 60


A, B, WIDE = (0.95, 0.94, 0.96), (0.92, 0.91, 0.93), (0.92, 0.90, 0.95)


@pytest.mark.parametrize(
    ("rows", "title", "sentence"),
    [
        ([row("a", A), row("b", B)], "a is ahead", "0.9500 [0.9400, 0.9600]; no other run’s interval overlaps"),
        ([row("a", A), row("b", WIDE)], "No run is clearly ahead", "its interval overlaps that of b: these pictures"),
        ([row("a", (1, 1, 1)), row("b", B)], "No run is clearly ahead", "has no width"),
        ([row("a", A), row("b", (0.9, None, None))], "No run is clearly ahead", "not every test AUC has an interval"),
        ([row("a", A), row("b")], "Only a has test figures", "none to compare it with"),
        ([row("a")], "No test figures yet", "the notes say what to do"),
        ([row("a", A), row("b", B, dataset="e" * 64)], "Different data: no ranking", "the same mark in the column"),
    ],
)
def test_the_verdict_claims_no_more_than_the_intervals_do(rows: list[Row], title: str, sentence: str) -> None:
    found = verdict(rows)
    assert found.title == title
    assert sentence in found.sentence


def test_different_devices_are_told() -> None:
    assert "different devices (cpu, cuda): hours and rates do not compare" in shown(row("a"), row("b", device="cuda"))
    assert "different devices" not in shown(row("a"), row("b"))


def test_numbers_are_written_for_people() -> None:
    line = cells(shown(row("a"), row("b", parameters=21_400, cost=Cost(12, 0.0001, 3.0))))
    assert line["a"]["parameters"] == "23.51 M"
    assert (line["a"]["pictures"], line["a"]["hours"], line["a"]["pictures/s"]) == ("80,000", "1.50", "14.8")
    assert (line["b"]["parameters"], line["b"]["hours"]) == ("21.4 k", "< 0.01")
    assert cells(shown(row("a", cost=Cost(1, 1.0, 3642.7))))["a"]["pictures/s"] == "3,643"


def test_a_run_given_twice_is_shown_once_and_equal_names_are_told_apart(mine: Path, compare: Compare) -> None:
    again = Path(shutil.copytree(mine / "two", mine / "again/two"))
    _, out, _ = compare(mine / "one", f"{mine}/one/", mine / "two", again)
    assert sorted(cells(out)) == sorted(["one", str(mine / "two"), str(again)])


def test_names_cannot_break_the_table(mine: Path, compare: Compare) -> None:
    odd = mine / "a|b\x1b[2J\n**c**"
    (mine / "one").rename(odd)
    _, out, _ = compare(odd)
    assert list(cells(out)) == ["a\\|b\ufffd[2J\ufffd\\*\\*c\\*\\*"]
    assert "\x1b" not in out


def page_of(*rows: Row, unusable: tuple[Unusable, ...] = ()) -> tuple[Page, str]:
    html = render(make_table(rows, unusable)).decode()
    return Page(html), html


def test_the_page_is_written_and_sound(runs: Path, tmp_path: Path, compare: Compare) -> None:
    target = tmp_path / "pages" / "compare.html"
    code, out, err = compare(runs / "one", runs / "two", runs / "none", "--output", target)
    assert code == 0
    assert f"{target}: written" in err
    assert [path.name for path in target.parent.iterdir()] == ["compare.html"]
    html = target.read_text(encoding="utf-8")
    page = Page(html)
    assert page.unbalanced == page.open == []
    assert not {"script", "link", "iframe", "img"} & {name for name, _ in page.elements}
    assert "url(" not in html
    assert "prefers-color-scheme: dark" in html
    assert all(attributes.get("scope") in ("col", "row") for attributes in page.all("th"))
    charts = page.all("svg")
    assert len(charts) == 1 + 2
    assert all(chart["role"] == "img" and len(chart["aria-label"] or "") > 20 for chart in charts)
    text = re.sub(r"\s+", " ", "".join(page.text))
    for line in cells(out).values():
        for value in line.values():
            assert value.strip("*").split(" [")[0] in text
    assert "no such folder" in text


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


def test_an_earlier_page_is_replaced_and_anything_else_is_not(runs: Path, tmp_path: Path, compare: Compare) -> None:
    target = tmp_path / "compare.html"
    compare(runs / "one", "--output", target)
    before = target.read_bytes()
    assert compare(runs / "one", runs / "two", "--output", target)[0] == 0
    assert target.read_bytes() != before
    target.write_text("<p>years of work</p>")
    code, out, err = compare(runs / "one", "--output", target)
    assert (code, out) == (1, "")
    assert "did not write" in err
    assert target.read_text() == "<p>years of work</p>"
    code, _, err = compare(runs / "one", "--output", tmp_path)
    assert code == 2
    assert "is a folder" in err


def fill(path: Path) -> None:
    """Write a file until the disk is full."""
    with suppress(OSError), path.open("wb", buffering=0) as stream:
        while stream.write(bytes(4096)):
            pass


def test_a_full_disk_leaves_the_earlier_page(runs: Path, tiny_disk: Path, compare: Compare) -> None:
    target = tiny_disk / "compare.html"
    compare(runs / "one", "--output", target)
    before = target.read_bytes()
    fill(tiny_disk / "filler")
    code, _, err = compare(runs / "one", runs / "two", "--output", target)
    assert code == 1
    assert "disk is full" in err
    assert target.read_bytes() == before


def test_json_tells_programs_what_the_table_tells_people() -> None:
    rows = [row("a", A), row("b", B, dataset="e" * 64), row("c", B)]
    said = json.loads(as_json(make_table(rows, [Unusable("x", "no such folder.")])))
    assert [item["run"] for item in said["runs"]] == ["a", "b", "c"]
    assert [item["best"] for item in said["runs"]] == [["test AUC"], [], []]
    assert [item["mark"] for item in said["runs"]] == ["A", "B", "A"]
    assert said["unusable"] == [{"run": "x", "problem": "no such folder."}]
    assert said["verdict"]["title"] == "Different data: no ranking"


def test_nothing_waits_for_torch(runs: Path) -> None:
    code = "import sys; from training.compare import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(runs / "one")], check=True, stdout=subprocess.DEVNULL)
