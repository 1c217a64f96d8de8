"""The pictures that scaling is measured on: the same every time, both classes alike, none like another."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np

from benchmarks._lake import SIDE, lake, picture, picture_path
from pipeline.decode import decode
from pipeline.perceptual import NearDuplicates, alike, signature, stack


def test_pictures_are_the_same_every_time_and_no_near_duplicates() -> None:
    pictures = [picture(number) for number in range(24)]
    assert all(pixels.shape == (SIDE, SIDE, 3) and pixels.dtype == np.uint8 for pixels in pictures)
    assert np.array_equal(pictures[7], picture(7))
    marks = [mark for pixels in pictures if (mark := signature(pixels))]
    assert len(marks) == len(pictures)
    found = stack(marks)
    assert all(alike(one, found, NearDuplicates()).sum() == 1 for one in found)


def test_lake_lists_as_many_of_each_class_and_format(tmp_path: Path) -> None:
    with lake(tmp_path, 16).open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [picture_path(number) for number in range(16)]
    kinds = Counter((row["label"], decode((tmp_path / row["path"]).read_bytes())[1].format) for row in rows)
    assert kinds == {("real", "JPEG"): 6, ("real", "PNG"): 2, ("ai", "JPEG"): 6, ("ai", "PNG"): 2}
    lake(tmp_path, 8)
    assert len(list(tmp_path.rglob("*.jpg"))) + len(list(tmp_path.rglob("*.png"))) == 16
