"""`python -m training.compare`: real runs side by side, what may be compared, and what is told of the others."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.run import main as evaluate
from pipeline.cli import run_command
from pipeline.manifest import publish
from pipeline.storage import Folder
from tests.datasets import make_dataset
from tests.evaluation.test_report_html import Page
from tests.training.compared import cells
from tests.training.runs import fill, make_run, train
from training.compare import main
from training.compare_cost import Cost
from training.compare_runs import read_runs

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


def test_the_table_says_what_bundle_report_and_logs_say(runs: Path, compare: Compare) -> None:
    code, out, _ = compare(runs / "one", runs / "two")
    assert code == 0
    table = cells(out)
    assert set(table) == {"one", "two"}
    for name, line in table.items():
        bundle = json.loads((runs / name / "model/bundle.json").read_bytes())
        splits = json.loads((runs / name / "report/report.json").read_bytes())["splits"]
        val, test, ood = (splits[split] for split in ("val", "test", "ood"))
        assert val["auc"] == pytest.approx(bundle["validation"]["auc"], abs=2e-3)
        val = {**val, "auc": bundle["validation"]["auc"]}
        for title, split in (("val AUC", val), ("test AUC", test), ("ood AUC", ood)):
            low, high = split["ci95"]["auc"]
            assert line[title].strip("*") == f"{split['auc']:.4f} [{low:.4f}, {high:.4f}]"
        for title, key in (("TPR at 1 % FPR", "tpr_at_1pct_fpr"), ("TPR at 0.5 % FPR", "tpr_at_0_5pct_fpr")):
            low, high = test["ci95"][key]
            assert line[title].strip("*") == f"{100 * test[key]:.1f} % [{100 * low:.1f}, {100 * high:.1f}]"
        assert (line["ECE"], line["Brier"]) == (f"{test['ece']:.4f}", f"{test['brier']:.4f}")
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
    assert only["val_auc"]["value"] == bundle["validation"]["auc"]
    assert len(only["val_auc"]["ci95"]) == 2
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
        assert f"- {table[name]['data'][0]}: trained on dataset {dataset[:16]}." in out
    assert "do not compare validation AUC across them" in out


def test_other_ways_of_evaluation_are_marked(mine: Path, compare: Compare) -> None:
    report(mine / "two", "--set", "bootstrap_samples=200", "--update")
    _, out, _ = compare(mine / "one", mine / "two")
    assert sorted(line["data"] for line in cells(out).values()) == ["A1", "A2"]
    assert re.search(r"- \d: evaluated on dataset [0-9a-f]{16}, bootstrap samples 200\.", out)
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


def test_a_bundle_without_logs_has_dashes_for_its_cost(mine: Path, compare: Compare) -> None:
    shutil.rmtree(mine / "one/logs")
    _, out, _ = compare(mine / "one")
    line = cells(out)["one"]
    assert [line[title] for title in ("pictures", "hours", "pictures/s")] == ["–"] * 3
    assert line["best epoch"].endswith(" / –")
    assert "what training took is not known" in out


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
    intervals = 0
    for line in cells(out).values():
        for value in line.values():
            figure, _, interval = value.replace("*", "").partition(" [")
            assert figure in text
            assert interval.removesuffix("]") in text
            intervals += bool(interval)
    assert intervals
    assert "no such folder" in text


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


def test_a_full_disk_leaves_the_earlier_page(runs: Path, tiny_disk: Path, compare: Compare) -> None:
    target = tiny_disk / "compare.html"
    compare(runs / "one", "--output", target)
    before = target.read_bytes()
    fill(tiny_disk / "filler")
    code, _, err = compare(runs / "one", runs / "two", "--output", target)
    assert code == 1
    assert "disk is full" in err
    assert target.read_bytes() == before


def test_nothing_waits_for_torch(runs: Path) -> None:
    code = "import sys; from training.compare import main; main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(runs / "one")], check=True, stdout=subprocess.DEVNULL)
