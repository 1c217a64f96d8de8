"""Ingest by real Spark: the same dataset whoever makes it, every file accounted for, nothing half-made ever read."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import content
from pipeline.canonical import Canonical, canonicalise
from pipeline.cli import run_command
from pipeline.config import build
from pipeline.decode import decode_canonical
from pipeline.manifest import check_files, leftovers, read_sealed
from pipeline.parquet import open_parquet
from pipeline.records import REJECT_SCHEMA, SPLITS
from pipeline.storage import Folder
from pipeline.verify import check_raw
from spark_jobs import _near, _waves, ingest
from spark_jobs._write import write_part
from tests.conftest import ROOT
from tests.pictures import encoded, html_named_jpg, photo
from tests.runs import kill_tree
from tests.spark_jobs.conftest import set_property

SCRIPT = str(ROOT / "spark_jobs" / "ingest.py")
SETTINGS = (
    "canonical.geometry.size=32",
    "rows_per_part=24",
    "max_reject_fraction=0.2",
    "split.ood_sources=[new]",
    "split.fractions={train: 0.6, val: 0.2, test: 0.2}",
)
NAMES = ["a b.jpg", "50%41.jpg", "no#1.jpg", "quo'te\".jpg", "line\nbreak.jpg", "größe-写真.jpg", "back\\slash.jpg"]


def _saved(pixels: Any, fmt: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(pixels) if isinstance(pixels, np.ndarray) else pixels).save(buffer, fmt, **options)
    return buffer.getvalue()


def _write(root: Path, files: dict[str, bytes]) -> None:
    for path, data in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def _pictures(count: int = 30) -> dict[str, bytes]:
    """Ordinary pictures of two sources and of one for ood."""
    files = {f"real/camera/{k}.jpg": encoded(k, "JPEG", width=64, height=48) for k in range(count)}
    files |= {f"ai/gan/{k}.png": encoded(100 + k, "PNG", width=48, height=48) for k in range(count)}
    return files | {f"ai/new/{k}.webp": encoded(200 + k, "WEBP", width=48, height=64) for k in range(4)}


def _specials() -> dict[str, bytes]:
    """Whatever ingest must tell apart."""
    scene, pair = photo(300, 300, 240), photo(301, 96, 96)
    half = Image.fromarray(scene).resize((90, 72), Image.Resampling.LANCZOS)
    return {
        **{f"real/odd names/{name}": encoded(400 + k, "JPEG") for k, name in enumerate(NAMES)},
        "real/camera/copy of 3.jpg": encoded(3, "JPEG", width=64, height=48),
        "real/camera/scene.png": _saved(scene, "PNG"),
        "real/other/scene small.jpg": _saved(half, "JPEG", quality=60),
        "real/other/scene.bmp": _saved(scene, "BMP"),
        "real/camera/pair.png": _saved(pair, "PNG"),
        "ai/gan/pair.jpg": _saved(pair, "JPEG", quality=50),
        "real/camera/both.png": encoded(500, "PNG"),
        "ai/gan/both.bmp": encoded(500, "BMP"),
        "real/camera/page.jpg": html_named_jpg(),
        "ai/gan/cut.jpg": encoded(501, "JPEG")[:-300],
        "ai/gan/empty.png": b"",
        "real/loose.jpg": encoded(502, "JPEG"),
    }


REASONS = {
    "ai/gan/both.bmp": "cross_label_pixels",
    "ai/gan/cut.jpg": "truncated",
    "ai/gan/empty.png": "empty",
    "ai/gan/\\xff.png": "bad_name",
    "real/camera/both.png": "cross_label_pixels",
    "real/camera/copy of 3.jpg": "duplicate",
    "real/camera/loop.jpg": "unreadable",
    "real/camera/page.jpg": "not_an_image",
    "real/loose.jpg": "no_source",
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of raw pictures with everything in it; its name is an awkward one."""
    root = tmp_path_factory.mktemp("a place") / "50% of #1, 'größer'\nraw"
    _write(root, {**_pictures(), **_specials()})
    (root / "real/camera/loop.jpg").symlink_to("loop.jpg")
    with open(os.fsencode(root) + b"/ai/gan/\xff.png", "wb") as stream:
        stream.write(encoded(503, "PNG"))
    return root


