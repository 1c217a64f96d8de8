"""Robust augmentation: what each operation does, how often, and that it depends on nothing but (seed, epoch, id)."""

from __future__ import annotations

import io
import math
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from pipeline.config import as_dict, build
from pipeline.decode import decode_canonical
from pipeline.errors import ConfigError
from tests.pictures import photo
from training.config import TrainingConfig, result_fields
from training.inputs import read_inputs
from training.loader import Batches
from training.robust import Operation, Pixels, draw, one_thread, robustify
from training.robust_config import Robust

NAMES = [item.name for item in fields(Robust)]
SIZE = 64
CLEAR: dict[str, dict[str, Any]] = {
    "crop": {"min_share": 0.3},
    "rescale": {"factor_min": 0.3, "factor_max": 0.7},
    "blur": {"sigma_min": 0.5},
    "noise": {"sigma_min": 2.0},
    "colour": {},
    "webp": {},
    "jpeg": {},
}
"""Settings under which an operation cannot be missed."""
PAIRS = [("rescale", "factor"), ("blur", "sigma"), ("noise", "sigma"), ("webp", "quality"), ("jpeg", "quality")]


def robust(*names: str, probability: float = 1.0, **changes: Any) -> Robust:
    """The named operations turned on, each with the same changes."""
    return build(Robust, {name: {"probability": probability, **CLEAR[name], **changes} for name in names})


def only(config: Robust, sample: str = "a/identity", seed: int = 0, epoch: int = 0) -> Operation:
    [operation] = draw(config, seed, epoch, sample)
    return operation


@pytest.mark.parametrize("name", NAMES)
def test_an_operation_alone_changes_a_picture_and_nothing_but_its_values(name: str) -> None:
    for number in range(10):
        before = photo(number, SIZE, SIZE)
        pixels = before.copy()
        after = robustify(pixels, robust(name), 0, 0, f"{number}/identity")
        assert (after.shape, after.dtype, after.flags.c_contiguous) == (before.shape, np.uint8, True)
        assert not np.array_equal(after, before)
        assert np.array_equal(pixels, before)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_done_is_a_function_of_seed_epoch_and_sample(name: str) -> None:
    pixels, config = photo(1, SIZE, SIZE), robust(name)
    first = robustify(pixels, config, 3, 5, "a/identity")
    assert np.array_equal(first, robustify(pixels, config, 3, 5, "a/identity"))
    others = [(4, 5, "a/identity"), (3, 6, "a/identity"), (3, 5, "b/identity"), (3, 5, "a/hflip")]
    for seed, epoch, sample in others:
        assert draw(config, seed, epoch, sample) != draw(config, 3, 5, "a/identity")
    assert any(not np.array_equal(first, robustify(pixels, config, *other)) for other in others)


def test_it_is_off_by_default_and_then_hands_the_picture_back() -> None:
    pixels = photo(1, SIZE, SIZE)
    assert not TrainingConfig().robust.on
    assert robustify(pixels, Robust(), 0, 0, "a/identity") is pixels


@pytest.mark.parametrize("name", NAMES)
def test_a_probability_above_none_turns_it_on(name: str) -> None:
    assert robust(name, probability=0.001).on
    assert not robust(name, probability=0.0).on


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_the_share_of_pictures_is_the_probability(name: str, probability: float) -> None:
    config = robust(name, probability=probability)
    hits = sum(bool(draw(config, 0, 0, f"{number}/identity")) for number in range(400))
    assert abs(hits - 400 * probability) <= 4 * math.sqrt(400 * probability * (1 - probability))


def test_operations_come_in_the_order_of_the_settings() -> None:
    assert [operation.name for operation in draw(robust(*NAMES), 0, 0, "a/identity")] == NAMES


def test_turning_an_operation_off_changes_no_draw_of_the_others() -> None:
    everything = draw(robust(*NAMES), 0, 0, "a/identity")
    for name in NAMES:
        assert draw(robust(*(other for other in NAMES if other != name)), 0, 0, "a/identity") == [
            operation for operation in everything if operation.name != name
        ]


@pytest.mark.parametrize(("name", "what"), PAIRS)
def test_parameters_fill_their_range(name: str, what: str) -> None:
    config = robust(name, **{f"{what}_min": 2, f"{what}_max": 4})
    values = [only(config, f"{number}/identity").values[what] for number in range(200)]
    assert 2 <= min(values) < 2.1
    assert 3.9 < max(values) <= 4


def test_an_operation_is_told_in_words() -> None:
    told = [str(operation) for operation in draw(robust(*NAMES), 0, 0, "a/identity")]
    assert all(text.lower().startswith(name) for text, name in zip(told, NAMES, strict=True))
    assert "{" not in "".join(told)


