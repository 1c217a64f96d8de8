"""Canonical pixels: square, harmonised once, the same from any container of the same pixels' file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.canonical import Canonical, canonical_pixels, canonicalise, square
from pipeline.decode import decode_canonical
from pipeline.geometry import Geometry, to_geometry
from pipeline.harmonise import Harmonise, draw_quality, harmonise
from tests.pictures import encoded, photo


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (33, 1000), (64, 64), (65, 64), (40, 50)])
@pytest.mark.parametrize("mode", ["resize", "native"])
def test_every_shape_becomes_the_square(shape: tuple[int, int], mode: str) -> None:
    pixels = photo(1, shape[1], shape[0])
    result = to_geometry(pixels, Geometry(mode=mode, size=64))  # type: ignore[arg-type]
    assert result.shape == (64, 64, 3)
    assert result.dtype == np.uint8
    assert result.flags.c_contiguous


def test_native_crops_the_centre_untouched_and_resize_keeps_what_fits() -> None:
    pixels = photo(2, 200, 100)
    assert np.array_equal(to_geometry(pixels, Geometry("native", 64)), pixels[18:82, 68:132])
    assert np.array_equal(to_geometry(photo(2, 64, 64), Geometry("resize", 64)), photo(2, 64, 64))


def test_training_qualities_follow_the_hash_and_fill_the_range_evenly() -> None:
    setting = Harmonise(train_quality_min=80, train_quality_max=89)
    drawn = [draw_quality(f"{n:064x}", setting) for n in range(5000)]
    assert drawn == [draw_quality(f"{n:064x}", setting) for n in range(5000)]
    counts = np.bincount(drawn)[80:]
    assert counts.shape == (10,)
    assert (abs(counts - 500) < 5 * 500**0.5).all()


def test_serving_uses_the_one_fixed_quality() -> None:
    setting, data = Canonical(geometry=Geometry(size=64)), encoded(3, "PNG")
    assert canonicalise(data, setting).quality == setting.harmonise.quality
    assert canonicalise(data, setting, training=True).quality == draw_quality(
        canonicalise(data, setting).image_id, setting.harmonise
    )


def test_the_stored_picture_decodes_to_the_pixels_that_serving_sees() -> None:
    setting, data = Canonical(geometry=Geometry(size=64)), encoded(4, "JPEG")
    assert np.array_equal(decode_canonical(canonicalise(data, setting).image), canonical_pixels(data, setting))


def test_the_class_cannot_be_told_by_the_container() -> None:
    """The same picture as PNG and BMP is the same canonical file: both went through one codec."""
    pixels, files = photo(5, 80, 80), []
    for kind in ("PNG", "BMP", "TIFF"):
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, kind)
        files.append(canonicalise(stream.getvalue(), Canonical(geometry=Geometry(size=64))).image)
    assert files[0] == files[1] == files[2]
    assert files[0][:2] == b"\xff\xd8"


def test_quality_and_subsampling_are_what_was_asked_for() -> None:
    pixels = square(encoded(6, "PNG"), Canonical(geometry=Geometry(size=64)))[0]
    for subsampling, factors in (("420", (2, 2)), ("422", (2, 1)), ("444", (1, 1))):
        data = harmonise(pixels, 90, Harmonise(subsampling=subsampling))  # type: ignore[arg-type]
        with Image.open(io.BytesIO(data)) as image:
            assert image.layer[0][1:3] == factors  # type: ignore[attr-defined]
            assert image.quantization[0][0] == 3  # type: ignore[attr-defined]  # the standard table at quality 90