@pytest.fixture(scope="module")
def dataset(raw: Path) -> Path:
    """The dataset as `spark-submit --master local[2]` makes it."""
    outcome = _submit(raw, raw.parent / "dataset", "--master", "local[2]")
    assert outcome.returncode == 0, outcome.stderr
    return raw.parent / "dataset"


def _options(raw: Path, output: Path, settings: Sequence[str] = SETTINGS) -> list[str]:
    words = ["--input", str(raw), "--output", str(output)]
    for setting in settings:
        words += ["--set", setting]
    return words


def _submit(raw: Path, output: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["spark-submit", *options, SCRIPT, *_options(raw, output)],
        capture_output=True,
        text=True,
        check=False,
    )


def _ingest(raw: Path, output: Path, *more: str, settings: Sequence[str] = SETTINGS) -> int:
    return run_command(ingest.main, [*_options(raw, output, settings), *more])


def _read(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_bytes())


def _rows(folder: Path) -> list[dict[str, Any]]:
    """All rows, in the order of the splits and their parts."""
    paths = [entry["path"] for entry in _read(folder)["files"] if entry["path"] != "rejects.parquet"]
    rows: list[dict[str, Any]] = []
    for path in sorted(paths, key=lambda path: (SPLITS.index(path.split("-")[0]), path)):
        with open_parquet(Folder(str(folder)), path) as file:
            rows += file.read().to_pylist()
    return rows


def _rejects(folder: Path) -> list[dict[str, Any]]:
    with open_parquet(Folder(str(folder)), "rejects.parquet", REJECT_SCHEMA) as file:
        rejects: list[dict[str, Any]] = file.read().to_pylist()
    return rejects


def test_every_file_is_accounted_for(raw: Path, dataset: Path) -> None:
    rows, rejects, counts = _rows(dataset), _rejects(dataset), _read(dataset)["counts"]
    files = [path for path in raw.rglob("*") if path.is_symlink() or path.is_file()]
    assert counts["files"] == len(files) == len(rows) + len(rejects)
    assert (counts["rows"], counts["duplicates"], counts["rejected"]) == (len(rows), 1, len(rejects) - 1)
    assert {item["path"]: item["reason"] for item in rejects} == REASONS
    assert [item["path"] for item in rejects] == sorted(REASONS)
    (copy,) = (item for item in rejects if item["reason"] == "duplicate")
    assert copy["duplicate_of"] == "real/camera/3.jpg"
    assert {f"real/odd names/{name}" for name in NAMES} < {row["path"] for row in rows}


def test_manifest_holds_what_it_must(raw: Path, dataset: Path) -> None:
    manifest = read_sealed(Folder(str(dataset)), "manifest.json", "dataset")
    check_files(Folder(str(dataset)), manifest)
    assert check_raw(Folder(str(dataset)), manifest) == manifest["counts"]["files"]
    named = [entry["path"] for entry in manifest["files"]]
    assert sorted(leftovers(Folder(str(dataset)), named)) == ["locations.json", "manifest.json"]
    assert set(manifest["config"]) == {
        *("canonical", "cross_label", "layout", "near_duplicates", "rows_per_part", "split")
    }
    assert manifest["config"]["layout"] == "folders"
    assert build(Canonical, manifest["config"]["canonical"]).geometry.size == 32
    assert str(raw.parent) not in (dataset / "manifest.json").read_text()
    assert str(raw.parent) not in json.dumps(_rejects(dataset))


def test_rows_are_the_canonical_pictures_of_their_files(raw: Path, dataset: Path) -> None:
    setting = build(Canonical, _read(dataset)["config"]["canonical"])
    for row in _rows(dataset):
        picture = canonicalise((raw / row["path"]).read_bytes(), setting, training=row["split"] == "train")
        tables = picture.original.quantization
        expected = {**picture.columns(), "quantization": [list(table) for table in tables] if tables else None}
        assert {key: row[key] for key in expected} == expected
        assert row["variant"] == "identity"
        assert row["label"] == (1 if row["path"].startswith("ai/") else 0)
        assert row["source"] == row["path"].split("/")[1]


