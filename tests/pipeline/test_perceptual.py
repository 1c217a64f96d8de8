"""Perceptual signatures: the same picture at other sizes and encodings, and not another picture."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.perceptual import COARSE_BITS, SIGNATURE_BYTES, NearDuplicates, alike, coarse, signature, stack
from tests.pictures import photo

Pixels = NDArray[np.uint8]
LIMITS = NearDuplicates()


def _resized(pixels: Pixels, factor: float, resampling: Image.Resampling = Image.Resampling.LANCZOS) -> Pixels:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(width * factor), round(height * factor)), resampling))


def _jpeg(pixels: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def _resynthesised(pixels: Pixels) -> Pixels:
    """What a small auto-encoder would leave: blur and noise, at about 26 dB."""
    soft = _resized(_resized(pixels, 0.25, Image.Resampling.BICUBIC), 4, Image.Resampling.BICUBIC)
    return np.clip(soft + np.random.default_rng(0).normal(0, 8, soft.shape), 0, 255).astype(np.uint8)


SAME: dict[str, Callable[[Pixels], Pixels]] = {
    "jpeg 60": lambda pixels: _jpeg(pixels, 60),
    "jpeg 30": lambda pixels: _jpeg(pixels, 30),
    "0.29 of the size": lambda pixels: _resized(pixels, 0.29),
    "0.29 of the size, bilinear, jpeg 60": lambda pixels: _jpeg(_resized(pixels, 0.29, Image.Resampling.BILINEAR), 60),
    "twice the size": lambda pixels: _resized(pixels, 2),
    "darker": lambda pixels: (pixels * 0.85).astype(np.uint8),
    "brighter": lambda pixels: np.clip(pixels.astype(np.int16) + 12, 0, 255).astype(np.uint8),
    "re-synthesised": _resynthesised,
}


def _alike(one: bytes | None, other: bytes | None, limits: NearDuplicates = LIMITS) -> bool:
    assert one is not None
    assert other is not None
    marks = stack([one, other])
    return bool(alike(marks[0], marks[1:], limits)[0])


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("seed", range(5))
def test_the_same_picture_changed_a_little_is_alike(name: str, seed: int) -> None:
    pixels = photo(seed, 400, 320)
    assert _alike(signature(pixels), signature(SAME[name](pixels)))


def test_different_pictures_are_not_alike() -> None:
    marks = [mark for seed in range(60) if (mark := signature(photo(seed, 128, 96)))]
    assert len(marks) == 60
    block = stack(marks)
    assert [int(alike(mark, block, LIMITS).sum()) for mark in block] == [1] * 60


def test_the_coarse_bits_are_the_first_ones() -> None:
    mark = signature(photo(1, 128, 96))
    assert mark is not None
    assert len(mark) == SIGNATURE_BYTES
    assert coarse(mark) == int.from_bytes(mark, "big") >> (8 * SIGNATURE_BYTES - COARSE_BITS)


def test_the_fine_bits_part_what_the_coarse_ones_do_not() -> None:
    pixels = photo(2, 128, 96)
    mark = signature(pixels)
    assert mark is not None
    other = mark[:8] + bytes(byte ^ 0xFF for byte in mark[8:20]) + mark[20:]
    assert coarse(mark) == coarse(other)
    assert not _alike(mark, other)


def test_soft_pictures_need_a_closer_match() -> None:
    """A few bits that differ say little of a picture full of detail, much of one with ten bits set in all."""
    detailed, soft = bytes([0b10101010] * 32), bytes([0b11110000] + [0] * 7 + [0b10101010] + [0] * 23)
    for mark, expected in ((detailed, True), (soft, False)):
        changed = mark[:10] + bytes(byte ^ 0b1111 for byte in mark[10:12]) + mark[12:]
        assert _alike(mark + bytes(3), changed + bytes(3)) is expected


def test_another_colour_parts() -> None:
    mark = signature(photo(3, 128, 96))
    assert mark is not None
    reddened = mark[:-3] + bytes([(mark[-3] + 100) % 256]) + mark[-2:]
    assert not _alike(mark, reddened)
    assert _alike(mark, reddened, NearDuplicates(colour_distance=255))


@pytest.mark.parametrize("level", [0, 128, 255])
def test_a_blank_picture_has_no_signature(level: int) -> None:
    noise = np.random.default_rng(0).normal(level, 2, (200, 300, 3))
    assert signature(np.clip(noise, 0, 255).astype(np.uint8)) is None


def test_a_gradient_has_no_signature() -> None:
    rows, columns = np.mgrid[0:200, 0:300]
    sky = np.stack([60 + rows / 4 + columns / 6] * 3, axis=-1)
    assert signature(sky.astype(np.uint8)) is None


@pytest.mark.parametrize("shape", [(32, 32), (33, 500), (500, 33)])
def test_any_size_has_a_signature(shape: tuple[int, int]) -> None:
    assert signature(photo(4, *shape)) is not None