def test_a_crop_is_a_window_of_the_picture_to_the_bit() -> None:
    config, sides, places = robust("crop"), set(), set()
    for number in range(40):
        pixels = photo(number, SIZE, SIZE)
        sample = f"{number}/identity"
        after = robustify(pixels, config, 0, 0, sample)
        side = int(only(config, sample).values["share"] * SIZE)
        first = (SIZE - side) // 2
        window = after[first : first + side, first : first + side]
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (side, side), (0, 1))
        found = np.argwhere((windows == window.transpose(2, 0, 1)).all(axis=(2, 3, 4)))
        assert len(found) == 1
        sides.add(side)
        places.add(tuple(found[0]))
    assert int(0.3 * SIZE) <= min(sides) < 0.4 * SIZE
    assert max(sides) > 0.9 * SIZE
    assert len(places) > 30


def test_around_a_crop_lies_its_reflection() -> None:
    config = robust("crop", min_share=0.6)
    after = robustify(photo(1, SIZE, SIZE), config, 0, 0, "a/identity")
    side = int(only(config).values["share"] * SIZE)
    first = (SIZE - side) // 2
    last = first + side - 1
    assert 0 < first < side
    for away in range(1, first + 1):
        assert np.array_equal(after[:, first - away], after[:, first + away])
        assert np.array_equal(after[first - away], after[first + away])
        assert np.array_equal(after[last + away], after[last - away])


def encoded(pixels: NDArray[np.uint8], quality: int, subsampling: str) -> NDArray[np.uint8]:
    data = simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling, fastdct=False)
    decoded: NDArray[np.uint8] = simplejpeg.decode_jpeg(data, "RGB")
    return decoded


@pytest.mark.parametrize("twice", [0.0, 1.0])
def test_jpeg_is_what_the_codec_of_the_harmoniser_makes_of_it(twice: float) -> None:
    config = robust("jpeg", twice=twice)
    for number in range(6):
        pixels = expected = photo(number, SIZE, SIZE)
        operations = draw(config, 0, 0, f"{number}/identity")
        assert len(operations) == 1 + twice
        for operation in operations:
            expected = encoded(expected, operation.values["quality"], operation.values["subsampling"])
        assert np.array_equal(robustify(pixels, config, 0, 0, f"{number}/identity"), expected)


def test_some_jpegs_are_compressed_twice_with_draws_of_their_own() -> None:
    config = robust("jpeg", twice=0.3)
    drawn = [draw(config, 0, 0, f"{number}/identity") for number in range(400)]
    both = [operations for operations in drawn if len(operations) == 2]
    assert abs(len(both) - 120) <= 4 * math.sqrt(400 * 0.3 * 0.7)
    assert sum(first.values["quality"] != second.values["quality"] for first, second in both) > 0.9 * len(both)
    halves = [operation.values["subsampling"] for operation in chain.from_iterable(drawn)].count("444")
    assert abs(halves - 260) <= 4 * math.sqrt(520 / 4) + 20  # of about 520


def test_webp_is_what_pillow_makes_of_it() -> None:
    pixels, config = photo(1, SIZE, SIZE), robust("webp")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "WEBP", quality=only(config).values["quality"])
    with Image.open(buffer) as picture:
        assert np.array_equal(robustify(pixels, config, 0, 0, "a/identity"), np.asarray(picture.convert("RGB")))


def test_rescaling_down_loses_more_than_rescaling_up() -> None:
    pixels = photo(1, SIZE, SIZE)
    down, up = robust("rescale", factor_min=0.3, factor_max=0.3), robust("rescale", factor_min=2.0, factor_max=2.0)
    lost, kept = (
        np.mean(
            [
                np.abs(robustify(pixels, config, 0, 0, f"{number}/identity").astype(int) - pixels).mean()
                for number in range(8)
            ]
        )
        for config in (down, up)
    )
    assert lost > 2 * kept > 0
    same = robust("rescale", factor_min=1.0, factor_max=1.0)
    assert np.array_equal(robustify(pixels, same, 0, 0, "a/identity"), pixels)


@pytest.mark.parametrize("sigma", [1.0, 3.0])
def test_a_blur_spreads_a_point_by_its_deviation(sigma: float) -> None:
    point = np.zeros((SIZE, SIZE, 3), np.uint8)
    point[32, 20:44] = 255  # a line: of a point's 255 levels too few would be left to measure
    across = robustify(point, robust("blur", sigma_min=sigma, sigma_max=sigma), 0, 0, "a/identity")[:, 32, 0]
    weights = across / across.sum()
    assert np.sqrt((weights * (np.arange(SIZE) - 32.0) ** 2).sum()) == pytest.approx(sigma, rel=0.1)


