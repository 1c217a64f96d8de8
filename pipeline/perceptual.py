"""Perceptual signatures: what stays of a picture when it is resized, re-encoded or a little brightened.

A signature is 35 bytes: the signs of the 256 lowest frequencies of the picture's 32 × 32 luminance (a DCT hash as in
Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions"), then the mean colour. Its first 64
bits are the coarse hash, in which candidates are looked for; all 256 confirm. The 64 lowest frequencies alone would
take two aligned portraits for one picture, the 256 do not: among 5,200 aligned faces, different ones differ in more
than 32 bits, the same one in at most 15 after resizing by 0.3 to 2, JPEG at quality 30 to 95, or brightness ± 15 %.
Crops and mirror images are not found.

Only integers are used, so a signature is the same on every machine. This module must not read files or group anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.config import between

__all__ = ["COARSE_BITS", "FINE_BITS", "SIGNATURE_BYTES", "NearDuplicates", "alike", "coarse", "signature", "stack"]

COARSE_BITS: Final = 64
FINE_BITS: Final = 256
SIGNATURE_BYTES: Final = FINE_BITS // 8 + 3

_SIDE: Final = 32
_SCALE: Final = 1 << 12
_FLOOR: Final = 3  # orthonormal DCT units; JPEG at quality 60 and rounding move a coefficient by about 0.5
_DETAIL: Final = 64  # set bits; two soft pictures have few, so the few that differ weigh more
_FEATURES: Final = 20  # coarse frequencies above the floor; portraits have 50 and more, a clear sky under 15


@dataclass(frozen=True)
class NearDuplicates:
    """When two pictures count as near-duplicates.

    Attributes:
        enabled: look for them at all (explicit groups and equal pixels always form groups).
        coarse_distance: most differing bits among the 64 lowest frequencies; every pair within it is looked at.
        fine_distance: most differing bits among all 256; in proportion fewer for soft pictures, of which fewer than 64
            bits are set.
        colour_distance: largest difference of the mean red, green or blue, in grey levels.
    """

    enabled: bool = True
    coarse_distance: int = between(0, 7, 4)
    fine_distance: int = between(0, 64, 28)
    colour_distance: int = between(0, 255, 40)


def _frequencies() -> list[tuple[int, int]]:
    """The (vertical, horizontal) frequencies of the bits: by their sum, without the mean."""
    side = range(24)
    return sorted(((u, v) for u in side for v in side if u + v), key=lambda f: (f[0] + f[1], f))[:FINE_BITS]


def _basis() -> NDArray[np.int64]:
    """The orthonormal DCT-II of 32 samples, scaled to integers: int64 (32, 32)."""
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE]
    basis = np.cos(np.pi * (2 * columns + 1) * rows / (2 * _SIDE)) * np.sqrt(2 / _SIDE)
    basis[0] /= np.sqrt(2)
    scaled: NDArray[np.int64] = np.rint(basis * _SCALE).astype(np.int64)
    return scaled


_BASIS: Final = _basis()
_ROWS, _COLUMNS = (np.array(axis) for axis in zip(*_frequencies(), strict=True))


def signature(pixels: NDArray[np.uint8]) -> bytes | None:
    """A picture's signature.

    Args:
        pixels: uint8 RGB (H, W, 3), upright, of any size.

    Returns:
        `SIGNATURE_BYTES` bytes, or None for a picture with too little in it to tell it from others (a blank page, a
        clear sky).
    """
    # Bilinear with antialiasing: box filtering made signatures differ between sizes three times as much.
    small = Image.fromarray(pixels).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
    luminance = np.asarray(small.convert("L"), dtype=np.int64)
    found = (_BASIS @ luminance @ _BASIS.T)[_ROWS, _COLUMNS]
    floor = _FLOOR * _SCALE * _SCALE
    if np.count_nonzero(np.abs(found[:COARSE_BITS]) > floor) < _FEATURES:
        return None
    colour = np.asarray(small, dtype=np.int64).sum(axis=(0, 1)) // (_SIDE * _SIDE)
    return np.packbits(found > floor).tobytes() + bytes(colour.tolist())


def coarse(mark: bytes) -> int:
    """The 64 bits of a signature in which candidates are looked for."""
    return int.from_bytes(mark[: COARSE_BITS // 8], "big")


def stack(marks: list[bytes]) -> NDArray[np.uint8]:
    """Signatures as one array: uint8 (N, `SIGNATURE_BYTES`)."""
    return np.frombuffer(b"".join(marks), dtype=np.uint8).reshape(len(marks), SIGNATURE_BYTES)


def alike(one: NDArray[np.uint8], many: NDArray[np.uint8], limits: NearDuplicates) -> NDArray[np.bool_]:
    """Which of many pictures are near-duplicates of one.

    Args:
        one: a signature, uint8 (`SIGNATURE_BYTES`,).
        many: signatures, uint8 (N, `SIGNATURE_BYTES`).
        limits: the distances.

    Returns:
        bool (N,).
    """
    differing: NDArray[Any] = np.bitwise_count(one[:-3] ^ many[:, :-3])
    near = differing[:, : COARSE_BITS // 8].sum(axis=1) <= limits.coarse_distance
    here, there = np.bitwise_count(one[:-3]).sum(), np.bitwise_count(many[:, :-3]).sum(axis=1)
    detail = np.minimum(np.minimum(here, there), _DETAIL)
    near &= differing.sum(axis=1) * _DETAIL <= limits.fine_distance * detail
    tint = np.abs(one[-3:].astype(np.int16) - many[:, -3:].astype(np.int16)).max(axis=1)
    return np.asarray(near & (tint <= limits.colour_distance))
