"""Whatever is wrong with a file ends in one `ImageError` that says what to do: no grey pixels, no other exception,
no warning, no decompressed bomb."""

from __future__ import annotations

import io
import pickle
import random
import resource
import struct
import sys
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from pipeline._pillow import strictly
from pipeline.decode import DecodeLimits, decode, decode_canonical
from pipeline.errors import ImageError, TelltaleError
from tests.pictures import encoded, exif, html_named_jpg, png_bomb, png_chunk

SMALL: dict[str, Any] = {"width": 40, "height": 33}
FILES: dict[str, bytes] = {
    "jpeg": encoded(3, "JPEG", **SMALL),
    "jpeg progressive": encoded(3, "JPEG", progressive=True, **SMALL),
    "jpeg cmyk": encoded(3, "JPEG", mode="CMYK", **SMALL),
    "jpeg restarts": encoded(3, "JPEG", restart_marker_blocks=1, **SMALL),
    "jpeg exif": encoded(3, "JPEG", exif=exif(6), **SMALL),
    "png": encoded(3, "PNG", **SMALL),
    "png palette": encoded(3, "PNG", mode="P", **SMALL),
    "webp": encoded(3, "WEBP", **SMALL),
    "webp lossless": encoded(3, "WEBP", lossless=True, **SMALL),
    "webp alpha": encoded(3, "WEBP", mode="RGBA", **SMALL),
    "webp exif": encoded(3, "WEBP", exif=exif(3), **SMALL),
    "gif": encoded(3, "GIF", **SMALL),
    "gif animated": encoded(3, "GIF", frames=2, **SMALL),
    "bmp": encoded(3, "BMP", **SMALL),
    "bmp palette": encoded(3, "BMP", mode="P", **SMALL),
    "tiff": encoded(3, "TIFF", **SMALL),
    "tiff lzw": encoded(3, "TIFF", compression="tiff_lzw", **SMALL),
    "tiff deflate": encoded(3, "TIFF", compression="tiff_adobe_deflate", **SMALL),
    "tiff exif": encoded(3, "TIFF", exif=exif(3), **SMALL),
    "avif": encoded(3, "AVIF", **SMALL),
    "heif": encoded(3, "HEIF", **SMALL),
}


def refusal(data: bytes, limits: DecodeLimits | None = None) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data, limits or DecodeLimits())
    assert len(str(caught.value)) > 20, "a message must say what is wrong and what to do"
    return caught.value


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, body) for kind, body in chunks)


def png_header(width: int, height: int, interlace: int = 0, colour: int = 2, depth: int = 8) -> tuple[bytes, bytes]:
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)


@pytest.mark.parametrize("kind", FILES)
def test_every_truncation_is_refused(kind: str) -> None:
    data = FILES[kind]
    decode(data)
    reasons = {refusal(data[:length]).reason for length in range(len(data))}
    assert "truncated" in reasons
    assert reasons <= {"empty", "not_an_image", "unsupported_format", "truncated", "corrupt"}


@pytest.mark.parametrize("kind", ["jpeg", "jpeg progressive", "png", "webp", "webp lossless"])
def test_every_truncation_of_a_stored_picture_is_refused(kind: str) -> None:
    data = FILES[kind]
    decode_canonical(data)
    for length in range(len(data)):
        with pytest.raises(ImageError):
            decode_canonical(data[:length])


@pytest.mark.parametrize("kind", FILES)
def test_random_damage_is_refused_or_decoded_but_never_anything_else(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(150):
        damaged = bytearray(FILES[kind])
        for _ in range(rng.choice((1, 2, 8))):
            end = len(damaged) if rng.random() < 0.5 else min(len(damaged), 120)  # half of it in the headers
            damaged[rng.randrange(end)] = rng.randrange(256)
        try:
            pixels, original = decode(bytes(damaged))
        except ImageError:
            continue
        assert pixels.shape in ((original.height, original.width, 3), (original.width, original.height, 3))


@pytest.mark.parametrize("kind", ["png", "png palette"])
def test_every_flipped_byte_of_a_png_is_refused(kind: str) -> None:
    data = FILES[kind]
    for position in range(len(data)):
        refusal(data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :])


@pytest.mark.parametrize(
    ("data", "reason", "says"),
    [
        (b"", "empty", "empty"),
        (html_named_jpg(), "not_an_image", "HTML"),
        (b"\xef\xbb\xbf  <html><body>", "not_an_image", "HTML"),
        (b"just text", "not_an_image", "no picture"),
        (bytes(1000), "not_an_image", "no picture"),
        (b"BM is how this text begins", "not_an_image", "no picture"),
        (b"\xff\x0a rest", "unsupported_format", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "unsupported_format", "JPEG 2000"),
        (b"8BPS\0\x01", "unsupported_format", "Photoshop"),
        (b"%PDF-1.7", "unsupported_format", "PDF"),
        (b"II+\0\x08\0\0\0", "unsupported_format", "BigTIFF"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "unsupported_format", "video"),
    ],
)
def test_what_is_no_supported_picture_is_named(data: bytes, reason: str, says: str) -> None:
    error = refusal(data)
    assert error.reason == reason
    assert says in str(error)
    with pytest.raises(ImageError):
        decode_canonical(data)


