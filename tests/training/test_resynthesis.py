"""The auto-encoders: good from the start, the same every time, and what sampling does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from training.demo_config import AutoEncoderConfig
from training.photographs import Pixels, load_photographs
from training.resynthesis import AutoEncoder, Decoder, psnr, resynthesise, train_auto_encoder

DECODERS: tuple[Decoder, ...] = get_args(Decoder)
PLAN = AutoEncoderConfig(steps=3, batch=4, crop=32, channels=8)


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    return [photograph.pixels for photograph in load_photographs(256)][-4:]


@pytest.fixture(scope="module")
def models(pictures: list[Pixels]) -> dict[Decoder, AutoEncoder]:
    return {decoder: train_auto_encoder(decoder, pictures, PLAN) for decoder in DECODERS}


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("crop", [(100, 100), (97, 90), (64, 103)])
def test_a_resynthesis_has_the_photographs_size_and_is_not_the_photograph(
    decoder: Decoder, crop: tuple[int, int], models: dict[Decoder, AutoEncoder], pictures: list[Pixels]
) -> None:
    picture = pictures[0][: crop[0], : crop[1]]
    out = resynthesise(models[decoder], picture, 0.1, 0)
    assert out.shape == picture.shape
    assert out.dtype == np.uint8
    assert 20 < psnr(picture, out) < 40


def test_pixelshuffle_starts_as_a_good_auto_encoder(pictures: list[Pixels]) -> None:
    model = train_auto_encoder("pixelshuffle", pictures, replace(PLAN, steps=1))
    assert all(psnr(picture, resynthesise(model, picture, 0.0, 0)) > 28 for picture in pictures)


@pytest.mark.parametrize("decoder", DECODERS)
def test_training_makes_better_pictures(decoder: Decoder, pictures: list[Pixels]) -> None:
    quality = []
    for steps in (1, 60):
        model = train_auto_encoder(decoder, pictures, replace(PLAN, steps=steps))
        quality.append(np.mean([psnr(picture, resynthesise(model, picture, 0.0, 0)) for picture in pictures]))
    assert quality[1] > quality[0] + 0.1


def test_the_decoders_leave_different_traces(models: dict[Decoder, AutoEncoder], pictures: list[Pixels]) -> None:
    first, second = (resynthesise(models[decoder], pictures[0], 0.1, 0) for decoder in DECODERS)
    assert psnr(first, second) < 40


def test_noise_costs_what_the_formula_says(models: dict[Decoder, AutoEncoder]) -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    model = models["pixelshuffle"]
    clean, noisy = (resynthesise(model, grey, noise, 0).astype(float) for noise in (0.0, 0.1))
    expected = 0.1**2 * float(model.detail.square().sum()) / 48 * 127.5**2
    assert np.mean((noisy - clean) ** 2) == pytest.approx(expected, rel=0.1)


def test_only_luminance_detail_is_sampled(models: dict[Decoder, AutoEncoder]) -> None:
    grey = np.full((128, 128, 3), 128, np.uint8)
    clean, noisy = (resynthesise(models["pixelshuffle"], grey, noise, 0).astype(float) for noise in (0.0, 0.1))
    grain = noisy - clean
    colour = grain - grain.mean(axis=2, keepdims=True)
    means = grain.reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert grain.std() > 3
    assert colour.std() < 0.2 * grain.std()
    assert means.std() < 0.2 * grain.std()


@pytest.mark.parametrize("decoder", DECODERS)
def test_the_same_seed_makes_the_same_picture_beside_other_work(
    decoder: Decoder, models: dict[Decoder, AutoEncoder], pictures: list[Pixels]
) -> None:
    torch.manual_seed(12345)  # what the process drew before must not matter
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(train_auto_encoder, name, pictures, PLAN) for name in (decoder, DECODERS[0])]
        again = both[0].result()
    expected = resynthesise(models[decoder], pictures[1], 0.1, 7)
    assert np.array_equal(expected, resynthesise(again, pictures[1], 0.1, 7))
    assert not np.array_equal(expected, resynthesise(again, pictures[1], 0.1, 8))


def test_what_a_step_raises_ends_the_training(pictures: list[Pixels]) -> None:
    steps: list[int] = []

    def after_step() -> None:
        steps.append(1)
        if len(steps) == 2:
            raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        train_auto_encoder("pixelshuffle", pictures, PLAN, after_step)
    assert len(steps) == 2


def test_psnr_is_the_usual_one(pictures: list[Pixels]) -> None:
    first, second = pictures[0][:64, :64], pictures[1][:64, :64]
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(first, second))
    assert psnr(first, first) == float("inf")