@pytest.mark.parametrize("sigma", [2.0, 10.0])
def test_noise_has_its_deviation_and_no_mean(sigma: float) -> None:
    grey = np.full((SIZE, SIZE, 3), 128, np.uint8)
    noise = robustify(grey, robust("noise", sigma_min=sigma, sigma_max=sigma), 0, 0, "a/identity") - 128.0
    assert noise.std() == pytest.approx(sigma, rel=0.05)
    assert abs(noise.mean()) < 5 * sigma / math.sqrt(noise.size)
    assert abs(np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]) < 0.1


@pytest.mark.parametrize("what", ["brightness", "contrast", "saturation", "hue"])
def test_a_colour_change_is_that_of_torchvision(what: str) -> None:
    pixels = photo(1, SIZE, SIZE)
    none: dict[str, Any] = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
    config = robust("colour", **{**none, what: 0.4})
    adjust = getattr(transforms, f"adjust_{what}")
    expected = adjust(torch.from_numpy(pixels).permute(2, 0, 1), only(config).values[what])
    assert np.array_equal(robustify(pixels, config, 0, 0, "a/identity"), expected.permute(1, 2, 0).numpy())


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_threads_and_the_global_generator_are_neither_asked_nor_changed() -> None:
    pixels, config, found = photo(1, 320, 320), robust(*NAMES), []
    for threads in (1, 2, 3):
        torch.manual_seed(threads)
        state = torch.get_rng_state()
        with torch_threads(threads):
            found.append(robustify(pixels, config, 0, 0, "a/identity"))
            assert torch.get_num_threads() == threads
        assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


def test_threads_that_share_the_work_change_pictures_as_one_does() -> None:
    pixels, config = photo(1, 320, 320), robust(*NAMES)
    change = partial(robustify, pixels, config, 0, 0)
    samples = [f"{number}/identity" for number in range(16)]
    with torch_threads(3):
        expected = [change(sample) for sample in samples]
        with one_thread(), ThreadPoolExecutor(4) as pool:
            found = list(pool.map(change, samples))
        assert torch.get_num_threads() == 3
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_a_picture_that_may_not_be_written_to_is_taken_too() -> None:
    pixels = photo(1, SIZE, SIZE)
    pixels.flags.writeable = False
    assert robustify(pixels, robust(*NAMES), 0, 0, "a/identity").shape == pixels.shape


@given(
    st.dictionaries(st.sampled_from(NAMES), st.just(1.0), min_size=1),
    st.sampled_from([16, 17, 32, 48]),
    st.integers(0, 2**53 - 1),
    st.text(max_size=5),
)
def test_whatever_is_on_the_shape_stays(on: dict[str, float], size: int, seed: int, sample: str) -> None:
    extremes = {
        "crop": {"min_share": 0.1},
        "rescale": {"factor_min": 0.1, "factor_max": 4.0},
        "blur": {"sigma_max": 10.0},
    }
    config = build(Robust, {name: {"probability": 1.0, **extremes.get(name, {})} for name in on})
    after = robustify(photo(1, size, size), config, seed, 0, sample)
    assert (after.shape, after.dtype, after.flags.c_contiguous) == ((size, size, 3), np.uint8, True)


@given(st.sampled_from(PAIRS), st.integers(1, 100), st.integers(1, 100))
def test_a_range_upside_down_is_refused_by_both_names(pair: tuple[str, str], first: int, second: int) -> None:
    name, what = pair
    scale = {"factor": 0.04, "sigma": 0.1, "quality": 1}[what]
    low, high = max(0.1, first * scale), max(0.1, second * scale)
    values = (
        {name: {f"{what}_min": low, f"{what}_max": high}}
        if what != "quality"
        else {name: {f"{what}_min": first, f"{what}_max": second}}
    )
    if low <= high:
        assert as_dict(build(Robust, values))[name][f"{what}_min"] == values[name][f"{what}_min"]
    else:
        with pytest.raises(
            ConfigError, match=rf"'robust\.{name}\.{what}_min' .* is above 'robust\.{name}\.{what}_max'"
        ):
            build(TrainingConfig, {"robust": values})


