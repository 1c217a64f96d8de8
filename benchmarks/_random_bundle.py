"""A bundle of EfficientNet-B1 with random weights, made once and kept under .cache/benchmarks/: as large and as slow to
load and to run as a trained one. Making it takes torch; using it does not."""

from __future__ import annotations

from pathlib import Path

from pipeline.bundle import MANIFEST, MODEL_ONNX, MODEL_SAFETENSORS
from pipeline.canonical import Canonical
from pipeline.config import as_dict
from pipeline.geometry import Geometry
from pipeline.manifest import FileEntry, file_entries, library_versions, publish
from pipeline.records import LABELS
from pipeline.storage import Folder

__all__ = ["ARCHITECTURE", "random_bundle"]

ARCHITECTURE = "efficientnet_b1"
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_NOBODY = "0" * 64  # the sha256 of parents that there are not


def random_bundle(path: Path, size: int) -> Path:
    """The folder of a finished bundle, made if it is not there.

    Args:
        path: where to keep it.
        size: side of the model's input in pixels.
    """
    if not (path / MANIFEST).exists():
        _make(Folder(str(path)), size)
    return path


def _make(folder: Folder, size: int) -> None:
    import safetensors.torch

    from training.config import TrainingConfig
    from training.export import to_onnx
    from training.inputs import Inputs, Split
    from training.model import build_detector

    canonical = Canonical(geometry=Geometry(size=size))
    none = Split("train", (), {})
    inputs = Inputs(folder, _NOBODY, _NOBODY, _NOBODY, canonical, as_dict(canonical), _MEAN, _STD, none, none)
    config = TrainingConfig(model=ARCHITECTURE, pretrained=False, channels_last=False)
    detector = build_detector(config, inputs)
    weights = {key: value.detach().contiguous() for key, value in detector.state_dict().items()}
    blobs = {MODEL_ONNX: to_onnx(detector, size), MODEL_SAFETENSORS: safetensors.torch.save(weights)}
    entries = [_put(folder, name, data) for name, data in blobs.items()]
    body = {
        "kind": "bundle",
        "stage_version": 1,
        "config": as_dict(config),
        "libraries": library_versions("timm", "torch"),
        "parents": {"dataset": _NOBODY, "stats": _NOBODY, "shards": _NOBODY},
        "architecture": {"name": ARCHITECTURE, "outputs": config.outputs},
        "canonical": inputs.document,
        "mean": list(_MEAN),
        "std": list(_STD),
        "labels": list(LABELS),
        "temperature": 1.0,
        "threshold": 0.5,
        "threshold_rule": "fixed",
        "threads": 1,
        "validation": {},
        "files": file_entries(entries),
    }
    publish(folder, MANIFEST, body)


def _put(folder: Folder, name: str, data: bytes) -> FileEntry:
    folder.put(name, data)
    digest, count = folder.sha256(name)
    return FileEntry(name, count, digest)
