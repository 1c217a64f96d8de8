"""Batches: the same for any number of workers and from any step, and honest about damage."""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from multiprocessing.synchronize import SemLock
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch.utils.data import get_worker_info

from pipeline.decode import decode_canonical
from pipeline.errors import IntegrityError, SetupError, TelltaleError
from pipeline.manifest import FileEntry
from pipeline.parquet import write_parquet
from pipeline.storage import Folder
from tests.training.runs import publish_shards, sets
from training._slots import Slots
from training.batch import Batch
from training.inputs import Inputs, read_inputs
from training.loader import Batches
from training.rows import ShardRows


def inputs_of(run: Path, check: bool = True) -> Inputs:
    return read_inputs(str(run / "shards"), str(run / "stats.json"), check)


def training_batches(run: Path, workers: int = 0, window: int = 2, size: int = 32, check: bool = True) -> Batches:
    inputs = inputs_of(run, check)
    return Batches(inputs, inputs.train, size, workers, window, seed=5)


def ids(batches: Batches, epoch: int = 0, start: int = 0) -> list[list[str]]:
    return [batch.ids for batch in batches.epoch(epoch, start)]


@pytest.mark.parametrize("workers", [1, 4, 8])
def test_sample_ids_are_the_same_for_any_number_of_workers(prepared: Path, workers: int) -> None:
    alone, many = training_batches(prepared), training_batches(prepared, workers)
    for epoch, start in ((0, 0), (1, 3)):
        assert ids(many, epoch, start) == ids(alone, epoch, start)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_the_same_for_any_number_of_decoding_threads(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    found = []
    for cores in (1, 6, 64):
        monkeypatch.setattr("training.loader.local_cores", partial(int, cores))
        found.append(list(training_batches(prepared, workers).epoch(1)))
    for batches in zip(*found, strict=True):
        assert len({tuple(batch.ids) for batch in batches}) == 1
        assert len({(batch.pixels.numpy().tobytes(), batch.labels.numpy().tobytes()) for batch in batches}) == 1


@pytest.mark.parametrize(("cores", "workers", "threads"), [(1, 0, 1), (1, 4, 1), (2, 0, 2), (16, 8, 2), (64, 0, 8)])
def test_the_processes_share_the_cores(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(2 * cores)))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    rows: Any = training_batches(prepared, workers)._loader.dataset
    assert rows._threads == threads


