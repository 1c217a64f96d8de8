"""A bundle's model: what it says does not depend on company, order or cores, and only an intact bundle is used."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import detection
from pipeline.canonical import Canonical, canonical_pixels
from pipeline.errors import IntegrityError, UsageError
from pipeline.geometry import Geometry
from tests.bundles import make_bundle
from tests.pictures import encoded, photo


def test_public_face_is_two_names() -> None:
    assert detection.__all__ == ["Detector", "load"]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = detection.nonsense


def test_a_detector_tells_the_classes_apart(bundle: Path, real: bytes, ai: bytes) -> None:
    detector = detection.load(str(bundle))
    assert detector.probability(real) < 0.1 < 0.9 < detector.probability(ai)
    assert [detector.verdict(p) for p in (0.0, 0.499, 0.5, 1.0)] == ["real", "real", "ai", "ai"]


def test_the_probability_is_the_logit_over_the_temperature(tmp_path: Path, ai: bytes) -> None:
    make_bundle(tmp_path / "model", temperature=2.5)
    detector = detection.load(str(tmp_path / "model"))
    logit = float(detector.logits(canonical_pixels(ai, detector.bundle.canonical)[None])[0])
    assert detector.probability(ai) == pytest.approx(1 / (1 + np.exp(-logit / 2.5)), rel=1e-12)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_picture_scores_the_same_alone_in_a_batch_and_in_any_order(bundle: Path, threads: int) -> None:
    detector = detection.load(str(bundle), threads)
    pixels = np.stack([photo(seed, 32, 32) for seed in range(7)])
    alone = np.concatenate([detector.logits(pixels[i : i + 1]) for i in range(7)])
    assert np.array_equal(detector.logits(pixels), alone)
    assert np.array_equal(detector.logits(pixels[::-1]), alone[::-1])
    assert detector.logits(pixels[:0]).shape == (0,)


def test_a_file_is_brought_to_the_bundles_own_canonical_form(tmp_path: Path) -> None:
    setting = Canonical(geometry=Geometry(mode="resize", size=64))
    make_bundle(tmp_path / "model", size=64, canonical=setting)
    detector = detection.load(str(tmp_path / "model"))
    data = encoded(1, "PNG", width=200, height=120)
    pixels = canonical_pixels(data, setting)
    assert pixels.shape == (64, 64, 3)
    assert detector.probability(data) == float(detector.probabilities(pixels[None])[0])


def test_a_missing_bundle_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no bundle there"):
        detection.load(str(tmp_path))


@pytest.mark.parametrize("name", ["model.onnx", "model.safetensors", "bundle.json"])
@pytest.mark.parametrize("position", [0, 100, -1])
def test_one_changed_byte_is_refused_by_name(bundle: Path, tmp_path: Path, name: str, position: int) -> None:
    copy = shutil.copytree(bundle, tmp_path / "model")
    data = bytearray((copy / name).read_bytes())
    data[position] ^= 1
    (copy / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        detection.load(str(copy))


def test_a_model_that_is_no_onnx_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path / "model", model=b"not a model")
    with pytest.raises(IntegrityError, match=r"model\.onnx: ONNX Runtime .* cannot load"):
        detection.load(str(tmp_path / "model"))


def test_a_model_of_another_size_than_its_bundle_says_is_refused(tmp_path: Path) -> None:
    make_bundle(tmp_path / "model", size=32, canonical=Canonical(geometry=Geometry(size=64)))
    with pytest.raises(IntegrityError, match=r"takes .*32.* takes 'pixels', uint8 \(N, 64, 64, 3\)"):
        detection.load(str(tmp_path / "model"))
