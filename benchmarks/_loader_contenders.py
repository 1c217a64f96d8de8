"""The loaders that `loader` compares: how each stores the rows, and how each delivers them.

Every one is used as its documentation shows it for training with PyTorch, shuffled, with the same decoder in the place
that it has for one, and delivers the same: uint8 (n, size, size, 3) in the main process, labels, ids. Runs in the
environment of `_loader_environment`; the modules of the others are imported where they are used.
"""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader

from pipeline.decode import decode_canonical
from training.config import TrainingConfig
from training.inputs import read_inputs
from training.loader import Batches

__all__ = ["BATCH", "LOADERS", "OURS", "Delivered", "Loader", "Row", "rows_of"]

BATCH = 32
OURS = "telltale"
SEED = 0
BUFFER = 1000  # rows that the loaders with a shuffle buffer hold, as their documentation has it

Row = dict[str, Any]
"""image: bytes, label: int, id: str."""
Delivered = tuple[torch.Tensor, Any, Any]
"""Pixels, labels, ids."""
Epochs = Callable[[int], Iterator[Delivered]]


@dataclass(frozen=True)
class Loader:
    """A way to store and deliver rows.

    Attributes:
        write: (run folder, output folder, files): the rows of the shards in its own format, once. None: ours.
        epochs: (the output folder, loader processes): what delivers an epoch by its number.
    """

    write: Callable[[Path, Path, int], None] | None
    epochs: Callable[[Path, int], Epochs]


def rows_of(run: Path) -> Iterator[Row]:
    """The training rows of a run folder, in the order of its files."""
    for path in sorted((run / "shards").glob("train-*.parquet")):
        for batch in pq.ParquetFile(path).iter_batches(64, columns=["image", "label", "image_id", "variant"]):
            for row in batch.to_pylist():
                yield {"image": row["image"], "label": row["label"], "id": f"{row['image_id']}/{row['variant']}"}


def _decoded(image: bytes) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's pixels are read-only; nobody writes to them
        return torch.from_numpy(decode_canonical(image))


def _whole(row: Row) -> Delivered:
    return _decoded(row["image"]), row["label"], row["id"]


