"""Pixels by Pillow, for every format but JPEG: one plugin named by the caller, then 8-bit RGB.

The plugin is called itself rather than through `Image.open`: no other plugin gets a try, nothing needs
registering, and the pixel limit is ours alone. The readers hand over only bytes whose structure they have
walked, so none of Pillow's warnings can be reached; that matters because `warnings.catch_warnings` is not
safe between threads.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from PIL import Image, ImageFile

from pipeline._jpeg import cmyk_to_rgb
from pipeline._layout import Pixels, corrupt, truncated, unsupported_pixels
from pipeline.errors import ImageError, TelltaleError

__all__ = ["Check", "Plugin", "load", "over_white", "strictly", "to_rgb"]

Plugin = Callable[[io.BytesIO], ImageFile.ImageFile]
Check = Callable[[Image.Image], None]
_Result = TypeVar("_Result")


def load(plugin: Plugin, data: bytes, size: tuple[int, int], check: Check | None = None) -> Pixels:
    """uint8 RGB (height, width, 3) of a file of that size; `ImageError` if Pillow finds anything wrong.

    `check` sees the decoded samples, before they become RGB, and raises what it finds wrong with them.
    """
    return strictly(lambda: _load(plugin, data, size, check))


def strictly(decoder: Callable[[], _Result]) -> _Result:
    """What `decoder` returns, whatever it raises turned into `ImageError`."""
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise TelltaleError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is set, so Pillow would fill missing pixels with grey: "
            "find the library or code that sets it, and set it back to False"
        )
    try:
        return decoder()
    except (ImageError, MemoryError):  # too little memory says nothing about the picture
        raise
    except Exception as error:  # on damaged files Pillow raises almost any type
        text = f"{type(error).__name__}: {error}"
        raise (truncated if "truncated" in text.lower() else corrupt)(f"picture data not decodable ({text})") from None


def _load(plugin: Plugin, data: bytes, size: tuple[int, int], check: Check | None) -> Pixels:
    image = plugin(io.BytesIO(data))
    if image.size != size:
        raise corrupt(f"size {image.size} differs from the header's {size}")
    palette = image.palette
    colours = 256
    if palette is not None:
        colours = len(palette.palette) // len((palette.rawmode or palette.mode).partition(";")[0])
    image.load()
    if image.mode == "P" and int(np.asarray(image).max()) >= colours:
        raise corrupt("pixels of a colour that the palette does not have")
    if check is not None:
        check(image)
    return to_rgb(image)


def to_rgb(image: Image.Image) -> Pixels:
    """uint8 RGB (height, width, 3) of a loaded picture: alpha over white, 16-bit grey by its upper byte."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "CMYK":
        return cmyk_to_rgb(np.asarray(image))
    if image.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"):
        raise unsupported_pixels(f"pixels of Pillow's mode {image.mode!r}")
    if image.has_transparency_data:
        return over_white(np.asarray(image.convert("RGBA")))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def over_white(pixels: Pixels) -> Pixels:
    """uint8 RGBA (height, width, 4) over white, rounded: (colour * alpha + 255 * (255 - alpha)) / 255."""
    alpha = pixels[..., 3:].astype(np.uint16)
    mixed = pixels[..., :3] * alpha + 255 * (255 - alpha) + 127
    return (mixed // 255).astype(np.uint8)
