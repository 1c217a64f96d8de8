"""The detector as an ONNX file: the same bytes whenever the same weights are exported, and checked against PyTorch.

The exporter writes stack traces with the machine's paths into every node; they are removed. This module must not write
the bundle.
"""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import onnx
import onnxruntime
import torch

from pipeline.errors import IntegrityError
from training.model import Detector

__all__ = ["INPUT", "OPSET", "OUTPUT", "TOLERANCE", "check_onnx", "to_onnx"]

INPUT: Final = "pixels"
OUTPUT: Final = "logit"
OPSET: Final = 20
TOLERANCE: Final = 1e-3
"""Of a logit; beside it 1e-4 of its size, because float32 sums in another order differ in proportion: a picture unlike
any other can have a logit of 60, and its probability is 1 either way."""
_RELATIVE: Final = 1e-4


def to_onnx(detector: Detector, size: int) -> bytes:
    """An ONNX model: `pixels`, uint8 (n, size, size, 3), to `logit`, float32 (n,), n free, weights inside.

    Args:
        detector: any device; left as it is.
        size: side of the pictures.
    """
    model = copy.deepcopy(detector).cpu().eval().to(memory_format=torch.contiguous_format)
    model.layout = torch.contiguous_format
    example = torch.zeros((2, size, size, 3), dtype=torch.uint8)
    with _quiet():
        program = torch.onnx.export(
            model,
            (example,),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("n", min=1)},),
            opset_version=OPSET,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("the exporter returned nothing")
    proto = program.model_proto
    _strip(proto)
    onnx.checker.check_model(proto)
    return proto.SerializeToString(deterministic=True)


def _strip(proto: Any) -> None:
    """Remove whatever does not compute: traces, names of source files, versions."""
    proto.producer_name, proto.producer_version, proto.doc_string = "telltale", "", ""
    proto.domain = ""
    del proto.metadata_props[:]
    for function in proto.functions:
        _strip_graph(function)
    _strip_graph(proto.graph)


def _strip_graph(graph: Any) -> None:
    """A graph or function, the graphs inside its nodes included."""
    graph.doc_string = ""
    del graph.metadata_props[:]
    for group in ("input", "output", "initializer", "value_info"):
        for value in getattr(graph, group):
            if hasattr(value, "metadata_props"):  # a function's inputs are plain strings
                value.doc_string = ""
                del value.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
        for attribute in node.attribute:
            attribute.doc_string = ""
            for inner in [attribute.g, *attribute.graphs] if attribute.type in (5, 10) else []:
                _strip_graph(inner)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter talks to the console and warns of its own insides; neither is for the user."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def check_onnx(data: bytes, detector: Detector, pixels: torch.Tensor) -> float:
    """Compare the ONNX model with PyTorch on pictures.

    Args:
        data: the ONNX file.
        detector: what was exported.
        pixels: uint8 (n, size, size, 3), real pictures of the validation split.

    Returns:
        The largest difference of a logit.

    Raises:
        IntegrityError: one is over `TOLERANCE`.
    """
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    model = copy.deepcopy(detector).cpu().eval()
    with torch.inference_mode():
        wanted = model(pixels).numpy()
    found = np.concatenate(
        [
            session.run([OUTPUT], {INPUT: part.numpy()})[0]
            for part in (pixels[:1], pixels[1:])
            if len(part)  # also tells that the batch size is free
        ]
    )
    differences = np.abs(wanted - found)
    if not (differences <= TOLERANCE + _RELATIVE * np.abs(wanted)).all():
        worst = int(np.argmax(np.nan_to_num(differences, nan=np.inf)))
        raise IntegrityError(
            f"the exported ONNX model differs from PyTorch: a validation picture has the logit {found[worst]:g} "
            f"instead of {wanted[worst]:g} (allowed: {TOLERANCE:g}). No bundle was written. Choose another "
            "training.model, and please report this one."
        )
    return float(differences.max())
