"""A file that holds several pictures side by side, as programs save what they made: its tiles."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import pairwise, product
from math import prod

import numpy as np
from jaxtyping import Float, Int, UInt8

from byheart.data.decode import Box, Picture
from byheart.runtime.errors import few

MOST, LEAST = 8, 32  # tiles along a side, and pixels of a tile's
LONG = 1.8  # a tile's long side is at most so many times its short one (a telephone's 16:9)
SHOWN = 5  # sheets that a note names
STEP = 2  # of 255: a difference that is seen at a seam and not beside it
SEAM, SHARE = 2.5, 0.45  # of all seams: times the usual difference; share of pixels that stand out
ONE = 0.5  # and each by itself at least so much of both
RIVAL = 1.3  # times what the third of all other lines has
EVEN = 4  # of 255, within which a gap's pixels lie


def tiles_of(picture: Picture) -> list[tuple[str, Picture]]:
    """Each tile with its place, such as "row 1 column 2"; nothing where it is one picture."""
    pixels = np.array(picture.rgb((0, 0, *picture.size)))
    rows, columns = _bands(pixels) or _seams(pixels)
    if len(rows) * len(columns) < 2:
        return []
    boxes: list[tuple[str, Box]] = [
        (f"row {i} column {k}", (left, upper, right, lower))
        for i, (upper, lower) in enumerate(rows, 1)
        for k, (left, right) in enumerate(columns, 1)
    ]
    return [(name, replace(picture, image=picture.image.crop(box))) for name, box in boxes]


def sheets_named(tiles: dict[str, int]) -> str:
    """Files, each with how many tiles it has."""
    return few([f"{name} ({count})" for name, count in tiles.items()], SHOWN)


Spans = list[tuple[int, int]]


def _bands(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[Spans, Spans] | None:
    """Rows and columns of equal tiles with a gap of one colour between them; None: one picture."""
    spans = []
    for lines in (_turned(pixels), pixels):
        even = (lines.max(0).astype(int) - lines.min(0)).max(1) <= EVEN
        spans.append(_between(even))
    rows, columns = spans
    heights, widths = ({b - a for a, b in one} for one in spans)
    if len(rows) * len(columns) < 2:
        return None
    if max(heights) - min(heights) > 2 or max(widths) - min(widths) > 2:
        return None
    # Round a sheet there is no more than between its tiles, but for a caption above; a drawing of
    # two alike things has its margins.
    gaps = [b[0] - a[1] for one in spans for a, b in pairwise(one)]
    height, width = pixels.shape[:2]
    margins = [columns[0][0], width - columns[-1][1], height - rows[-1][1]]
    if max(margins) > max(gaps) + 2 or not _plausible(max(widths), max(heights)):
        return None
    return rows, columns


def _between(even: np.ndarray) -> Spans:
    """The stretches that are not even."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], even, [True]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=True)]


def _plausible(width: int, height: int) -> bool:
    return min(width, height) >= LEAST and max(width, height) <= LONG * min(width, height)


def _seams(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[Spans, Spans]:
    """Rows and columns of equal tiles without a gap: the most tiles of which every seam shows."""
    height, width = pixels.shape[:2]
    across, down = _Lines(_turned(pixels)), _Lines(pixels)
    counts = range(1, MOST + 1)
    shown = [[count for count in counts if side % count == 0 and lines.stand_out(count)]
             for side, lines in ((height, down), (width, across))]  # fmt: skip
    fit = [pair for pair in product(*shown) if _plausible(width // pair[1], height // pair[0])]
    rows, columns = max(fit, key=prod, default=(1, 1))
    high, wide = height // rows, width // columns
    return ([(k * high, (k + 1) * high) for k in range(rows)],
            [(k * wide, (k + 1) * wide) for k in range(columns)])  # fmt: skip


def _turned(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "w h 3"]:
    return np.ascontiguousarray(pixels.transpose(1, 0, 2))


class _Lines:
    """Of each line of pixels how it differs from the next."""

    def __init__(self, pixels: UInt8[np.ndarray, "k d 3"]) -> None:
        one, other = pixels[:-1], pixels[1:]
        channels = np.moveaxis(np.maximum(one, other) - np.minimum(one, other), 2, 0)
        differences = reduce(np.maximum, channels)
        self.means = differences.mean(1)
        self.usual = SEAM * max(float(np.median(self.means)), STEP)
        self.beside = np.pad(differences, ((2, 2), (0, 0)))

    def stand_out(self, count: int) -> bool:
        """Whether at the `count` - 1 seams neighbours differ as they do nowhere else."""
        if count == 1:
            return True
        every = np.arange(len(self.means))
        seams = (len(every) + 1) // count * np.arange(1, count) - 1
        found = self._found(seams)
        if found.min() < ONE or found.mean(1).min() < 1:
            return False
        # A drawing in large pixels has such lines all over.
        others = np.delete(every, seams)
        alike = (self._found(others) >= 1).all(0).sum()
        third = np.sort(self.means[others])[-3]
        return bool(alike < count and self.means[seams].mean() >= RIVAL * third)

    def _found(self, lines: Int[np.ndarray, " k"]) -> Float[np.ndarray, "2 k"]:
        """Difference and share of pixels that differ more than beside it, over what a seam has."""
        own = self.beside[lines + 2].astype(int)
        most = np.max([self.beside[lines + k] for k in (0, 1, 3, 4)], axis=0)
        return np.stack([self.means[lines] / self.usual, (own - STEP > most).mean(1) / SHARE])
