"""Variants: each name does what it says, is stored without loss, and nothing else is taken."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode import decode_canonical
from pipeline.errors import ConfigError
from pipeline.variants import EXACT, check_variants, encode_lossless, transform
from tests.pictures import photo

Array = np.ndarray
LETTERS = np.array([[1, 2], [3, 4]], np.uint8)[..., None].repeat(3, axis=2)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", [[1, 2], [3, 4]]),
        ("hflip", [[2, 1], [4, 3]]),
        ("vflip", [[3, 4], [1, 2]]),
        ("rot90", [[2, 4], [1, 3]]),  # counter-clockwise: what was right is on top
        ("rot180", [[4, 3], [2, 1]]),
        ("rot270", [[3, 1], [4, 2]]),
        ("transpose", [[1, 3], [2, 4]]),
    ],
)
def test_exact_variants_move_pixels(name: str, expected: list[list[int]]) -> None:
    result = transform(name)(LETTERS)
    assert result[..., 0].tolist() == expected
    assert result.flags.c_contiguous
    assert result.dtype == np.uint8


def test_the_table_above_has_every_exact_variant() -> None:
    assert EXACT == ("identity", "hflip", "vflip", "rot90", "rot180", "rot270", "transpose")


@pytest.mark.parametrize("name", [*EXACT, "rotate15", "rotate-7.5", "rotate179.5", "rotate0.25"])
@pytest.mark.parametrize("size", [32, 64])
def test_stored_variant_decodes_to_the_transformed_pixels(name: str, size: int) -> None:
    pixels = transform(name)(photo(3, size, size))
    assert pixels.shape == (size, size, 3)
    np.testing.assert_array_equal(decode_canonical(encode_lossless(pixels)), pixels)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40), st.sampled_from([0, 1, 2, 255]))
def test_any_pixels_come_back(seed: int, height: int, width: int, top: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, top, (height, width, 3), np.uint8, endpoint=True)
    np.testing.assert_array_equal(decode_canonical(encode_lossless(pixels)), pixels)


def test_rotation_is_counter_clockwise_about_the_centre() -> None:
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[30:34, 40:44] = 255  # at three o'clock, ten pixels from the centre (31.5, 31.5)
    for name, where in [("rotate45", (24.4, 38.6)), ("rotate-45", (38.6, 38.6)), ("rotate135", (24.4, 24.4))]:
        bright = np.argwhere(transform(name)(pixels)[..., 0] > 128).mean(axis=0)
        np.testing.assert_allclose(bright, where, atol=0.7)


@pytest.mark.parametrize("degrees", [15, 45, 135, -7.5])
def test_rotation_fills_corners_by_reflection(degrees: float) -> None:
    """The margin is wide enough: with any wider one, the pixels are the same."""
    rotated = transform(f"rotate{degrees:g}")(photo(1, 64, 64))
    wide = np.pad(photo(1, 64, 64), ((64, 64), (64, 64), (0, 0)), mode="reflect")
    larger = np.asarray(Image.fromarray(wide).rotate(degrees, Image.Resampling.BICUBIC))[64:128, 64:128]
    np.testing.assert_array_equal(rotated, larger)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hflp"], "did you mean 'hflip'"),
        (["rot45"], "unknown variant 'rot45'"),
        (["blur"], "known: identity, hflip"),
        ([""], "unknown variant ''"),
        (["HFLIP"], "unknown variant 'HFLIP'"),
        (["rotate"], "unknown variant 'rotate'"),
        (["rotatenan"], "unknown variant 'rotatenan'"),
        (["rotate1e1"], "unknown variant 'rotate1e1'"),
        (["rotate90"], "write 'rotate90' as 'rot90'"),
        (["rotate-90"], "write 'rotate-90' as 'rot270'"),
        (["rotate0"], "write 'rotate0' as 'identity'"),
        (["rotate200"], "between -180 and 180"),
        (["rotate15.0"], "write 'rotate15.0' as 'rotate15'"),
        (["rotate007"], "write 'rotate007' as 'rotate7'"),
        (["identity", "hflip", "identity"], "'identity' is there twice"),
        ([], "the list is empty"),
    ],
)
def test_wrong_names_are_refused_with_the_cure(names: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_variants(names)
    assert message in str(caught.value)


def test_right_names_are_taken() -> None:
    check_variants([*EXACT, "rotate15", "rotate-15", "rotate7.5", "rotate0.001"])


def test_stored_bytes_do_not_depend_on_the_processor() -> None:
    """libwebp chooses its routines by what the processor can do: without all of them the bytes are the same."""
    pictures = [transform(name)(photo(seed, 96, 96)) for seed in range(4) for name in ("hflip", "rotate15")]
    before = [encode_lossless(pixels) for pixels in pictures]
    restore, asked = _deny_vector_instructions()
    try:
        after = [encode_lossless(pixels) for pixels in pictures]
    finally:
        restore()
    assert asked, "libwebp did not look at the processor again: this test shows nothing"
    assert [hashlib.sha256(data).hexdigest() for data in before] == [hashlib.sha256(data).hexdigest() for data in after]


def _deny_vector_instructions() -> tuple[Callable[[], None], list[int]]:
    """Make libwebp believe in a processor without extensions; gives the way back, and what libwebp asked about."""
    encode_lossless(LETTERS)  # so that the library is there
    mapped = {line.split(maxsplit=5)[-1].strip() for line in Path("/proc/self/maps").read_text().splitlines()}
    libraries = sorted(path for path in mapped if Path(path).name.startswith(("libwebp-", "libwebp.")))
    if not libraries:
        pytest.skip("Pillow's libwebp is not a library of its own here")
    try:  # other packages bring a libwebp too: which is Pillow's does not matter when all of them are told
        hooks = [ctypes.c_void_p.in_dll(ctypes.CDLL(path), "VP8GetCPUInfo") for path in libraries]
    except ValueError:
        pytest.skip("this libwebp does not show its processor hook")
    asked: list[int] = []

    @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)
    def nothing(feature: int) -> int:
        asked.append(feature)
        return 0

    originals = [hook.value for hook in hooks]
    for hook in hooks:
        hook.value = ctypes.cast(nothing, ctypes.c_void_p).value

    def restore() -> None:
        for hook, original in zip(hooks, originals, strict=True):
            hook.value = original
        encode_lossless(LETTERS)  # `nothing` must not be asked once it is gone

    return restore, asked