def test_content_hash_is_that_of_the_rows_as_read(dataset: Path) -> None:
    manifest, parts = _read(dataset), []
    for split in SPLITS:
        for entry in manifest["files"]:
            if entry["path"].startswith(split):
                with open_parquet(Folder(str(dataset)), entry["path"]) as file:
                    rows = file.read().to_pylist()
                assert [row["image_id"] for row in rows] == sorted(row["image_id"] for row in rows)
                parts.append(content.combine(content.row_digest(row, decode_canonical(row["image"])) for row in rows))
    assert manifest["content_sha256"] == content.combine(bytes.fromhex(part) for part in parts)


def test_a_part_holds_a_range_of_ids(dataset: Path) -> None:
    for split, counts in _read(dataset)["counts"]["splits"].items():
        parts = -(-counts["rows"] // 24)
        for entry in _read(dataset)["files"]:
            if entry["path"].startswith(split):
                with open_parquet(Folder(str(dataset)), entry["path"]) as file:
                    ids = file.read(["image_id"])["image_id"].to_pylist()
                assert {int(name[:16], 16) * parts >> 64 for name in ids} <= {int(entry["path"].split("-")[1])}


def test_groups_are_near_duplicates_at_any_size_and_never_straddle(dataset: Path) -> None:
    rows = {row["path"]: row for row in _rows(dataset)}
    scene = [rows[f"real/{name}"] for name in ("camera/scene.png", "other/scene small.jpg", "other/scene.bmp")]
    pair = [rows["real/camera/pair.png"], rows["ai/gan/pair.jpg"]]
    for group in (scene, pair):
        assert len({row["group_id"] for row in group}) == 1
        assert len({row["split"] for row in group}) == 1
    counts = _read(dataset)["counts"]
    assert counts["groups"] == len({row["group_id"] for row in rows.values()}) == len(rows) - 3
    assert counts["cross_label_groups"] == 1


def test_splits_are_exact_in_every_source(dataset: Path) -> None:
    splits = _read(dataset)["counts"]["splits"]
    assert splits["ood"]["sources"] == {"new": 4}
    for source, count in (("camera", 30), ("gan", 30), ("odd names", 7)):
        for name, fraction in (("train", 0.6), ("val", 0.2), ("test", 0.2)):
            assert abs(splits[name]["sources"].get(source, 0) - fraction * count) <= 3


@pytest.mark.parametrize(
    "properties",
    [
        {"spark.master": "local[1]"},
        {"spark.master": "local[4]"},
        {"spark.master": "local[2]", "spark.default.parallelism": "13"},
    ],
    ids=lambda properties: " ".join(properties.values()),
)
def test_same_manifest_for_any_number_of_workers_and_partitions(
    raw: Path, dataset: Path, tmp_path: Path, properties: dict[str, str]
) -> None:
    for name, value in properties.items():
        set_property(name, value)
    try:
        assert _ingest(raw, tmp_path / "again") == 0
    finally:
        for name in properties:
            set_property(name, None)
    assert (tmp_path / "again/manifest.json").read_bytes() == (dataset / "manifest.json").read_bytes()


def test_after_a_kill_the_same_command_gives_the_same_manifest(
    raw: Path, dataset: Path, tmp_path: Path, master: None
) -> None:
    output = tmp_path / "killed"
    command = ["spark-submit", "--master", "local[1]", SCRIPT, *_options(raw, output)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(output.glob("train-*")):
        time.sleep(0.005)
    kill_tree(process.pid)
    process.wait()
    assert list(output.glob("train-*")), "it never began"
    assert not (output / "manifest.json").exists(), "it was done before it was killed"
    assert _ingest(raw, output) == 0
    assert (output / "manifest.json").read_bytes() == (dataset / "manifest.json").read_bytes()


def test_done_work_is_left_alone(raw: Path, dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in dataset.iterdir()}
    assert _ingest(raw, dataset) == 0
    assert capsys.readouterr().err == f"{dataset}: up to date\n"
    assert {path: path.stat().st_mtime_ns for path in dataset.iterdir()} == before


def test_other_work_is_refused_and_replaced_only_when_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], master: None
) -> None:
    raw, output = tmp_path / "raw", tmp_path / "dataset"
    _write(raw, _pictures(6))
    assert _ingest(raw, output) == 0
    first = (output / "manifest.json").read_bytes()
    assert _ingest(raw, output, "--set", "split.seed=1") == 1
    assert "'config' differs" in capsys.readouterr().err
    _write(raw, {"real/camera/new.jpg": encoded(900, "JPEG")})
    assert _ingest(raw, output) == 1
    assert "'parents' differs" in capsys.readouterr().err
    assert (output / "manifest.json").read_bytes() == first
    assert _ingest(raw, output, "--update") == 0
    assert _read(output)["counts"]["files"] == 17
    assert {path.name for path in output.glob("*.parquet")} == {entry["path"] for entry in _read(output)["files"]}


