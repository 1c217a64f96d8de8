"""Archives as folders: the same bytes as loose files, whatever they are packed in."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError, StorageError
from pipeline.layouts import Layouts, list_input
from pipeline.packed import PackedFolder

FILES = {f"b/größer {number}.jpg": bytes([number]) * (1000 + number) for number in range(20)} | {"a.png": b"x"}


def tar(path: Path, files: Mapping[str, bytes], mode: str = "w") -> Path:
    """An archive with a folder, a link and a hidden file beside the files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        folder = tarfile.TarInfo("b")
        folder.type = tarfile.DIRTYPE
        link = tarfile.TarInfo("b/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "a.png"
        for member in (folder, link):
            archive.addfile(member)
        for name, data in {**files, ".hidden": b"no"}.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def parquet(path: Path, pictures: list[bytes | None], nested: bool) -> Path:
    """A file of pictures in row groups of three."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = [{"bytes": data, "path": "x"} for data in pictures] if nested else pictures
    pq.write_table(pa.table({"image": values, "text": ["?"] * len(pictures)}), path, row_group_size=3)
    return path


def test_an_archive_is_a_folder_of_its_files(tmp_path: Path) -> None:
    tar(tmp_path / "real" / "camera" / "0.tar", FILES)
    (tmp_path / "real" / "camera" / "loose.jpg").write_bytes(b"loose")
    folder = PackedFolder(str(tmp_path))
    found = {entry.path: entry.size for entry in folder.list()}
    assert found == {"real/camera/loose.jpg": 5} | {
        f"real/camera/0.tar/{name}": len(data) for name, data in FILES.items()
    }
    assert list(found) == sorted(found)
    for name, data in FILES.items():
        assert folder.read(f"real/camera/0.tar/{name}") == data
        assert folder.is_file(f"real/camera/0.tar/{name}")
    assert folder.open("real/camera/0.tar/a.png").read() == b"x"
    assert folder.sha256("real/camera/0.tar/a.png")[1] == 1
    assert not folder.is_file("real/camera/0.tar/b/link.jpg")
    assert not folder.is_file("real/camera/0.tar/other.jpg")


@pytest.mark.parametrize("nested", [True, False])
def test_rows_of_a_parquet_file_are_its_pictures(tmp_path: Path, nested: bool) -> None:
    pictures = [bytes([number]) * 10 for number in range(8)]
    parquet(tmp_path / "ai" / "gan" / "p.parquet", [*pictures, None], nested)
    folder = PackedFolder(str(tmp_path))
    assert [entry.path for entry in folder.list()] == [f"ai/gan/p.parquet/{row:09d}" for row in range(9)]
    for row in (7, 0, 3, 2):
        assert folder.read(f"ai/gan/p.parquet/{row:09d}") == pictures[row]
    assert folder.read("ai/gan/p.parquet/000000008") == b""
    assert not folder.is_file("ai/gan/p.parquet/000000009")
    with pytest.raises(StorageError, match="no such picture"):
        folder.read("ai/gan/p.parquet/9")


def test_layouts_see_packed_pictures(tmp_path: Path) -> None:
    tar(tmp_path / "real" / "camera" / "0.tar", FILES)
    parquet(tmp_path / "ai" / "gan" / "p.parquet", [b"1", b"2"], nested=True)
    listing = list_input(str(tmp_path), Layouts())
    assert {(reference.label, reference.source) for reference in listing.references} == {(0, "camera"), (1, "gan")}
    assert len(listing.references) == len(FILES) + 2
    (tmp_path / "list.csv").write_text(
        "path,label,source\nreal/camera/0.tar/a.png,real,camera\nai/gan/p.parquet/000000001,ai,gan\n"
    )
    listed = list_input(str(tmp_path / "list.csv"), Layouts())
    assert [listed.root.read(reference.path) for reference in listed.references] == [b"2", b"x"]


@pytest.mark.parametrize("cut", [700, 5000, 20_000])
def test_a_cut_archive_is_named(tmp_path: Path, cut: int) -> None:
    path = tar(tmp_path / "real" / "camera" / "0.tar", FILES)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"0\.tar: not a readable tar archive"):
        list(PackedFolder(str(tmp_path)).list())


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("0.tar", b"<html>" + b"no" * 2000, "not a readable tar archive"),
        ("0.tar.gz", b"\x1f\x8b", "cannot be read from the middle"),
        ("0.parquet", b"PAR1", "not a readable Parquet file"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / "real" / "camera").mkdir(parents=True)
    (tmp_path / "real" / "camera" / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        list(PackedFolder(str(tmp_path)).list())
    assert name in str(caught.value)


def test_a_parquet_file_without_pictures_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "p.parquet")
    with pytest.raises(DataError, match=r"no binary column 'image'.*its columns are text"):
        list(PackedFolder(str(tmp_path)).list())


@pytest.mark.parametrize("name", ["/etc/x.jpg", "../x.jpg", "a/../../x.jpg"])
def test_a_member_that_leads_out_is_refused(tmp_path: Path, name: str) -> None:
    tar(tmp_path / "0.tar", {name: b"x"})
    with pytest.raises(DataError, match="leads out of the archive"):
        list(PackedFolder(str(tmp_path)).list())
