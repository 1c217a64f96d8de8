"""Statistics of pictures that are in no dataset: folders, labelled or not, and lists."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mapreduce import stats
from pipeline.canonical import Canonical, canonical_pixels
from pipeline.errors import DataError
from pipeline.geometry import Geometry
from tests.pictures import encoded, html_named_jpg, png_bomb

SMALL = ("--set", "canonical.geometry.size=64")
CANONICAL = Canonical(geometry=Geometry(size=64))


def measure(capsysbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[dict[str, Any], str]:
    """What the command prints for programs and for people."""
    stats.main(["-r", "inline", *arguments, *SMALL])
    printed = capsysbinary.readouterr()
    return json.loads(printed.out), printed.err.decode()


def write(folder: Path, pictures: dict[str, bytes]) -> list[bytes]:
    for path, data in pictures.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return list(pictures.values())


def mean(files: list[bytes]) -> Any:
    pixels = [canonical_pixels(data, CANONICAL).reshape(-1, 3) for data in files]
    return pytest.approx((np.concatenate(pixels).astype(np.float64) / 255).mean(axis=0).tolist(), abs=1e-12)


FILES = {
    "real/canon/a b.jpg": encoded(1, "JPEG", quality=90),
    "real/canon/x#y%20z.png": encoded(2, "PNG", mode="RGBA"),
    'ai/gan/it\'s "quoted".webp': encoded(3, "WEBP"),
    "ai/gan/line\nbreak.jpg": encoded(4, "JPEG"),
    "ai/vae/été-図.tif": encoded(5, "TIFF"),
}


def test_a_labelled_folder_has_labels_and_sources(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    data = write(tmp_path, FILES)
    found, _ = measure(capsysbinary, str(tmp_path))
    assert found["mean"] == mean(data)
    assert found["by_label"]["real"]["mean"] == mean(data[:2])
    assert found["by_source"]["gan"]["mean"] == mean(data[2:4])
    assert {name: part["pictures"] for name, part in found["by_source"].items()} == {"canon": 2, "gan": 2, "vae": 1}
    assert (found["pictures"], found["pixels"], found["rejects"]) == (5, 5 * 64 * 64, 0)
    assert list(found["parents"]) == ["raw"]
    assert found["config"]["canonical"]["geometry"]["size"] == 64


def test_any_other_folder_is_unlabelled(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    data = write(tmp_path, {path.replace("real/", "holiday/").replace("ai/", ""): data for path, data in FILES.items()})
    found, _ = measure(capsysbinary, str(tmp_path))
    assert list(found["by_label"]) == list(found["by_source"]) == ["unlabelled"]
    assert found["mean"] == mean(data)


def test_a_list_names_pictures_and_their_labels(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    data = write(tmp_path, {"one.jpg": encoded(1, "JPEG"), "sub/two three.png": encoded(2, "PNG")})
    write(tmp_path, {"unlisted.png": encoded(9, "PNG")})
    (tmp_path / "list.csv").write_text("path,label,source\none.jpg,real,canon\nsub/two three.png,ai,gan\n")
    found, _ = measure(capsysbinary, str(tmp_path / "list.csv"))
    assert found["by_source"]["gan"]["mean"] == mean(data[1:])
    assert found["pictures"] == 2


def test_a_layout_can_be_named(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(tmp_path, {"train/REAL/1.png": encoded(1, "PNG"), "test/FAKE/2.png": encoded(2, "PNG")})
    found, _ = measure(capsysbinary, str(tmp_path), "--set", "layout=cifake")
    assert sorted(found["by_source"]) == ["cifar10", "stable_diffusion_1_4"]


@pytest.mark.parametrize(("runner", "per_task"), [("inline", 1), ("inline", 2), ("local", 2)])
def test_the_size_of_a_task_changes_no_byte(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes], runner: str, per_task: int
) -> None:
    write(tmp_path, FILES)
    stats.main(["-r", "inline", str(tmp_path), *SMALL])
    expected = capfdbinary.readouterr().out
    stats.main(["-r", runner, str(tmp_path), *SMALL, "--set", f"pictures_per_task={per_task}"])
    assert capfdbinary.readouterr().out == expected


BAD = {
    "empty": (b"", "empty"),
    "html": (html_named_jpg(), "not_an_image"),
    "bomb": (png_bomb(), "too_many_pixels"),
    "cut": (encoded(1, "JPEG")[:-40], "truncated"),
    "animated": (encoded(1, "WEBP", frames=3), "animated"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_counted_and_named(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], name: str) -> None:
    data = write(tmp_path, FILES)
    write(tmp_path, {f"real/canon/{name}.jpg": BAD[name][0]})
    found, said = measure(capsysbinary, str(tmp_path), "--set", "max_reject_fraction=0.5")
    assert (found["pictures"], found["rejects"]) == (5, 1)
    assert found["mean"] == mean(data)
    assert f"rejected 'real/canon/{name}.jpg': {BAD[name][1]}: " in said
    assert "rejects 1" in said


def test_links_in_a_loop_are_rejects(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(tmp_path, FILES)
    (tmp_path / "real" / "canon" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "real" / "canon" / "up").symlink_to(tmp_path / "real", target_is_directory=True)
    found, said = measure(capsysbinary, str(tmp_path), "--set", "max_reject_fraction=0.5")
    assert found["pictures"] == 5
    assert "rejected 'real/canon/loop.jpg': unreadable: " in said
    assert "loop of symbolic links" in said


def test_a_name_that_is_no_text_stops_nothing(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(tmp_path, {"a.png": encoded(1, "PNG")})
    (tmp_path / os.fsdecode(b"caf\xe9.png")).write_bytes(encoded(2, "PNG"))
    found, _ = measure(capsysbinary, str(tmp_path))
    assert found["pictures"] == 2


def test_many_rejects_are_summed_up(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(tmp_path, {"good.png": encoded(1, "PNG"), **{f"bad-{n:02d}.png": b"no picture" for n in range(30)}})
    _, said = measure(capsysbinary, str(tmp_path), "--set", "max_reject_fraction=1.0")
    assert "rejected 'bad-19.png'" in said
    assert "bad-20.png" not in said
    assert "… and 10 more rejected" in said


def test_too_many_rejects_fail(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(tmp_path, {**FILES, "real/canon/bad.jpg": b""})
    with pytest.raises(DataError, match=r"1 of 6 files cannot be used, more than max_reject_fraction \(0.05\)"):
        stats.main(["-r", "inline", str(tmp_path), *SMALL])


@pytest.mark.parametrize("limit", ["0.05", "1.0"])
def test_nothing_but_rejects_fails(tmp_path: Path, limit: str) -> None:
    write(tmp_path, {"bad.jpg": b"no picture"})
    with pytest.raises(DataError, match="none of its 1 files"):
        stats.main(["-r", "inline", str(tmp_path), "--set", f"max_reject_fraction={limit}"])


def test_the_same_pictures_are_measured_once(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    write(tmp_path / "pictures", FILES)
    command = [str(tmp_path / "pictures"), "--output", str(tmp_path / "stats.json")]
    stats.main(["-r", "inline", *command, *SMALL])
    stats.main(["-r", "inline", *command, *SMALL])
    assert b"up to date" in capsysbinary.readouterr().err
    write(tmp_path / "pictures", {"real/canon/new.png": encoded(7, "PNG")})
    stats.main(["-r", "inline", *command, *SMALL, "--update"])
    assert json.loads((tmp_path / "stats.json").read_bytes())["pictures"] == 6
