"""The least that statistics can cost: read a folder's files, decode them strictly, count values, print the counts.

    python -m benchmarks._bare_loop FOLDER [--no-counting]

It imports nothing of Telltale, so that its start is as short as such a script's is.
"""

from __future__ import annotations

import json
import os
import sys

import numpy as np
import simplejpeg
from PIL import Image


def main(folder: str, counting: bool) -> None:
    """Loop over the files of a folder."""
    total = np.zeros(768, np.int64)
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            pixels = simplejpeg.decode_jpeg(file.read(), "RGB", strict=True)
        if counting:
            total += np.array(Image.fromarray(pixels).histogram(), np.int64)
    print(json.dumps(total.tolist()))


if __name__ == "__main__":
    main(sys.argv[1], "--no-counting" not in sys.argv)
