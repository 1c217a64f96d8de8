"""The first look at a file: whatever it is, there is a fact about it, and the fact does not depend on where it lies."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.canonical import Canonical
from pipeline.decode import DecodeLimits
from pipeline.layouts import Layouts, Reference, list_input
from pipeline.perceptual import SIGNATURE_BYTES
from pipeline.storage import Folder
from spark_jobs._examine import examine, examine_lines, fingerprint, fingerprints, look, work_line
from spark_jobs._facts import Fact, Facts, raw_hash
from tests.pictures import encoded, exif, html_named_jpg, photo, png_bomb

CANONICAL = Canonical()
LIMITED = Canonical(limits=DecodeLimits(max_bytes=4000, max_pixels=5000))

BAD = {
    "empty": (b"", "empty"),
    "html.jpg": (html_named_jpg(), "not_an_image"),
    "text.txt": (b"a note", "not_an_image"),
    "cut.jpg": (encoded(1, "JPEG")[:-400], "truncated"),
    "cut.png": (encoded(1, "PNG")[:-40], "truncated"),
    "bomb.png": (png_bomb(), "too_many_pixels"),
    "moving.gif": (encoded(1, "WEBP", frames=3), "animated"),
    "tiny.png": (encoded(1, "PNG", width=8, height=8), "too_small"),
}


def _examine(folder: Path, name: str, canonical: Canonical = CANONICAL) -> Fact:
    return examine(Folder(str(folder)), name, 7, canonical)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_has_a_reason_and_a_hash(tmp_path: Path, name: str) -> None:
    data, reason = BAD[name]
    (tmp_path / name).write_bytes(data)
    fact = _examine(tmp_path, name)
    assert (fact.number, fact.sha256, fact.reason) == (7, hashlib.sha256(data).hexdigest(), reason)
    assert fact.pixels is None
    assert fact.mark is None
    assert fact.detail
    assert str(tmp_path) not in fact.detail


@pytest.mark.parametrize(("fmt", "step"), [("JPEG", 37), ("PNG", 101), ("WEBP", 23)])
def test_every_truncation_is_a_reject(tmp_path: Path, fmt: str, step: int) -> None:
    data = encoded(1, fmt, width=40, height=32)
    for length in range(0, len(data), step):
        (tmp_path / "cut").write_bytes(data[:length])
        assert _examine(tmp_path, "cut").reason is not None, length


@pytest.mark.parametrize("kind", ["loop", "broken link", "missing", "folder", "pipe"])
def test_what_cannot_be_read_is_unreadable(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    if kind == "loop":
        path.symlink_to("x.jpg")
    elif kind == "broken link":
        path.symlink_to("nowhere")
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)  # opening it for reading would wait for ever
    fact = _examine(tmp_path, "x.jpg")
    assert (fact.reason, fact.sha256) == ("unreadable", None)
    assert fact.detail
    assert str(tmp_path) not in fact.detail
    assert fingerprint(Folder(str(tmp_path)), Reference("x.jpg", 0, "a")) is None


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is unreadable to root")
def test_a_file_without_permission_is_unreadable(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(encoded(1, "JPEG"))
    (tmp_path / "x.jpg").chmod(0)
    fact = _examine(tmp_path, "x.jpg")
    assert fact.reason == "unreadable"
    assert "permission" in (fact.detail or "")


def test_a_file_over_the_limit_is_hashed_but_not_held(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    (tmp_path / "big.jpg").write_bytes(data)
    fact = _examine(tmp_path, "big.jpg", LIMITED)
    assert (fact.sha256, fact.reason) == (hashlib.sha256(data).hexdigest(), "too_many_bytes")
    assert str(len(data)) in (fact.detail or "")


def test_pixels_are_hashed_upright_and_whatever_holds_them(tmp_path: Path) -> None:
    image = Image.fromarray(photo(1))
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.bmp")
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "c.png", exif=exif(6))
    image.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "d.png")
    facts = [_examine(tmp_path, name) for name in ("a.png", "b.bmp", "c.png", "d.png")]
    assert len({fact.sha256 for fact in facts}) == 4
    assert [fact.pixels == facts[0].pixels for fact in facts] == [True, True, True, False]
    assert [fact.mark == facts[0].mark for fact in facts] == [True, True, True, False]


def test_the_shape_is_part_of_the_pixels_hash(tmp_path: Path) -> None:
    for name, size in (("a.png", (32, 64)), ("b.png", (64, 32))):
        buffer = io.BytesIO()
        Image.fromarray(np.full((*size, 3), 9, np.uint8)).save(buffer, "PNG")
        (tmp_path / name).write_bytes(buffer.getvalue())
    assert _examine(tmp_path, "a.png").pixels != _examine(tmp_path, "b.png").pixels


def test_the_input_has_the_same_hashes_before_and_after_the_look(tmp_path: Path) -> None:
    """What decides whether a dataset is up to date must agree with what is written into it."""
    for label in ("real", "ai"):
        (tmp_path / label / "a").mkdir(parents=True)
    for name, (data, _) in BAD.items():
        (tmp_path / "real" / "a" / name).write_bytes(data)
    (tmp_path / "ai" / "a" / "good\n1.jpg").write_bytes(encoded(1, "JPEG"))
    (tmp_path / "ai" / "a" / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "ai" / "no source.jpg").write_bytes(encoded(2, "JPEG"))
    with open(os.fsencode(tmp_path) + b"/ai/a/\xff.jpg", "wb") as stream:
        stream.write(encoded(3, "JPEG"))
    listing = list_input(str(tmp_path), Layouts())
    lines = [work_line(index, reference) for index, reference in enumerate(listing.references)]
    facts = list(examine_lines(lines, listing.root, CANONICAL))
    hashes, whole = fingerprints(listing), Facts(len(facts))
    for some in (lines[3:], lines[:3], []):
        for found in look(some, listing.root, CANONICAL):
            whole.add(found)
    numbers = range(len(facts))
    assert [hashes.sha_of(n) for n in numbers] == [whole.sha_of(n) for n in numbers] == [fact.sha256 for fact in facts]
    assert raw_hash(listing.references, hashes) == raw_hash(listing.references, whole)
    assert whole.why == {fact.number: (fact.reason, fact.detail) for fact in facts if fact.reason}
    assert whole.usable.tolist() == [fact.pixels is not None for fact in facts]
    assert whole.marked.tolist() == [fact.mark is not None for fact in facts]
    for fact in facts:
        assert whole.pixels[fact.number].tobytes() == (fact.pixels or bytes(16))
        assert whole.marks[fact.number].tobytes() == (fact.mark or bytes(SIGNATURE_BYTES))
    reasons = {fact.reason for fact in facts}
    assert reasons == {None, "unreadable", "no_source", "bad_name", *(reason for _, reason in BAD.values())}