def test_a_list_gives_labels_splits_and_groups(tmp_path: Path, master: None) -> None:
    raw = tmp_path / "raw"
    _write(raw, _pictures(8))
    lines = ["path,label,source,split,group"]
    lines += [f"real/camera/{k}.jpg,real,canon,{'test' if k < 2 else ''},scene {k}" for k in range(8)]
    lines += [f"ai/gan/{k}.png,ai,vae,{'train' if k < 3 else ''},scene {k}" for k in range(8)]
    (raw / "list.csv").write_text("\n".join(lines))
    assert _ingest(raw / "list.csv", tmp_path / "dataset", settings=SETTINGS[:2]) == 0
    manifest = _read(tmp_path / "dataset")
    assert [item["path"] for item in manifest["inputs"]] == ["list.csv"]
    assert (manifest["counts"]["groups"], manifest["counts"]["cross_label_groups"]) == (8, 8)
    assert manifest["counts"]["moved_groups"] == 2
    splits = {row["path"]: row["split"] for row in _rows(tmp_path / "dataset")}
    assert all(splits[f"real/camera/{k}.jpg"] == splits[f"ai/gan/{k}.png"] for k in range(8))
    assert [splits[f"ai/gan/{k}.png"] for k in range(3)] == ["test", "test", "train"]
    assert check_raw(Folder(str(tmp_path / "dataset")), manifest) == 16


def test_too_many_bad_files_fail_and_publish_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], master: None
) -> None:
    raw, output = tmp_path / "raw", tmp_path / "dataset"
    _write(raw, {**_pictures(4), "ai/gan/page.jpg": html_named_jpg(), "ai/gan/cut.png": encoded(1, "PNG")[:-9]})
    assert _ingest(raw, output, "--set", "max_reject_fraction=0.1") == 1
    message = capsys.readouterr().err
    for words in (
        "2 of 14 files",
        "max_reject_fraction 0.1",
        "not_an_image 1",
        "truncated 1",
        "ai/gan/cut.png",
        "HTML",
    ):
        assert words in message
    assert not (output / "manifest.json").exists()
    assert len(_rejects(output)) == 2
    assert _ingest(raw, output, "--set", "max_reject_fraction=0.2") == 0


def test_a_class_that_is_all_bad_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str], master: None) -> None:
    _write(tmp_path / "raw", {"real/a/1.jpg": encoded(1, "JPEG"), "ai/b/1.jpg": html_named_jpg()})
    assert _ingest(tmp_path / "raw", tmp_path / "out", settings=["max_reject_fraction=1.0"]) == 1
    assert "1 real, 0 ai" in capsys.readouterr().err
    assert not (tmp_path / "out/manifest.json").exists()


