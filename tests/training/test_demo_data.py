"""The demo's raw pictures: what is written, what is refused, what a second run does."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.cli import run_command
from pipeline.config import build
from pipeline.manifest import check_files, read_sealed
from pipeline.storage import Folder
from training.demo_config import DemoConfig
from training.demo_data import GENERATOR, OOD_GENERATOR, main, tile_places
from training.photographs import Pixels, load_photographs
from training.resynthesis import psnr

BORDER, TILE, SIDE = 12, 48, 256
SETTINGS = (
    f"longest_side={SIDE}", "train_scales=[1.0, 0.75]", f"tile={TILE}", f"border={BORDER}", "stride=45",
    "autoencoder.steps=4", "autoencoder.batch=4", "autoencoder.crop=32", "autoencoder.channels=8", "min_psnr=24",
)  # fmt: skip
Row = dict[str, str]


def make(output: Path, *options: str, sets: tuple[str, ...] = ()) -> int:
    words = [word for item in (*SETTINGS, *sets) for word in ("--set", item)]
    return run_command(main, ["--output", str(output), *words, *options])


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures, made once; not to be written to."""
    output = tmp_path_factory.mktemp("demo") / "pictures"
    assert make(output) == 0
    return output


@pytest.fixture
def copy(demo: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(demo, tmp_path / "pictures"))


