"""The ONNX file: the same bytes every time, no trace of the machine, equal to PyTorch."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors.torch import load_file

from pipeline.bundle import read_bundle
from pipeline.config import build
from pipeline.errors import IntegrityError
from tests.training.runs import SMALL
from tests.training.test_inputs import read
from training.config import TrainingConfig
from training.export import check_onnx, to_onnx
from training.inputs import Inputs
from training.loader import Batches
from training.model import Detector, build_detector


@pytest.fixture(scope="module")
def inputs(finished: Path) -> Inputs:
    return read(finished)


@pytest.fixture(scope="module")
def trained(finished: Path, inputs: Inputs) -> Detector:
    """The bundle's detector, from `model.safetensors`."""
    config = build(TrainingConfig, {**SMALL, "pretrained": False})
    detector = build_detector(config, inputs)
    detector.load_state_dict(load_file(finished / "model" / "model.safetensors"))
    return detector.eval()


@pytest.fixture(scope="module")
def pictures(inputs: Inputs) -> torch.Tensor:
    return next(Batches(inputs, inputs.val, 34, 0, 1).epoch()).pixels


def test_the_safetensors_file_has_exactly_the_model_s_tensors(finished: Path, trained: Detector) -> None:
    assert load_file(finished / "model" / "model.safetensors").keys() == trained.state_dict().keys()


def test_onnx_equals_pytorch_for_any_number_of_pictures(
    finished: Path, trained: Detector, pictures: torch.Tensor
) -> None:
    session = onnxruntime.InferenceSession(finished / "model" / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape[1:]) for i in session.get_inputs()] == [("pixels", "tensor(uint8)", [32, 32, 3])]
    assert [(o.name, o.type) for o in session.get_outputs()] == [("logit", "tensor(float)")]
    with torch.inference_mode():
        wanted = trained(pictures).numpy()
    for count in (1, 2, 34):
        (found,) = session.run(["logit"], {"pixels": pictures[:count].numpy()})
        assert found.shape == (count,)
        np.testing.assert_allclose(found, wanted[:count], atol=1e-3)
    assert wanted.std() > 0.01  # the comparison is of something


def test_exporting_again_gives_the_same_bytes(finished: Path, trained: Detector) -> None:
    """`finished` was exported in another state of the process, from a detector that had been trained."""
    assert to_onnx(trained, 32) == (finished / "model" / "model.onnx").read_bytes()


def test_nothing_of_the_machine_is_in_the_model(finished: Path) -> None:
    data = (finished / "model" / "model.onnx").read_bytes()
    for needle in (b".py", b"site-packages", os.getcwd().encode(), os.path.expanduser("~").encode() + b"/", b"torch/"):
        assert needle not in data
    assert not re.search(rb"/(home|root|usr|opt|tmp|work)/", data)


def test_no_metadata_is_left(finished: Path) -> None:
    model = onnx.load(finished / "model" / "model.onnx")
    assert [item.version for item in model.opset_import] == [20]
    assert (model.producer_name, model.producer_version, model.doc_string) == ("telltale", "", "")
    values: list[Any] = [model, model.graph, *model.graph.node, *model.graph.input, *model.graph.output]
    values += [*model.graph.initializer, *model.graph.value_info, *model.functions]
    assert not any(value.metadata_props or value.doc_string for value in values)


def test_a_model_that_differs_from_pytorch_is_not_published(
    finished: Path, trained: Detector, pictures: torch.Tensor
) -> None:
    data = (finished / "model" / "model.onnx").read_bytes()
    assert check_onnx(data, trained, pictures) <= 1e-3
    changed = Detector(trained.backbone, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).eval()
    with pytest.raises(IntegrityError, match=r"differs from PyTorch.* No bundle was written"):
        check_onnx(data, changed, pictures)


def test_the_bundle_can_be_read_and_says_what_it_is(finished: Path, inputs: Inputs) -> None:
    bundle = read_bundle(str(finished / "model"))
    document = bundle.document
    assert document["parents"] == {"dataset": inputs.dataset, "stats": inputs.stats, "shards": inputs.shards}
    assert document["labels"] == ["real", "ai"]
    assert (document["mean"], document["std"]) == (list(inputs.mean), list(inputs.std))
    assert document["threads"] == 1
    assert document["architecture"]["name"] == "test_efficientnet"
    assert document["validation"]["n"] == 34
    assert bundle.canonical == inputs.canonical
    assert 0.0 <= bundle.threshold <= 1.0