@pytest.mark.parametrize("fmt", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_animations_and_several_pages_are_refused(fmt: str) -> None:
    error = refusal(encoded(3, fmt, frames=2))
    assert error.reason == "animated"
    assert "extract one" in str(error)


def test_limits_are_checked_before_decoding() -> None:
    data = FILES["png"]
    assert refusal(data, DecodeLimits(max_bytes=len(data) - 1)).reason == "too_many_bytes"
    assert refusal(data, DecodeLimits(max_pixels=40 * 33 - 1)).reason == "too_many_pixels"
    assert refusal(data, DecodeLimits(min_side=34)).reason == "too_small"
    assert refusal(encoded(1, "JPEG", width=31, height=200)).reason == "too_small"


def resized(data: bytes, where: int, form: str, width: int, height: int) -> bytes:
    return data[:where] + struct.pack(form, width, height) + data[where + struct.calcsize(form) :]


def huge(kind: str) -> bytes:
    """A small file whose header promises 60,000 x 60,000 pixels (WebP: as many as it can)."""
    if kind == "png":
        return png_bomb()
    data = FILES[kind]
    if kind == "jpeg":
        return resized(data, data.index(b"\xff\xc0") + 5, ">HH", 60_000, 60_000)
    if kind == "webp":
        return resized(data, data.index(b"\x9d\x01\x2a") + 3, "<HH", 16_383, 16_383)
    if kind == "gif":
        return resized(resized(data, 6, "<HH", 60_000, 60_000), data.index(b",\0\0\0\0") + 5, "<HH", 60_000, 60_000)
    if kind == "bmp":
        return resized(data, 18, "<ii", 60_000, 60_000)
    if kind == "tiff deflate":
        data = resized(data, data.index(struct.pack("<HHII", 256, 3, 1, 40)) + 8, "<HH", 60_000, 0)
        return resized(data, data.index(struct.pack("<HHII", 257, 3, 1, 33)) + 8, "<HH", 60_000, 0)
    return resized(data, data.index(b"ispe") + 8, ">II", 60_000, 60_000)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "tiff deflate", "avif", "heif"])
