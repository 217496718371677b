"""Where in a picture another stands."""

from __future__ import annotations

import numpy as np
from PIL import Image


def places(canvas: Image.Image, image: np.ndarray) -> list[tuple[int, int, int]]:
    """(factor, row, column) wherever the image stands, every pixel a factor x factor square."""
    pixels, side = np.asarray(canvas), image.shape[0]
    top, left = np.nonzero((pixels == image[0, 0]).all(-1))
    found = []
    for factor in range(1, min(pixels.shape[:2]) // side + 1):
        reach = factor * side - 1
        inside = (top + reach < pixels.shape[0]) & (left + reach < pixels.shape[1])
        rows, columns = top[inside], left[inside]
        ends = (pixels[rows + reach, columns + reach] == image[-1, -1]).all(-1)
        if not ends.any():
            continue
        big = image.repeat(factor, 0).repeat(factor, 1)
        found += [
            (factor, int(y), int(x))
            for y, x in zip(rows[ends], columns[ends], strict=True)
            if (pixels[y : y + len(big), x : x + len(big)] == big).all()
        ]
    return found
