"""The demo's photographs: found in installed packages, or a message that names the package."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import SetupError
from training import photographs
from training.photographs import PHOTOGRAPHS, Source, load_photographs, locate


def test_every_photograph_is_found_in_colour_and_no_larger_than_asked() -> None:
    loaded = list(load_photographs(500))
    assert len({photograph.name for photograph in loaded}) == len(PHOTOGRAPHS)
    for photograph in loaded:
        assert photograph.pixels.dtype == np.uint8
        assert photograph.pixels.shape[2] == 3
        assert 256 <= max(photograph.pixels.shape) <= 500
        assert np.ptp(photograph.pixels.astype(int), axis=2).mean() > 4, f"{photograph.name} is grey"


def test_a_small_photograph_is_left_as_it_is() -> None:
    cat = next(photograph for photograph in load_photographs(500) if photograph.source.scene == "cat")
    with Image.open(locate(cat.source)) as original:
        assert np.array_equal(cat.pixels, np.asarray(original.convert("RGB")))


def test_training_photographs_come_at_every_scale_and_the_others_at_one() -> None:
    loaded = {photograph.name: photograph.pixels.shape[:2] for photograph in load_photographs(600, (1.0, 0.5))}
    assert loaded["ihc"] == (512, 512)
    assert loaded["ihc-50"] == (256, 256)
    assert loaded["retina-50"] == (300, 300)
    assert "chelsea" in loaded
    assert "chelsea-50" not in loaded


def test_scenes_are_whole_in_one_split_with_enough_of_them_held_out() -> None:
    splits = defaultdict(set)
    for source in PHOTOGRAPHS:
        splits[source.scene].add(source.split)
    assert all(len(found) == 1 for found in splits.values())
    names = [next(iter(found)) for found in splits.values()]
    assert names.count("test") >= 3
    assert names.count("val") >= 2


def test_the_two_motorcycles_are_one_scene() -> None:
    assert [s.scene for s in PHOTOGRAPHS if "motorcycle" in s.file] == ["motorcycle", "motorcycle"]


def test_a_package_that_is_not_installed_is_named() -> None:
    with pytest.raises(
        SetupError, match=r"'a\.jpg' comes with some-package, which is not installed.*telltale\[train\]"
    ):
        locate(Source("a", "train", "some-package", "no_such_module_here", "a.jpg"))


def test_a_file_that_a_package_lacks_is_named_with_the_package() -> None:
    with pytest.raises(SetupError, match=r"data/gone\.png: missing: .*scikit-image.*--force-reinstall"):
        locate(Source("gone", "train", "scikit-image", "skimage", "data/gone.png"))


def test_a_damaged_file_is_named_with_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "damaged_photographs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "cut.png").write_bytes(locate(PHOTOGRAPHS[0]).read_bytes()[:5000])
    monkeypatch.syspath_prepend(tmp_path)
    source = Source("cut", "train", "some-package", "damaged_photographs", "cut.png")
    monkeypatch.setattr(photographs, "PHOTOGRAPHS", (source,))
    with pytest.raises(SetupError, match=r"cut\.png: .*Reinstall it: .*some-package"):
        list(load_photographs(500))