def test_decompression_bombs_are_refused_without_taking_memory(kind: str) -> None:
    data = huge(kind)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert refusal(data).reason in ("too_many_pixels", "truncated", "corrupt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000, "KiB"


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif"])
def test_refusal_of_a_bomb_names_its_size(kind: str) -> None:
    error = refusal(huge(kind))
    assert error.reason == "too_many_pixels"
    assert "max_pixels" in str(error)


@pytest.mark.parametrize("chunk", [b"zTXt", b"iTXt", b"iCCP"])
def test_metadata_bombs_in_png_are_never_unpacked(chunk: bytes) -> None:
    packed = zlib.compress(bytes(50_000_000), 9)
    head = {b"zTXt": b"key\0\0", b"iTXt": b"key\0\x01\0\0\0", b"iCCP": b"name\0\0"}[chunk]
    plain = FILES["png"]
    data = plain[:33] + png_chunk(chunk, head + packed) * 20 + plain[33:]
    tracemalloc.start()
    try:
        pixels, _ = decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(pixels, decode(plain)[0])
    assert peak < 3_000_000


def test_progressive_jpeg_without_its_last_scans_is_refused() -> None:
    data = FILES["jpeg progressive"]
    scans = [position for position in range(len(data)) if data[position : position + 2] == b"\xff\xda"]
    assert len(scans) > 5
    for position in scans[1:]:
        table = data.rfind(b"\xff\xc4", 0, position)  # the scan's Huffman table stands before it
        shortened = data[: table if table > scans[0] else position] + b"\xff\xd9"
        assert refusal(shortened).reason in ("truncated", "corrupt")


def test_missing_trailers_are_refused_though_all_pixels_are_there() -> None:
    for kind, trailer in (("jpeg", 2), ("png", 12), ("gif", 1)):
        assert refusal(FILES[kind][:-trailer]).reason == "truncated"


@pytest.mark.parametrize("interlace", [0, 1])
def test_png_with_too_few_rows_is_refused(interlace: int) -> None:
    rows = zlib.compress(bytes((33 if interlace else 32) * (1 + 3 * 40)))  # Adam7 has more rows than the picture
    data = png(png_header(40, 33, interlace), (b"IDAT", rows), (b"IEND", b""))
    assert refusal(data).reason in ("truncated", "corrupt")


@pytest.mark.parametrize(
    "chunks",
    [
        [(b"IEND", b"")],
        [png_header(40, 33), (b"IEND", b"")],
        [png_header(0, 33), (b"IDAT", b""), (b"IEND", b"")],
        [png_header(40, 33, depth=3), (b"IDAT", b""), (b"IEND", b"")],
        [png_header(40, 33, colour=3), (b"IDAT", b""), (b"IEND", b"")],
        [png_header(40, 33), (b"IDAT", b""), (b"tEXt", b"a\0b"), (b"PLTE", bytes(3)), (b"IDAT", b""), (b"IEND", b"")],
        [png_header(40, 33), png_header(40, 33), (b"IDAT", b""), (b"IEND", b"")],
    ],
    ids=["no header", "no data", "no width", "odd depth", "no palette", "scattered data", "two headers"],
)
def test_png_of_contradicting_chunks_is_refused(chunks: list[tuple[bytes, bytes]]) -> None:
    assert refusal(png(*chunks)).reason == "corrupt"


def test_png_with_unknown_critical_chunk_is_refused() -> None:
    data = FILES["png"]
    assert refusal(data[:8] + png_chunk(b"CgBI", bytes(4)) + data[8:]).reason in ("unsupported_format", "corrupt")


@pytest.mark.parametrize("fmt", ["PNG", "GIF", "BMP"])
def test_colours_that_the_palette_lacks_are_refused(fmt: str) -> None:
    if fmt == "PNG":
        body = zlib.compress((b"\0" + bytes([7]) * 40) * 33)
        data = png(png_header(40, 33, colour=3), (b"PLTE", bytes(6)), (b"IDAT", body), (b"IEND", b""))
    elif fmt == "GIF":
        data = FILES["gif"]  # 256 colours in its table; say there are 2, and cut the table to that
        data = data[:10] + bytes([data[10] & 0xF8]) + data[11:13] + data[13:19] + data[13 + 768 :]
    else:
        data = FILES["bmp palette"]
        data = data[:46] + struct.pack("<I", 2) + data[50:]
    assert refusal(data).reason == "corrupt"


def test_gif_whose_picture_ends_early_is_refused() -> None:
    data = FILES["gif"]
    start = data.index(b",\0\0\0\0") + 11
    first = data[start]
    assert refusal(data[: start + 1 + first] + b"\0;").reason in ("truncated", "corrupt")
    clear_and_end = b"\x08" + b"\x03" + b"\x00\x03\x02" + b"\0"  # LZW: clear code, then end code at once
    assert refusal(data[: start - 1] + clear_and_end + b";").reason in ("truncated", "corrupt")


def test_gif_whose_first_frame_leaves_canvas_bare_is_refused() -> None:
    data = FILES["gif"]
    assert refusal(resized(data, 6, "<HH", 44, 33)).reason == "unsupported_pixels"


@pytest.mark.parametrize("mode", ["F", "I", "LAB", "YCbCr"])
def test_tiff_pixels_without_exact_meaning_are_refused(mode: str) -> None:
    assert refusal(encoded(3, "TIFF", mode=mode)).reason == "unsupported_pixels"


@pytest.mark.parametrize("compression", ["jpeg", "packbits", "group4", "zstd"])
def test_tiff_compressions_that_only_warn_are_refused(compression: str) -> None:
    error = refusal(encoded(3, "TIFF", mode="1" if compression == "group4" else "RGB", compression=compression))
    assert error.reason == "unsupported_format"
    assert "Deflate" in str(error)


def tiff(entries: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(body)) + body + directory


def grey_tiff(**changes: Any) -> bytes:
    """A 40 x 33 grey TIFF in three strips of 11 rows; `changes` replaces entries by tag: t278=(kind, count, value)."""
    rows = bytes(range(40)) * 33
    offsets = struct.pack("<6I", 8, 8 + 440, 8 + 880, 440, 440, 440)
    tags: dict[int, tuple[int, int, int]] = {
        256: (4, 1, 40),
        257: (4, 1, 33),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 3, 8 + 1320),
        277: (3, 1, 1),
        278: (4, 1, 11),
        279: (4, 3, 8 + 1320 + 12),
    }
    tags |= {int(key[1:]): value for key, value in changes.items()}
    return tiff([(tag, *value) for tag, value in sorted(tags.items()) if value[1]], rows + offsets)