def test_pictures_of_a_batch_are_decoded_at_the_same_time(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of the first two waits for the other: one thread alone would wait in vain."""
    both, first_two = threading.Barrier(2, timeout=20), iter([True, True])

    def decode(image: bytes) -> Any:
        if next(first_two, False):
            both.wait()
        return decode_canonical(image)

    monkeypatch.setattr("training.loader.local_cores", lambda: 2)
    monkeypatch.setattr("training.rows.decode_canonical", decode)
    assert len(ids(training_batches(prepared))) == 5


@pytest.mark.parametrize(
    "keep", [lambda batch: batch.pixels, lambda batch: batch.pixels[-1], lambda batch: batch.labels]
)
def test_what_is_kept_of_a_batch_stays_while_others_come(prepared: Path, keep: Callable[[Batch], torch.Tensor]) -> None:
    """Two processes have slots for eight batches; there are forty."""
    alone, many = training_batches(prepared, size=4), training_batches(prepared, 2, size=4)
    expected = [keep(batch) for batch in alone.epoch(1)]
    for _ in range(2):
        found = [keep(batch) for batch in many.epoch(1)]
        assert len(found) == len(expected) == 40
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_slots_are_free_again_when_nobody_has_their_batches(prepared: Path) -> None:
    batches = training_batches(prepared, workers=2, size=4)
    kept = [batch.pixels[0].numpy()[None] for batch in batches.epoch()]
    rows: Any = batches._loader.dataset
    slots = rows._slots
    assert slots.taken.all()
    kept[-1].fill(0)
    del kept
    assert not slots.taken.any()
    iterator = batches.epoch(1)
    some = [next(iterator) for _ in range(3)]  # the rest of the epoch is never asked for
    assert ids(batches, 2) == ids(training_batches(prepared, size=4), 2)
    del iterator, some
    assert not slots.taken.any()


def test_a_slot_takes_no_more_than_it_holds() -> None:
    slots = Slots(1, 48)
    assert slots.pixels(3, (1, 4, 4, 3)).shape == (1, 4, 4, 3)
    with pytest.raises(ValueError, match="48 bytes"):
        slots.pixels(0, (2, 4, 4, 3))


def test_the_shares_of_ranks_fit_into_their_slots(prepared: Path) -> None:
    """160 rows in batches of 53: the last one has a row, which goes to the one before, of which rank 0 gets 18."""
    inputs = inputs_of(prepared)
    for rank in range(3):
        alone, many = (
            Batches(inputs, inputs.train, 53, workers, 2, seed=5, ranks=(rank, 3)).epoch() for workers in (0, 1)
        )
        for one, other in zip(alone, many, strict=True):
            assert torch.equal(one.pixels, other.pixels)
            assert one.ids == other.ids


def test_without_room_for_slots_the_batches_are_the_same(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("os.memfd_create")
    batches, alone = training_batches(prepared, 1), training_batches(prepared)
    for one, other in zip(batches.epoch(), alone.epoch(), strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.labels, other.labels)
        assert one.ids == other.ids
    rows: Any = batches._loader.dataset
    assert rows._slots is None


def test_an_epoch_begun_anywhere_continues_the_same_order(prepared: Path) -> None:
    batches = training_batches(prepared)
    whole = ids(batches, epoch=1)
    assert len(whole) == len(batches) == 5
    for start in range(len(batches) + 1):
        assert ids(batches, epoch=1, start=start) == whole[start:]


def test_epochs_differ_and_each_has_every_variant_once(prepared: Path) -> None:
    batches = training_batches(prepared)
    first, second = list(chain(*ids(batches, 0))), list(chain(*ids(batches, 1)))
    assert first != second
    assert sorted(first) == sorted(second)
    assert len(set(first)) == len(first) == 160
    assert {name.partition("/")[2] for name in first} == {"identity", "hflip"}


def test_validation_has_every_row_once_in_file_order(prepared: Path) -> None:
    inputs = inputs_of(prepared)
    batches = Batches(inputs, inputs.val, 8, 0, 1)
    rows = [row for path in sorted((prepared / "shards").glob("val-*")) for row in pq.read_table(path).to_pylist()]
    assert list(chain(*ids(batches))) == [f"{row['image_id']}/identity" for row in rows]
    assert [len(batch.ids) for batch in batches.epoch()] == [8, 8, 8, 8, 2]


def test_pixels_and_labels_are_those_of_the_row(prepared: Path) -> None:
    rows = {
        f"{row['image_id']}/{row['variant']}": row
        for path in (prepared / "shards").glob("train-*")
        for row in pq.read_table(path).to_pylist()
    }
    for batch in training_batches(prepared).epoch():
        assert batch.pixels.shape[1:] == (32, 32, 3)
        for pixels, label, name in zip(batch.pixels, batch.labels, batch.ids, strict=True):
            assert np.array_equal(pixels.numpy(), decode_canonical(rows[name]["image"]))
            assert int(label) == rows[name]["label"]


@pytest.mark.parametrize("window", [1, 16])
def test_no_more_row_groups_are_kept_than_asked_for(prepared: Path, window: int) -> None:
    batches = training_batches(prepared, window=window)
    ids(batches)
    rows: Any = batches._loader.dataset
    assert 1 <= len(rows._cache) <= window


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_row_group_names_its_file(fresh: Path, flip_byte: Callable[[Path, int], None], workers: int) -> None:
    path = sorted((fresh / "shards").glob("train-*"))[1]
    flip_byte(path, pq.ParquetFile(path).metadata.row_group(0).column(0).data_page_offset + 2)  # a page's header
    with pytest.raises(IntegrityError, match=path.name) as caught:
        ids(training_batches(fresh, workers, check=False))
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("cores", [1, 3])
@pytest.mark.parametrize("damage", ["cut", "size"])
def test_a_picture_that_is_not_what_the_manifest_says_names_its_file_and_row(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, damage: str, cores: int
) -> None:
    from tests.pictures import encoded

    monkeypatch.setattr("training.loader.local_cores", lambda: cores)
    path = sorted((fresh / "shards").glob("train-*"))[0]
    rows = pq.read_table(path).to_pylist()
    rows[3]["image"] = rows[3]["image"][:-100] if damage == "cut" else encoded(1, "JPEG", width=48, height=48)
    replace(fresh, path, rows)
    with pytest.raises(IntegrityError, match=r"train-00000-.*row group 0, row 3"):
        ids(training_batches(fresh))


@pytest.mark.parametrize("cores", [1, 8])
def test_of_several_damaged_pictures_the_first_of_the_batch_is_named(
    fresh: Path, monkeypatch: pytest.MonkeyPatch, cores: int
) -> None:
    monkeypatch.setattr("training.loader.local_cores", lambda: cores)
    path = sorted((fresh / "shards").glob("train-*"))[0]
    rows = pq.read_table(path).to_pylist()
    for row in rows[1:]:
        row["image"] = row["image"][:-100]
    replace(fresh, path, rows)
    batches = training_batches(fresh, window=1)
    first = next(number for number in batches._rows(0).tolist() if 0 < number < len(rows))
    with pytest.raises(IntegrityError, match=rf"train-00000-.*row group 0, row {first}:"):
        ids(batches)


def replace(run: Path, path: Path, rows: list[dict[str, Any]]) -> None:
    """Replace a shard, with a manifest to match."""
    path.unlink()
    write_parquet(Folder(str(run / "shards")), path.name[: len("train-00000")], rows)
    entries = []
    for file in (run / "shards").glob("*.parquet"):
        data = file.read_bytes()
        entries.append(
            FileEntry(file.name, len(data), hashlib.sha256(data).hexdigest(), pq.ParquetFile(file).metadata.num_rows)
        )
    inputs = inputs_of_manifest(run)
    publish_shards(run, inputs["parents"]["dataset"], entries, inputs["canonical"])


def inputs_of_manifest(run: Path) -> dict[str, Any]:
    import json

    document: dict[str, Any] = json.loads((run / "shards" / "manifest.json").read_bytes())
    return document


def test_a_worker_that_dies_is_told_with_what_to_do(prepared: Path) -> None:
    batches = training_batches(prepared, workers=1, size=2)
    iterator = batches.epoch()
    next(iterator)
    worker: Any = batches._loader._iterator
    os.kill(worker._workers[0].pid, signal.SIGKILL)
    with pytest.raises(SetupError, match=r"loader process died.*training\.workers"):
        list(iterator)


class _Dying(ShardRows):
    """The first worker dies at row 20, with every lock that it has."""

    def __getitems__(self, rows: Sequence[int]) -> Batch | TelltaleError:
        worker: Any = get_worker_info()
        if worker.id == 0 and 20 in rows:
            for lock in [thing for thing in gc.get_objects() if issubclass(type(thing), SemLock)]:
                lock.acquire(timeout=1)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitems__(rows)


@pytest.mark.timeout(90)
def test_the_locks_that_a_worker_dies_with_hold_nobody_up(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = set(multiprocessing.active_children())
    monkeypatch.setattr("training.loader.ShardRows", _Dying)
    inputs = inputs_of(prepared)
    batches = Batches(inputs, inputs.train, 1, 2, 2)
    with pytest.raises(SetupError, match=r"loader process died.*training\.workers"):
        ids(batches)
    del batches
    gc.collect()
    assert set(multiprocessing.active_children()) <= others


@pytest.mark.slow
@pytest.mark.skipif(
    subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode != 0,
    reason="only root may have a /dev/shm of its own",
)
@pytest.mark.parametrize("slots", [True, False])
def test_too_little_shared_memory_is_told_where_it_is_needed(fresh: Path, slots: bool) -> None:
    """As in a container: a batch of 64 pictures has 196,608 bytes. With slots /dev/shm is not needed."""
    small = 'mount -t tmpfs -o size=160k tmpfs /dev/shm && exec "$@"'
    code = "import os, runpy; del os.memfd_create; runpy.run_module('training.run', run_name='__main__')"
    start = ["-m", "training.run"] if slots else ["-c", code]
    words = [sys.executable, *start, "--run-dir", str(fresh), *sets(workers=1, batch_size=64)]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", small, "sh", *words],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == int(not slots), done.stderr
    assert slots or "no room in shared memory for a batch" in done.stderr
    assert "Traceback" not in done.stderr