@pytest.fixture(scope="module")
def rows(demo: Path) -> list[Row]:
    with open(demo / "list.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def pixels_of(path: Path) -> Pixels:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_list_names_every_picture_and_nothing_else_is_there(demo: Path, rows: list[Row]) -> None:
    assert list(rows[0]) == ["path", "label", "source", "split", "group"]
    found = {str(path.relative_to(demo)) for path in demo.rglob("*") if path.is_file()}
    assert found == {row["path"] for row in rows} | {"list.csv", "demo.json"}
    for row in rows:
        assert row["path"].startswith(f"{row['label']}/{row['source']}/{row['group']}/")
        assert pixels_of(demo / row["path"]).shape == (TILE, TILE, 3)


def test_every_group_is_whole_in_one_split_but_for_ood_beside_test(rows: list[Row]) -> None:
    splits = defaultdict(set)
    for row in rows:
        splits[row["group"]].add(row["split"])
    assert {frozenset(found) for found in splits.values()} == {
        frozenset({"train"}),
        frozenset({"val"}),
        frozenset({"test", "ood"}),
    }
    assert {row["source"] for row in rows if row["split"] == "ood"} == {OOD_GENERATOR}
    assert {row["split"] for row in rows if row["source"] == OOD_GENERATOR} == {"ood"}


def test_both_classes_have_tiles_at_the_same_places(demo: Path, rows: list[Row]) -> None:
    places = defaultdict(set)
    for row in rows:
        places[row["source"]].add(row["path"].split("/", 2)[2])
    assert places["photograph"] == places[GENERATOR]
    assert places[OOD_GENERATOR] == {
        row["path"].split("/", 2)[2] for row in rows if row["split"] == "test" and row["label"] == "real"
    }
    for row in rows[:: len(rows) // 20]:
        beside = demo / "real" / "photograph" / row["path"].split("/", 2)[2]
        if row["label"] == "ai":
            assert 18 < psnr(pixels_of(beside), pixels_of(demo / row["path"])) < 45


def test_real_tiles_are_the_photographs_own_pixels_away_from_the_border(demo: Path, rows: list[Row]) -> None:
    photographs = {photograph.name: photograph.pixels for photograph in load_photographs(SIDE, (1.0, 0.75))}
    for row in rows:
        name, y, x, _ = Path(row["path"]).name.rsplit("_", 3)
        photograph, top, left = photographs[name], int(y), int(x)
        height, width = photograph.shape[:2]
        assert BORDER <= top <= height - BORDER - TILE
        assert BORDER <= left <= width - BORDER - TILE
        if row["label"] == "real":
            cut = photograph[top : top + TILE, left : left + TILE]
            assert np.array_equal(pixels_of(demo / row["path"]), cut)


def test_nearly_flat_places_are_left_out() -> None:
    pixels = np.full((200, 300, 3), 90, np.uint8)
    pixels[:, 150:] = np.random.default_rng(0).integers(0, 255, (200, 150, 3), dtype=np.uint8)
    config = DemoConfig(tile=48, stride=24, border=12)
    places = tile_places(pixels, config)
    assert places
    assert min(x for _, x in places) + config.tile > 150
    assert len(places) < len(tile_places(pixels, DemoConfig(tile=48, stride=24, border=12, min_deviation=0)))


def test_the_manifest_is_sealed_and_says_how_good_every_photograph_is(demo: Path, rows: list[Row]) -> None:
    document = read_sealed(Folder(str(demo)), "demo.json", "demo")
    check_files(Folder(str(demo)), document)
    names = {photograph.name for photograph in load_photographs(SIDE, (1.0, 0.75))}
    for generator in (GENERATOR, OOD_GENERATOR):
        assert set(document["psnr"][generator]) == names
        assert all(value >= 24 for value in document["psnr"][generator].values())
    assert sum(sum(by_source.values()) for by_source in document["counts"].values()) == len(rows)
    assert document["threads"] == 1
    assert str(demo) not in json.dumps(document)
    assert sys.prefix not in json.dumps(document)


def test_a_second_run_does_nothing(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    assert make(copy) == 0
    assert "up to date" in capsys.readouterr().err
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


def test_what_a_killed_attempt_left_is_continued_to_the_same_bytes(demo: Path, copy: Path) -> None:
    (copy / "demo.json").unlink()
    (copy / "list.csv").unlink()
    tiles = sorted(copy.rglob("*_tile.png"))
    tiles[0].write_bytes(b"half")
    tiles[1].unlink()
    stray = copy / "ai" / GENERATOR / "coffee" / "coffee_0001_0001_tile.png"
    shutil.copy(tiles[2], stray)
    assert make(copy) == 0
    assert not stray.exists()
    assert (copy / "demo.json").read_bytes() == (demo / "demo.json").read_bytes()


def test_other_settings_are_refused_until_update_is_given(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = ("stride=60",)
    assert make(copy, sets=other) == 1
    assert "'config' differs" in capsys.readouterr().err
    assert make(copy, "--update", sets=other) == 0
    document = read_sealed(Folder(str(copy)), "demo.json", "demo")
    assert document["config"]["stride"] == 60
    assert {entry["path"] for entry in document["files"]} | {"demo.json"} == {
        str(path.relative_to(copy)) for path in copy.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("name", ["list.csv", "demo.json", "a tile"])
def test_a_changed_byte_is_noticed(name: str, copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted(copy.rglob("*_tile.png"))[5] if name == "a tile" else copy / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert make(copy) == 1
    message = capsys.readouterr().err
    assert "damaged demo" in message
    assert path.name in message
    assert "--overwrite" in message


@pytest.mark.parametrize("name", ["notes.txt", "holiday.png"])
def test_a_folder_with_other_files_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes(b"mine")
    assert make(tmp_path) == 1
    assert f"did not write ('{name}')" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_overwrite_replaces_other_files(tmp_path: Path) -> None:
    output = tmp_path / "pictures"
    output.mkdir()
    (output / "notes.txt").write_bytes(b"mine")
    assert make(output, "--overwrite", sets=("stride=90",)) == 0
    assert not (output / "notes.txt").exists()
    assert (output / "demo.json").exists()


def test_a_resynthesis_that_is_too_poor_fails_and_publishes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "pictures"
    assert make(output, sets=("min_psnr=90",)) == 1
    assert "under min_psnr (90" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("tile=200", "'tile': needs 224 pixels"),
        ("train_scales=[]", "'train_scales' must be one or more"),
        ("train_scales=[1.0, 1.0]", "'train_scales' must be one or more different"),
        ("train_scales=[2.0]", r"'train_scales' must lie in \(0, 1\]"),
        ("autoencoder.crop=130", r"'autoencoder\.crop': needs 130"),
        ("autoencoder.latents=49", r"'autoencoder\.latents'"),
        ("strides=3", "did you mean 'stride'"),
    ],
)
def test_settings_that_cannot_be_are_refused(
    item: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make(tmp_path / "pictures", sets=(item,)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "pictures").exists()


def test_flatness_that_leaves_no_tile_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make(tmp_path / "pictures", sets=("min_deviation=128",)) == 2
    assert "lower min_deviation" in capsys.readouterr().err
    assert not (tmp_path / "pictures").exists()


def test_a_full_disk_says_so_and_publishes_nothing(tiny_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tiny_disk / "pictures"
    assert make(output, sets=("stride=8", "autoencoder.steps=1")) == 1
    assert "the disk is full" in capsys.readouterr().err
    assert not (output / "demo.json").exists()


def test_a_contact_sheet_shows_every_photograph(copy: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    assert make(copy, "--show", str(sheet)) == 0
    assert pixels_of(sheet).shape == (16 + 19 * 240, 5 * 320, 3)
    assert pixels_of(sheet)[16:].std() > 20


def test_settings_are_checked_without_torch() -> None:
    code = "import sys, training.demo_config; raise SystemExit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_defaults_stand() -> None:
    assert build(DemoConfig, {}) == DemoConfig()
