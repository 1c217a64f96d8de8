"""The grid that people look at: it shows the pictures that the trainer would see."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.cli import run_command
from pipeline.errors import IntegrityError, StorageError, TelltaleError, UsageError
from tests.training.runs import make_run
from training.inputs import read_inputs
from training.loader import Batches
from training.robust_config import Crop, Jpeg, Robust
from training.show import main

ON = ("--set", "seed=5", "--set", "robust.jpeg.probability=1", "--set", "robust.crop.probability=1")
SAME = Robust(jpeg=Jpeg(probability=1.0), crop=Crop(probability=1.0))


def show(run: Path, *options: str) -> NDArray[np.uint8]:
    output = run.parent / "grid.png"
    assert main(["--run-dir", str(run), "--output", str(output), *options]) == 0
    with Image.open(output) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


def numbers(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number a pixel, which is quick to look for."""
    return pixels @ np.array([1 << 16, 1 << 8, 1])


def places(sheet: NDArray[np.uint8], picture: NDArray[np.uint8], times: int = 8) -> list[tuple[int, int]]:
    """Where in the sheet the picture lies, enlarged."""
    large = picture.repeat(times, axis=0).repeat(times, axis=1)
    height, width = large.shape[:2]
    row = large[0].tobytes()
    corners = np.argwhere(numbers(sheet)[: 1 - height, : 1 - width] == numbers(large)[0, 0])
    return [
        (int(top), int(left))
        for top, left in corners
        if sheet[top, left : left + width].tobytes() == row
        and np.array_equal(sheet[top : top + height, left : left + width], large)
    ]


def epoch(run: Path, number: int, config: Robust | None) -> dict[str, tuple[int, NDArray[np.uint8]]]:
    """By id: the label and the pixels of every training row as the trainer's loader gives them."""
    inputs = read_inputs(str(run / "shards"), str(run / "stats.json"))
    return {
        name: (int(label), pixels.numpy())
        for batch in Batches(inputs, inputs.train, 32, 0, 2, seed=5, robust=config).epoch(number)
        for name, label, pixels in zip(batch.ids, batch.labels, batch.pixels, strict=True)
    }


def test_a_row_has_the_picture_as_stored_and_as_the_trainers_epochs_see_it(fresh: Path) -> None:
    sheet = show(fresh, *ON, "--rows", "4", "--epochs", "2")
    columns = [epoch(fresh, 0, None), epoch(fresh, 0, SAME), epoch(fresh, 1, SAME)]
    drawn: list[tuple[list[tuple[int, int]], int]] = []
    for name, (label, pixels) in columns[0].items():
        if found := places(sheet, pixels):
            views = [found, *(places(sheet, column[name][1]) for column in columns[1:])]
            assert [len(view) for view in views] == [1, 1, 1]
            drawn.append(([place for view in views for place in view], label))
    drawn.sort()
    assert [label for _, label in drawn] == [0, 1, 0, 1]
    for line, _ in drawn:
        assert len({top for top, _ in line}) == 1
        assert [left for _, left in line] == [left for _, left in drawn[0][0]]
        assert line == sorted(line)


def test_the_grid_is_the_same_every_time_and_another_for_another_seed(fresh: Path) -> None:
    first = show(fresh, *ON)
    assert np.array_equal(first, show(fresh, *ON))
    assert not np.array_equal(first, show(fresh, *ON, "--set", "seed=6"))


def test_with_nothing_on_it_says_so_and_shows_the_stored_pictures(
    fresh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sheet = show(fresh, "--rows", "2", "--epochs", "3")
    assert "training.robust is off" in capsys.readouterr().err
    counts = [len(places(sheet, pixels)) for _, pixels in epoch(fresh, 0, None).values()]
    assert sorted(count for count in counts if count) == [4, 4]


def test_more_rows_than_there_are_pictures_show_what_there_is(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"train": 1, "val": 1})
    both = show(run, "--rows", "4", "--epochs", "1")  # each picture has two variants
    assert np.array_equal(both, show(run, "--rows", "400", "--epochs", "1"))


def test_large_pictures_are_shown_at_their_own_size(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", {"train": 1, "val": 1}, size=272)
    sheet = show(run, "--rows", "2", "--epochs", "1")
    assert sum(len(places(sheet, pixels, times=1)) for _, pixels in epoch(run, 0, None).values()) == 4


def test_shards_and_statistics_can_lie_anywhere(fresh: Path, tmp_path: Path) -> None:
    options = ["--shards", str(fresh / "shards"), "--stats", str(fresh / "stats.json"), "--output"]
    assert main([*options, str(tmp_path / "other.png"), *ON]) == 0
    with Image.open(tmp_path / "other.png") as picture:
        assert np.array_equal(np.asarray(picture), show(fresh, *ON))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "0"], "--rows must be at least 1, got 0"),
        (["--epochs", "-1"], "--epochs must be at least 1, got -1"),
        (["--set", "robust.jpeg.probability=2"], r"'robust\.jpeg\.probability'"),
        (["--config", "nowhere.yaml"], "no such configuration file"),
    ],
)
def test_bad_usage_is_refused_by_name(prepared: Path, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        main(["--run-dir", str(prepared), "--output", str(tmp_path / "grid.png"), *options])
    assert not (tmp_path / "grid.png").exists()


def test_without_a_run_folder_it_asks_for_shards(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--shards is missing"):
        main(["--output", str(tmp_path / "grid.png")])


def test_a_damaged_shard_is_told(fresh: Path) -> None:
    path = min((fresh / "shards").glob("train-*"))
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(IntegrityError, match=path.name):
        show(fresh)


def test_a_grid_that_cannot_be_written_is_told(fresh: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        main(["--run-dir", str(fresh), "--output", str(tmp_path / "taken")])


def test_the_command_ends_with_a_message_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "training.show", "--run-dir", str(tmp_path), "--output", str(tmp_path / "g.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.match("error: .*shards: no finished shards there", done.stderr)
    assert "Traceback" not in done.stderr


def test_errors_become_exit_codes(prepared: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(prepared, tmp_path / "run"))
    (run / "stats.json").unlink()
    arguments = ["--run-dir", str(run), "--output", str(tmp_path / "grid.png")]
    with pytest.raises(TelltaleError) as caught:
        main(arguments)
    assert run_command(main, arguments) == caught.value.exit_code
    assert run_command(main, [*arguments, "--rows", "0"]) == 2
