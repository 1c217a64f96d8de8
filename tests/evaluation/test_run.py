"""`python -m evaluation.run`: the report as data, the same bytes each time, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import detection
from detection.cli import main as telltale
from evaluation.metrics import METRICS
from evaluation.run import main
from pipeline.canonical import Canonical
from pipeline.cli import run_command
from pipeline.geometry import Geometry
from pipeline.harmonise import Harmonise
from pipeline.manifest import check_files, read_sealed
from pipeline.storage import Folder
from tests.bundles import make_bundle
from tests.datasets import make_dataset
from tests.evaluation.conftest import Run

NATIVE = Geometry(mode="native", size=32)
Evaluate = Callable[..., tuple[int, str]]


@pytest.fixture
def evaluate(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Run the command into `tmp_path / "report"`: exit code, standard error."""

    def call(*options: str, bundle: Path | None = None, dataset: Path | None = None) -> tuple[int, str]:
        places = {"--bundle": bundle or run.folder / "model", "--dataset": dataset or run.folder / "dataset"}
        arguments = [text for key, value in places.items() for text in (key, str(value))]
        if "--output" not in options:
            arguments += ["--output", str(tmp_path / "report")]
        code = run_command(main, [*arguments, *options])
        err = capsys.readouterr().err
        assert "Traceback" not in err
        assert "unexpected" not in err
        return code, err

    return call


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return list(pq.read_table(folder / "scores.parquet").to_pylist())


def test_the_report_is_a_manifest_of_its_files(run: Run) -> None:
    folder = Folder(str(run.folder / "report"))
    document = read_sealed(folder, "report.json", "report")
    check_files(folder, document)
    assert [entry["path"] for entry in document["files"]] == ["report.html", "scores.parquet"]
    assert document["parents"] == {"bundle": run.bundle["sha256"], "dataset": run.dataset["sha256"]}
    assert document["chain"] == {
        "raw": run.dataset["parents"]["raw"],
        "dataset": run.dataset["sha256"],
        "stats": run.bundle["parents"]["stats"],
        "shards": run.bundle["parents"]["shards"],
        "bundle": run.bundle["sha256"],
        "trained_on": run.dataset["sha256"],
        "same_dataset": True,
    }
    assert "scikit-learn" in document["libraries"]
    assert str(run.folder) not in json.dumps(document)


def test_every_split_has_every_figure(run: Run) -> None:
    assert list(run.report["splits"]) == sorted(["val", "test", "ood"])
    for name, figures in run.report["splits"].items():
        for metric in METRICS:
            low, high = figures["ci95"][metric]
            assert low <= figures[metric] <= high, (name, metric)
        assert figures["n"] == run.dataset["counts"]["splits"][name]["rows"]
        assert figures["groups"] == run.dataset["counts"]["splits"][name]["groups"]
        assert sum(figures["confusion"].values()) == figures["n_real"] + figures["n_ai"]
    test = run.report["splits"]["test"]
    assert test["confusion"]["fp"] > 0  # the fixture's bundle makes mistakes
    assert test["groups"] == 12


def test_figures_follow_from_the_scores(run: Run) -> None:
    rows = [row for row in rows_of(run.folder / "report") if row["split"] == "test"]
    right = [(row["ai_probability"] >= 0.5) == (row["label"] == 1) for row in rows]
    assert run.report["splits"]["test"]["accuracy"] == pytest.approx(np.mean(right))
    assert all((row["verdict"] == "ai") == (row["ai_probability"] >= 0.5) for row in rows)


def test_ood_is_scored_against_the_real_pictures_of_test_too(run: Run) -> None:
    ood = run.report["splits"]["ood"]
    assert (ood["n"], ood["n_real"], ood["n_ai"]) == (12, 6 + 12, 6)
    assert "12 real pictures of test" in ood["against"]


