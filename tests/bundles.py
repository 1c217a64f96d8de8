"""A small real bundle, without training: an ONNX model that sees the checkerboard of `tests.datasets`' AI pictures.

It runs in ONNX Runtime like any other, in milliseconds; the tests of everyone who uses a bundle start from it.

    from tests.bundles import make_bundle
    make_bundle(tmp_path / "model", dataset=manifest)        # for make_dataset's pictures, 32 px
    make_bundle(tmp_path / "model", size=64, threshold=0.7)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from pipeline.bundle import MANIFEST, MODEL_ONNX, MODEL_SAFETENSORS
from pipeline.canonical import Canonical
from pipeline.config import as_dict
from pipeline.geometry import Geometry
from pipeline.manifest import FileEntry, file_entries, library_versions, publish
from pipeline.storage import Folder

MIDDLE = 7.0  # mean |checkerboard response|: real pictures are seen from 3.1 to 4.5, AI ones from 9.5 to 11.3


def make_bundle(
    folder: Path,
    *,
    size: int = 32,
    middle: float = MIDDLE,
    gain: float = 1.0,
    threshold: float = 0.5,
    temperature: float = 1.0,
    dataset: Mapping[str, Any] | None = None,
    canonical: Canonical | None = None,
    changes: Mapping[str, Any] | None = None,
    model: bytes | None = None,
) -> dict[str, Any]:
    """Write a finished bundle and return its manifest.

    size: side of the canonical square; geometry `native`, as `make_dataset` has it.
    middle, gain: logit = gain * (mean |checkerboard response| - middle), so gain 0 is a model that knows nothing.
    dataset: the manifest of the dataset that the model is said to be trained on.
    changes: members of the manifest to replace before it is sealed, for tests of what readers refuse.
    model: other bytes for model.onnx.
    """
    where = Folder(str(folder))
    weights = {"kernel": _kernel()}
    blobs = {MODEL_ONNX: model or _model(size, middle, gain), MODEL_SAFETENSORS: save(weights)}
    for name, data in blobs.items():
        where.put(name, data)
    setting = canonical or Canonical(geometry=Geometry(mode="native", size=size))
    body = {
        "kind": "bundle",
        "stage_version": 1,
        "config": {},
        "libraries": library_versions("numpy", "onnx"),
        "parents": {
            "dataset": dataset["sha256"] if dataset else "0" * 64,
            "stats": "1" * 64,
            "shards": "2" * 64,
        },
        "architecture": {"name": "checkerboard", "outputs": 1},
        "canonical": as_dict(setting),
        "mean": [0.5, 0.5, 0.5],
        "std": [0.25, 0.25, 0.25],
        "labels": ["real", "ai"],
        "temperature": temperature,
        "threshold": threshold,
        "threshold_rule": "fixed",
        "threads": 1,
        "validation": {},
        "files": file_entries(
            FileEntry(path=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())
            for name, data in blobs.items()
        ),
        **(changes or {}),
    }
    return publish(where, MANIFEST, body)


def _kernel() -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (1, 3, 2, 2): the mean of the channels through [[1, -1], [-1, 1]] / 4."""
    square = np.array([[1, -1], [-1, 1]]) / 12
    return np.broadcast_to(square, (1, 3, 2, 2)).astype(np.float32)


def _model(size: int, middle: float, gain: float) -> bytes:
    constants: dict[str, np.ndarray[Any, Any]] = {
        "kernel": _kernel(),
        "middle": np.float32(middle).reshape(1),
        "gain": np.float32(gain).reshape(1),
        "axes": np.array([1, 2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["pixels"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "kernel"], ["response"]),
        helper.make_node("Abs", ["response"], ["size"]),
        helper.make_node("ReduceMean", ["size", "axes"], ["mean"], keepdims=0),
        helper.make_node("Sub", ["mean", "middle"], ["centred"]),
        helper.make_node("Mul", ["centred", "gain"], ["logit"]),
    ]
    graph = helper.make_graph(
        nodes,
        "checkerboard",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["n", size, size, 3])],
        [helper.make_tensor_value_info("logit", TensorProto.FLOAT, ["n"])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    data: bytes = model.SerializeToString()
    return data