def test_hand_made_tiff_decodes() -> None:
    pixels, _ = decode(grey_tiff())
    assert np.array_equal(pixels[..., 0], np.tile(np.arange(40, dtype=np.uint8), (33, 1)))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"t278": (4, 1, 5)}, "corrupt"),  # five rows a strip: three strips do not fill the picture
        ({"t257": (4, 1, 34)}, "corrupt"),  # one row more than there is data for
        ({"t257": (4, 1, 99_999_999)}, "corrupt"),
        ({"t256": (4, 1, 0)}, "corrupt"),
        ({"t256": (4, 2, 8)}, "corrupt"),  # two widths
        ({"t256": (5, 1, 8)}, "corrupt"),  # the width as a fraction
        ({"t259": (3, 2, 1 | 5 << 16)}, "corrupt"),  # two compressions
        ({"t273": (4, 3, 9_999)}, "truncated"),
        ({"t279": (4, 0, 0)}, "corrupt"),  # no strip lengths
        ({"t270": (2, 999_999, 8)}, "truncated"),  # a description longer than the file
        ({"t34665": (4, 1, 99_999)}, "truncated"),  # EXIF behind the end
        ({"t258": (3, 1, 12)}, "unsupported_pixels"),
        ({"t262": (3, 1, 8)}, "unsupported_pixels"),
        ({"t277": (3, 1, 200)}, "unsupported_pixels"),
        ({"t284": (3, 1, 7)}, "unsupported_pixels"),
        ({"t339": (3, 1, 3)}, "unsupported_pixels"),
    ],
)
def test_tiff_of_contradicting_tags_is_refused(changes: dict[str, tuple[int, int, int]], reason: str) -> None:
    assert refusal(grey_tiff(**changes)).reason == reason


def test_tiff_whose_compressed_strip_holds_too_few_rows_is_refused() -> None:
    packed = zlib.compress(bytes(range(40)) * 32)
    entries = [(256, 4, 1, 40), (257, 4, 1, 33), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1)]
    data = tiff([*entries, (273, 4, 1, 8), (277, 3, 1, 1), (278, 4, 1, 33), (279, 4, 1, len(packed))], packed)
    assert refusal(data).reason in ("truncated", "corrupt")


@pytest.mark.parametrize(
    "changes",
    [
        {"t282": (5, 1, 8)},  # a resolution of 0x03020100 / 0x07060504
        {"t282": (3, 7, 8)},  # a resolution of seven numbers
        {"t270": (2, 20, 8)},  # a description that does not end
        {"t700": (1, 40, 8)},  # XMP that is none
        {"t34675": (7, 40, 8)},  # a colour profile that is none
        {"t37510": (77, 40, 8)},  # a type that does not exist
        {"t274": (3, 1, 9)},  # an orientation that does not exist
    ],
)
def test_odd_tiff_metadata_neither_disturbs_nor_warns(changes: dict[str, tuple[int, int, int]]) -> None:
    assert np.array_equal(decode(grey_tiff(**changes))[0], decode(grey_tiff())[0])


def test_endless_tiff_directories_end() -> None:
    data = grey_tiff(t34665=(4, 1, 8 + 1320 + 24))  # the EXIF directory is this directory itself
    assert decode(data)[1].has_exif


def test_run_length_coded_bmp_is_refused() -> None:
    data = FILES["bmp palette"]
    assert refusal(data[:30] + struct.pack("<I", 1) + data[34:]).reason == "unsupported_format"


def test_missing_heif_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    error = refusal(FILES["heif"])
    assert error.reason == "unsupported_format"
    assert "pip install pillow-heif" in str(error)


def test_a_lenient_pillow_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(TelltaleError, match="LOAD_TRUNCATED_IMAGES"):
        decode(FILES["png"])


def test_lack_of_memory_is_not_blamed_on_the_picture() -> None:
    def decoder() -> None:
        raise MemoryError

    with pytest.raises(MemoryError):
        strictly(decoder)


def test_stored_picture_of_another_format_is_refused() -> None:
    for kind in ("gif", "tiff", "bmp", "heif"):
        with pytest.raises(ImageError) as caught:
            decode_canonical(FILES[kind])
        assert caught.value.reason == "unsupported_format"


def test_refusals_cross_process_borders() -> None:
    error = pickle.loads(pickle.dumps(refusal(b"")))  # noqa: S301
    assert (type(error), error.reason, str(error)) == (ImageError, "empty", str(refusal(b"")))


def test_pillow_would_have_shown_grey_where_this_refuses() -> None:
    """Why the readers exist: the hand-made TIFF with a missing strip decodes in Pillow, without a word."""
    offsets = struct.pack("<II", 8, 8 + 440)
    body = bytes(range(40)) * 33 + offsets
    entries = [(256, 4, 1, 40), (257, 4, 1, 33), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
    data = tiff([*entries, (273, 4, 2, 8 + 1320), (277, 3, 1, 1), (278, 4, 1, 11)], body)
    shown = np.asarray(Image.open(io.BytesIO(data)))
    assert (shown[22:] == 0).all()
    assert refusal(data).reason == "corrupt"