def test_a_full_disk_is_said_and_nothing_is_published(
    tmp_path: Path, tiny_disk: Path, capsys: pytest.CaptureFixture[str], master: None
) -> None:
    for label, source in (("real/a", 0), ("ai/b", 100)):
        pictures = {f"{label}/{k}.jpg": encoded(source + k, "JPEG", width=200, height=200) for k in range(30)}
        _write(tmp_path / "raw", pictures)
    assert _ingest(tmp_path / "raw", tiny_disk / "out", settings=["canonical.geometry.size=512"]) == 1
    message = capsys.readouterr().err
    assert "the disk is full" in message
    assert "Traceback" not in message
    assert not (tiny_disk / "out/manifest.json").exists()


def test_a_file_that_changes_meanwhile_is_an_error(tmp_path: Path) -> None:
    _write(tmp_path, {"real/a/1.jpg": encoded(1, "JPEG")})
    line = json.dumps({"split": "train", "part": 0, "rows": [["real/a/1.jpg", 0, "a", "0" * 64, "0" * 16]]})
    found = write_part(line, Folder(str(tmp_path)), Folder(str(tmp_path / "out")), Canonical())
    assert "changed while ingest was reading it" in str(found)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_same_manifest_however_the_work_is_cut(
    raw: Path, dataset: Path, tmp_path: Path, master: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Waves of a few tasks, tasks of a few files, signatures handed over in many pieces."""
    monkeypatch.setattr(_waves, "_LEAST", 1)
    monkeypatch.setattr(_near, "_PER_TASK", 5)
    monkeypatch.setattr(_near, "_TASKS_AT_ONCE", 2)
    assert _ingest(raw, tmp_path / "again", "--set", "files_per_task=3") == 0
    assert (tmp_path / "again/manifest.json").read_bytes() == (dataset / "manifest.json").read_bytes()


@pytest.mark.parametrize(
    ("files", "settings", "code", "words"),
    [
        ([], [], 2, "no such file or folder"),
        (["real/a/1.jpg"], [], 1, "1 real, 0 ai"),
        (["ai/a/1.jpg"], [], 1, "0 real, 1 ai"),
        (["real/a/1.jpg", "ai/b/1.jpg"], ["split.ood_sources=[c]"], 2, "'c' is no source"),
        (["real/a/1.jpg", "ai/b/1.jpg"], ["split.fractions.train=0.9"], 2, "must be 1"),
        (["real/a/1.jpg", "ai/b/1.jpg"], ["layuot=folders"], 2, "did you mean 'layout'"),
        (["photos/1.jpg"], [], 2, "real/<source>"),
    ],
)
def test_what_cannot_end_well_is_said_before_spark_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], files: list[str], settings: list[str], code: int, words: str
) -> None:
    _write(tmp_path / "raw", {path: encoded(k, "JPEG") for k, path in enumerate(files)}) if files else None
    assert _ingest(tmp_path / "raw", tmp_path / "out", settings=settings) == code
    assert words in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("where", ["raw", ".", "raw/real", "raw/ai/new"])
def test_an_output_that_would_harm_the_input_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    _write(tmp_path / "raw", _pictures(1))
    assert _ingest(tmp_path / "raw", tmp_path / where, "--overwrite") == 2
    assert "outside the raw pictures" in capsys.readouterr().err
    assert len(list((tmp_path / "raw").rglob("*.*"))) == 6


@pytest.mark.parametrize("home", ["nowhere", "old"])
def test_without_the_right_java_one_line_says_so(tmp_path: Path, home: str) -> None:
    _write(tmp_path / "raw", _pictures(1))
    if home == "old":
        _write(tmp_path, {"old/bin/java": b"#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n"})
        (tmp_path / "old/bin/java").chmod(0o755)
    outcome = subprocess.run(
        [sys.executable, SCRIPT, *_options(tmp_path / "raw", tmp_path / "out")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAVA_HOME": str(tmp_path / home)},
    )
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("error: ")
    assert "Java" in outcome.stderr
    assert "17" in outcome.stderr
    assert "Traceback" not in outcome.stderr