def test_sources_are_listed_with_the_split_that_counts_and_the_others(run: Run) -> None:
    sources = run.report["by_source"]
    assert set(sources) == {"canon", "nikon", "gan", "vae", "other_camera", "other_generator"}
    assert (sources["gan"]["split"], sources["gan"]["label"], sources["gan"]["n"]) == ("test", "ai", 6)
    assert (sources["gan"]["n_real"], sources["gan"]["n_ai"]) == (12, 6)
    assert sources["gan"]["other_splits"]["val"]["n"] == 4
    assert (sources["other_generator"]["split"], sources["other_generator"]["n_real"]) == ("ood", 18)
    assert (sources["other_camera"]["n_ai"], sources["canon"]["n_ai"]) == (18, 12)


def test_a_name_that_both_labels_use_is_told_apart(evaluate: Evaluate, tmp_path: Path) -> None:
    sources = {"real": ("web",), "ai": ("web",)}
    make_dataset(tmp_path / "dataset", {"test": 4}, sources=sources)
    assert evaluate(dataset=tmp_path / "dataset")[0] == 0
    report = json.loads((tmp_path / "report/report.json").read_bytes())
    assert {key: value["label"] for key, value in report["by_source"].items()} == {"real/web": "real", "ai/web": "ai"}


def test_mistakes_are_the_most_certain_ones(run: Run, evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate("--set", "mistakes=2")[0] == 0
    report = json.loads((tmp_path / "report/report.json").read_bytes())
    rows = [row for row in rows_of(run.folder / "report") if row["split"] != "val" and row["label"] == 0]
    worst = sorted((row["ai_probability"] for row in rows if row["verdict"] == "ai"), reverse=True)
    assert len(worst) > 2
    assert [item["ai_probability"] for item in report["mistakes"]["called_ai"]] == worst[:2]
    assert report["mistakes"]["called_real"] == []


def test_predict_says_of_the_original_file_what_evaluation_says_of_its_row(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row["path"]: row for row in rows_of(run.folder / "report")}
    raw = run.folder / "raw"
    assert telltale(["predict", "--json", "--bundle", str(run.folder / "model"), str(raw)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    judged = [answer for answer in said if Path(answer["path"]).relative_to(raw).as_posix() in rows]
    assert len(judged) == len(rows) == 52
    for answer in judged:
        row = rows[Path(answer["path"]).relative_to(raw).as_posix()]
        assert answer["ai_probability"] == pytest.approx(row["ai_probability"], abs=1e-6)
        assert answer["verdict"] == row["verdict"]


def test_a_row_scores_the_same_alone_and_in_any_company(run: Run) -> None:
    rows = rows_of(run.folder / "report")
    detector = detection.load(str(run.folder / "model"))
    for row in rows[::13]:
        assert detector.probability((run.folder / "raw" / row["path"]).read_bytes()) == row["ai_probability"]


def test_the_same_work_gives_the_same_bytes(
    run: Run, evaluate: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evaluation.scores.cores", lambda: 5)
    assert evaluate()[0] == 0
    for name in ("report.json", "report.html", "scores.parquet"):
        assert (tmp_path / "report" / name).read_bytes() == (run.folder / "report" / name).read_bytes(), name


def test_a_finished_report_is_left_alone(evaluate: Evaluate, tmp_path: Path) -> None:
    assert "written" in evaluate()[1]
    before = (tmp_path / "report/report.json").stat().st_mtime_ns
    code, err = evaluate()
    assert code == 0
    assert "up to date" in err
    assert (tmp_path / "report/report.json").stat().st_mtime_ns == before


def test_other_work_is_refused_unless_told_otherwise(evaluate: Evaluate, tmp_path: Path) -> None:
    evaluate()
    code, err = evaluate("--set", "seed=1")
    assert code == 1
    assert "'config' differs" in err
    assert evaluate("--set", "seed=1", "--update")[0] == 0
    (tmp_path / "report/report.html").write_text("changed")
    code, err = evaluate("--set", "seed=1")
    assert code == 1
    assert "report.html" in err
    assert evaluate("--set", "seed=1", "--overwrite")[0] == 0


def test_a_foreign_folder_is_refused_and_kept(evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/thesis.txt").write_text("years of work")
    code, err = evaluate("--update")
    assert code == 1
    assert "thesis.txt" in err
    assert (tmp_path / "report/thesis.txt").read_text() == "years of work"


def test_what_a_killed_run_left_is_continued(run: Run, evaluate: Evaluate, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/report.html").write_text("<p>half of i")
    assert evaluate()[0] == 0
    assert (tmp_path / "report/report.html").read_text(encoding="utf-8") == run.html


def test_another_dataset_is_allowed_and_said(evaluate: Evaluate, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", {"test": 4}, seed=9)
    assert evaluate(dataset=tmp_path / "dataset")[0] == 0
    report = json.loads((tmp_path / "report/report.json").read_bytes())
    assert report["chain"]["same_dataset"] is False
    assert "not the one that the bundle was trained on" in report["notes"][0]
    assert "trained on another dataset" in (tmp_path / "report/report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("canonical", "named"),
    [
        (Canonical(geometry=Geometry(mode="resize", size=32)), "geometry.mode is native, the bundle has resize"),
        (
            Canonical(geometry=NATIVE, harmonise=Harmonise(quality=70)),
            "harmonise.quality is 90, the bundle has 70",
        ),
    ],
)
def test_pictures_made_in_another_way_are_refused(
    evaluate: Evaluate, tmp_path: Path, canonical: Canonical, named: str
) -> None:
    make_bundle(tmp_path / "model", canonical=canonical)
    code, err = evaluate(bundle=tmp_path / "model")
    assert code == 2
    assert named in err
    assert not (tmp_path / "report").exists()


def test_how_training_rows_were_made_does_not_matter(evaluate: Evaluate, tmp_path: Path) -> None:
    other = Canonical(geometry=NATIVE, harmonise=Harmonise(train_quality_min=50))
    make_bundle(tmp_path / "model", canonical=other)
    assert evaluate(bundle=tmp_path / "model")[0] == 0


@pytest.mark.parametrize(("label", "gone"), [("real", "specificity"), ("ai", "recall")])
def test_one_class_only_gives_nulls_with_reasons(evaluate: Evaluate, tmp_path: Path, label: str, gone: str) -> None:
    dataset = tmp_path / "dataset"
    make_dataset(dataset, {"test": 6})
    keep_one_class(dataset, 1 if label == "real" else 0)
    code, err = evaluate(dataset=dataset)
    assert code == 0
    assert "no split holds both classes" in err
    test = json.loads((tmp_path / "report/report.json").read_bytes())["splits"]["test"]
    assert test["n"] == 6
    assert test["accuracy"] is not None
    for name in (gone, "auc", "balanced_accuracy"):
        assert test[name] is None
        assert test["ci95"][name] is None
        assert f"no {'real' if gone == 'specificity' else 'AI-generated'} pictures" in test["reasons"][name]
    assert test["curves"] is None


def keep_one_class(dataset: Path, label: int) -> None:
    """Take the other class's rows out of a dataset of one split."""
    from pipeline.manifest import FileEntry, file_entries, publish
    from pipeline.parquet import write_parquet

    document = json.loads((dataset / "manifest.json").read_bytes())
    (part,) = dataset.glob("test-*.parquet")
    rows = [row for row in pq.read_table(part).to_pylist() if row["label"] == label]
    part.unlink()
    folder = Folder(str(dataset))
    rejects = next(FileEntry(**entry) for entry in document["files"] if entry["path"] == "rejects.parquet")
    files = file_entries([rejects, write_parquet(folder, "test-00000", rows)])
    publish(folder, "manifest.json", {**document, "files": files}, overwrite=True)


def test_an_empty_split_is_reported_as_such(evaluate: Evaluate, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", {"test": 4})
    assert evaluate(dataset=tmp_path / "dataset")[0] == 0
    report = json.loads((tmp_path / "report/report.json").read_bytes())
    assert report["splits"]["ood"]["n"] == 0
    assert set(report["splits"]["ood"]["reasons"].values()) == {"no pictures"}
    assert report["splits"]["ood"]["confusion"] == {"tn": 0, "fp": 0, "fn": 0, "tp": 0}
    assert "no pictures in ood" in report["untested"][0]


def test_no_rows_at_all_is_a_failure(evaluate: Evaluate, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", {"train": 2})
    code, err = evaluate(dataset=tmp_path / "dataset")
    assert code == 1
    assert "nothing to evaluate" in err
    assert not (tmp_path / "report").exists()


def test_training_rows_may_be_scored_too(evaluate: Evaluate, tmp_path: Path) -> None:
    assert evaluate("--set", "splits=[train, test]")[0] == 0
    report = json.loads((tmp_path / "report/report.json").read_bytes())
    assert set(report["splits"]) == {"train", "test"}
    assert any(note.startswith("train:") for note in report["notes"])


def test_a_damaged_part_is_named(run: Run, evaluate: Evaluate, tmp_path: Path) -> None:
    copy = shutil.copytree(run.folder / "dataset", tmp_path / "dataset")
    (part,) = copy.glob("test-*.parquet")
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    code, err = evaluate(dataset=copy)
    assert code == 1
    assert str(part) in err
    part.unlink()
    code, err = evaluate(dataset=copy)
    assert code == 1
    assert f"{part}: missing" in err
    assert not (tmp_path / "report").exists()


def test_a_dataset_of_another_schema_version_is_refused(evaluate: Evaluate, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", {"test": 2}, changes={"schema_version": 99})
    code, err = evaluate(dataset=tmp_path / "dataset")
    assert code == 1
    assert "schema version 99" in err


def test_a_dataset_that_hides_how_it_was_made_is_refused(evaluate: Evaluate, tmp_path: Path) -> None:
    make_dataset(tmp_path / "dataset", {"test": 2}, changes={"config": {}})
    code, err = evaluate(dataset=tmp_path / "dataset")
    assert code == 1
    assert "does not say how its pictures were made" in err


def test_what_is_missing_is_named(run: Run, evaluate: Evaluate, tmp_path: Path) -> None:
    code, err = evaluate(dataset=tmp_path / "nowhere")
    assert code == 1
    assert "nowhere" in err
    code, err = evaluate(bundle=tmp_path / "nowhere")
    assert code == 2
    assert "no bundle there" in err
    copy = shutil.copytree(run.folder / "model", tmp_path / "model")
    with open(copy / "model.onnx", "ab") as stream:
        stream.write(b"\0")
    code, err = evaluate(bundle=copy)
    assert code == 1
    assert "model.onnx: changed" in err


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("splits=[test, tset]", "splits"),
        ("splits=[]", "splits"),
        ("bootstrap_samples=5", "bootstrap_samples"),
        ("bootstrap_sample=500", "did you mean 'bootstrap_samples'"),
    ],
)
def test_wrong_settings_exit_2(evaluate: Evaluate, item: str, message: str) -> None:
    code, err = evaluate("--set", item)
    assert code == 2
    assert message in err


def test_a_full_disk_leaves_no_report(evaluate: Evaluate, tiny_disk: Path) -> None:
    filler = tiny_disk / "filler"
    filler.write_bytes(bytes(1000 * 1024))
    code, err = evaluate("--output", str(tiny_disk / "report"))
    assert code == 1
    assert "disk is full" in err
    assert not (tiny_disk / "report/report.json").exists()
    filler.unlink()
    assert evaluate("--output", str(tiny_disk / "report"))[0] == 0