@given(st.sampled_from(NAMES), st.floats().filter(lambda value: not 0 <= value <= 1))
def test_a_probability_that_is_none_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"'robust\.{name}\.probability'"):
        build(TrainingConfig, {"robust": {name: {"probability": value}}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"jpg": {"probability": 1.0}}, r"did you mean 'robust\.jpeg'"),
        ({"jpeg": {"propability": 1.0}}, r"did you mean 'robust\.jpeg\.probability'"),
        ({"jpeg": {"quality_min": 0}}, r"'robust\.jpeg\.quality_min'"),
        ({"jpeg": {"quality_min": 50.5}}, r"'robust\.jpeg\.quality_min'"),
        ({"jpeg": 0.5}, r"'robust\.jpeg' must be a mapping"),
        ({"crop": {"min_share": 0.0}}, r"'robust\.crop\.min_share'"),
        ({"colour": {"hue": 0.6}}, r"'robust\.colour\.hue'"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(TrainingConfig, {"robust": values})


def test_it_is_part_of_what_changes_the_result() -> None:
    changed = build(TrainingConfig, {"robust": {"jpeg": {"probability": 0.5}}})
    assert result_fields(changed) != result_fields(TrainingConfig())


@pytest.mark.parametrize(("module", "other"), [("training.config", "torch"), ("training.loader", "torchvision")])
def test_while_it_is_off_nothing_slow_is_imported_for_it(module: str, other: str) -> None:
    code = f"import sys, {module}; raise SystemExit('{other}' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


# What the loader makes of it.

ALL = robust(*NAMES, probability=0.4)


def batches_of(run: Path, workers: int = 0, seed: int = 5, config: Robust | None = ALL) -> Batches:
    inputs = read_inputs(str(run / "shards"), str(run / "stats.json"))
    return Batches(inputs, inputs.train, 32, workers, 2, seed=seed, robust=config)


def seen(batches: Batches, epoch: int = 0, start: int = 0) -> list[tuple[list[str], bytes]]:
    """Ids and pixels of each batch, in order."""
    return [(batch.ids, batch.pixels.numpy().tobytes()) for batch in batches.epoch(epoch, start)]


def by_id(batches: Batches, epoch: int = 0) -> dict[str, bytes]:
    return {
        name: pixels.numpy().tobytes()
        for batch in batches.epoch(epoch)
        for name, pixels in zip(batch.ids, batch.pixels, strict=True)
    }


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_the_same_for_any_number_of_threads(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    found = []
    for cores in (1, 6):
        monkeypatch.setattr("training.loader.local_cores", partial(int, cores))
        with torch_threads(2):
            found.append(seen(batches_of(prepared, workers), 1))
            assert torch.get_num_threads() == 2
    assert found[0] == found[1]


def test_threads_that_change_a_batch_have_one_thread_of_torch_each(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_counts = set()

    def counting(*given: Any) -> Pixels:
        seen_counts.add((threading.current_thread().name.partition("_")[0], torch.get_num_threads()))
        return robustify(*given)

    monkeypatch.setattr("training.loader.local_cores", lambda: 2)
    monkeypatch.setattr("training.robust.robustify", counting)
    with torch_threads(2):
        list(batches_of(prepared).epoch())
    assert seen_counts == {("decode", 1)}


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_are_the_same_for_any_number_of_workers_and_from_any_step(prepared: Path, workers: int) -> None:
    alone, many = batches_of(prepared), batches_of(prepared, workers)
    for epoch, start in ((0, 0), (1, 3), (2, 0), (0, 2)):
        assert seen(many, epoch, start) == seen(alone, epoch)[start:]


def test_an_epoch_begun_in_the_middle_sees_the_same_pictures(prepared: Path) -> None:
    whole = seen(batches_of(prepared), 3)
    for start in range(len(whole) + 1):
        assert seen(batches_of(prepared), 3, start) == whole[start:]


def test_a_batch_has_what_robustify_makes_of_each_row(prepared: Path) -> None:
    rows = stored(prepared)
    for name, pixels in by_id(batches_of(prepared), epoch=2).items():
        assert pixels == robustify(rows[name], ALL, 5, 2, name).tobytes()


def test_epochs_and_seeds_see_other_pictures(prepared: Path) -> None:
    first = by_id(batches_of(prepared), 0)
    for other in (by_id(batches_of(prepared), 1), by_id(batches_of(prepared, seed=6), 0)):
        assert other.keys() == first.keys()
        assert sum(first[name] != other[name] for name in first) > 0.9 * len(first)


@pytest.mark.parametrize("config", [None, Robust()])
def test_off_means_the_pixels_of_the_row_to_the_bit(prepared: Path, config: Robust | None) -> None:
    rows = stored(prepared)
    found = by_id(batches_of(prepared, config=config))
    assert found == {name: pixels.tobytes() for name, pixels in rows.items()}


def stored(run: Path) -> dict[str, NDArray[np.uint8]]:
    return {
        f"{row['image_id']}/{row['variant']}": decode_canonical(row["image"])
        for path in (run / "shards").glob("train-*")
        for row in pq.read_table(path).to_pylist()
    }


def test_validation_is_never_changed(prepared: Path) -> None:
    inputs = read_inputs(str(prepared / "shards"), str(prepared / "stats.json"))
    with pytest.raises(ValueError, match="for training"):
        Batches(inputs, inputs.val, 8, 0, 1, robust=ALL)