def _per_file(run: Path, files: int) -> int:
    return -(-sum(1 for _ in rows_of(run)) // files)


def _parallel(workers: int) -> dict[str, Any]:
    return {"num_workers": workers, "persistent_workers": workers > 0}


def _telltale(run: Path, workers: int) -> Epochs:
    inputs = read_inputs(str(run / "shards"), str(run / "stats.json"), check_shards=False)
    window = TrainingConfig().shuffle_row_groups
    batches = Batches(inputs, inputs.train, BATCH, workers, window, seed=SEED)
    return lambda epoch: ((batch.pixels, batch.labels, batch.ids) for batch in batches.epoch(epoch))


def _write_mds(run: Path, folder: Path, files: int) -> None:
    size = sum(len(row["image"]) + len(row["id"]) + 32 for row in rows_of(run))
    columns = {"image": "bytes", "label": "int", "id": "str"}
    with import_module("streaming").MDSWriter(out=str(folder), columns=columns, size_limit=-(-size // files)) as out:
        for row in rows_of(run):
            out.write(row)


def _mds(folder: Path, workers: int) -> Epochs:
    streaming = import_module("streaming")
    streaming.base.util.clean_stale_shared_memory()

    class Decoding(streaming.StreamingDataset):  # type: ignore[name-defined]  # the documented way to transform
        def __getitem__(self, at: int) -> Delivered:
            return _whole(super().__getitem__(at))

    dataset = Decoding(local=str(folder), shuffle=True, shuffle_seed=SEED, batch_size=BATCH)
    loader: Any = DataLoader(dataset, batch_size=BATCH, **_parallel(workers))
    return lambda epoch: iter(loader)


def _same(row: Row) -> Row:
    return row


def _write_litdata(run: Path, folder: Path, files: int) -> None:
    import_module("litdata").optimize(
        fn=_same,
        inputs=list(rows_of(run)),
        output_dir=str(folder),
        chunk_size=_per_file(run, files),
        num_workers=1,
        start_method="fork",
        verbose=False,
    )


def _litdata(folder: Path, workers: int) -> Epochs:
    litdata = import_module("litdata")
    dataset = litdata.StreamingDataset(str(folder), shuffle=True, seed=SEED, transform=_whole)
    loader = litdata.StreamingDataLoader(dataset, batch_size=BATCH, **_parallel(workers))
    return lambda epoch: iter(loader)


def _write_tar(run: Path, folder: Path, files: int) -> None:
    pattern = str(folder / "%05d.tar")
    with import_module("webdataset").ShardWriter(pattern, maxcount=_per_file(run, files), verbose=0) as out:
        for row in rows_of(run):
            out.write({"__key__": row["id"], "img": row["image"], "cls": str(row["label"]).encode()})


def _from_tar(sample: dict[str, Any]) -> Delivered:
    return _decoded(sample["img"]), int(sample["cls"]), sample["__key__"]


def _tar(folder: Path, workers: int) -> Epochs:
    webdataset = import_module("webdataset")
    urls = sorted(str(path) for path in folder.glob("*.tar"))
    dataset = webdataset.WebDataset(urls, shardshuffle=len(urls)).shuffle(BUFFER).map(_from_tar).batched(BATCH)
    loader = webdataset.WebLoader(dataset, batch_size=None, **_parallel(workers))
    return lambda epoch: iter(loader)


def _write_arrow(run: Path, folder: Path, files: int) -> None:
    datasets = import_module("datasets")
    kinds = {"image": datasets.Value("binary"), "label": datasets.Value("int64"), "id": datasets.Value("string")}
    cache = folder / "cache"
    made = datasets.Dataset.from_generator(
        rows_of, features=datasets.Features(kinds), cache_dir=str(cache), gen_kwargs={"run": run}
    )
    made.save_to_disk(str(folder / "arrow"), num_shards=files)
    shutil.rmtree(cache)


def _decoded_columns(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"pixels": [_decoded(image) for image in rows["image"]], "label": rows["label"], "id": rows["id"]}


def _delivered(batch: dict[str, Any]) -> Delivered:
    return batch["pixels"], batch["label"], batch["id"]


def _arrow(folder: Path, workers: int) -> Epochs:
    dataset = import_module("datasets").load_from_disk(str(folder / "arrow")).with_transform(_decoded_columns)
    order = torch.Generator().manual_seed(SEED)
    loader: Any = DataLoader(dataset, batch_size=BATCH, shuffle=True, generator=order, **_parallel(workers))
    return lambda epoch: map(_delivered, loader)


def _decoded_row(row: Row) -> Row:
    return {"pixels": _decoded(row["image"])}


def _arrow_stream(folder: Path, workers: int) -> Epochs:
    whole = import_module("datasets").load_from_disk(str(folder / "arrow"))
    files = max(1, len(list((folder / "arrow").glob("*.arrow"))))
    dataset = whole.to_iterable_dataset(num_shards=files).shuffle(seed=SEED, buffer_size=BUFFER)
    dataset = dataset.map(_decoded_row, remove_columns=["image"])
    loader: Any = DataLoader(dataset, batch_size=BATCH, **_parallel(workers))

    def epoch(number: int) -> Iterator[Delivered]:
        dataset.set_epoch(number)
        return map(_delivered, loader)

    return epoch


LOADERS: dict[str, Loader] = {
    OURS: Loader(None, _telltale),
    "mosaicml-streaming": Loader(_write_mds, _mds),
    "litdata": Loader(_write_litdata, _litdata),
    "webdataset": Loader(_write_tar, _tar),
    "datasets": Loader(_write_arrow, _arrow),
    "datasets, iterable": Loader(None, _arrow_stream),
}
"""By name; `datasets, iterable` reads what `datasets` wrote."""
