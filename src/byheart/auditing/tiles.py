"""A file that holds several pictures side by side, as programs save what they made: its tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int, UInt8

from byheart.data.decode import Box, Picture

MOST, LEAST = 8, 32  # tiles along a side, and pixels of a tile's
LONG = 1.8  # a tile's long side is at most so many times its short one (a telephone's 16:9)
STEP = 2  # of 255: a difference that is seen at a seam and not beside it
SEAM, SHARE = 2.5, 0.45  # of all seams: times the usual difference; share of pixels that stand out
ONE = 0.5  # and each by itself at least so much of both
RIVAL = 1.3  # times what the third of all other lines has
EVEN = 4  # of 255, within which a gap's pixels lie


def tiles_of(picture: Picture) -> list[tuple[str, Picture]]:
    """Each tile with its place, such as "row 1 column 2"; nothing where it is one picture."""
    pixels = np.array(picture.rgb((0, 0, *picture.size)))
    rows, columns = _bands(pixels)
    if len(rows) * len(columns) < 2:
        rows, columns = _seams(pixels)
    if len(rows) * len(columns) < 2:
        return []
    boxes: list[tuple[str, Box]] = [
        (f"row {i} column {k}", (left, upper, right, lower))
        for i, (upper, lower) in enumerate(rows, 1)
        for k, (left, right) in enumerate(columns, 1)
    ]
    return [(name, replace(picture, image=picture.image.crop(box))) for name, box in boxes]


Spans = list[tuple[int, int]]


def _bands(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[Spans, Spans]:
    """Rows and columns of equal tiles with a gap of one colour between them."""
    spans = []
    for axis in (1, 0):
        even = (pixels.max(axis).astype(int) - pixels.min(axis)).max(1) <= EVEN
        spans.append(_between(even))
    rows, columns = spans
    heights, widths = ({b - a for a, b in one} for one in spans)
    if not rows or not columns or len(rows) * len(columns) < 2:
        return [], []
    if max(heights) - min(heights) > 2 or max(widths) - min(widths) > 2:
        return [], []
    # Round a sheet there is no more than between its tiles, but for a caption above; a drawing of
    # two alike things has its margins.
    gaps = [b[0] - a[1] for one in spans for a, b in pairwise(one)]
    height, width = pixels.shape[:2]
    margins = [columns[0][0], width - columns[-1][1], height - rows[-1][1]]
    if max(margins) > max(gaps) + 2:
        return [], []
    return (rows, columns) if _plausible(max(widths), max(heights)) else ([], [])


def _between(even: np.ndarray) -> Spans:
    """The stretches that are not even."""
    edges = np.flatnonzero(np.diff(np.concatenate([[True], even, [True]]).astype(int)))
    return [(int(a), int(b)) for a, b in zip(edges[0::2], edges[1::2], strict=True)]


def _plausible(width: int, height: int) -> bool:
    return min(width, height) >= LEAST and max(width, height) <= LONG * min(width, height)


def _seams(pixels: UInt8[np.ndarray, "h w 3"]) -> tuple[Spans, Spans]:
    """Rows and columns of equal tiles without a gap: the most tiles of which every seam shows."""
    height, width = pixels.shape[:2]
    values = pixels.astype(np.int16)
    across = _lines(np.abs(np.diff(values, axis=1)).max(2).T)
    down = _lines(np.abs(np.diff(values, axis=0)).max(2))
    fit = [
        (rows, columns)
        for rows in _divisors(height)
        for columns in _divisors(width)
        if _plausible(width // columns, height // rows)
        and across.stand_out(columns)
        and down.stand_out(rows)
    ]
    rows, columns = max(fit, key=lambda pair: pair[0] * pair[1], default=(1, 1))
    high, wide = height // rows, width // columns
    return ([(k * high, (k + 1) * high) for k in range(rows)],
            [(k * wide, (k + 1) * wide) for k in range(columns)])  # fmt: skip


def _divisors(side: int) -> list[int]:
    return [count for count in range(1, MOST + 1) if side % count == 0]


@dataclass(frozen=True)
class _Lines:
    """Of each line of pixels how it differs from the next."""

    means: Float[np.ndarray, " k"]
    found: Float[np.ndarray, "2 k"]  # usual difference and share of pixels, over what a seam has

    def stand_out(self, count: int) -> bool:
        """Whether at the `count` - 1 seams neighbours differ as they do nowhere else."""
        if count == 1:
            return True
        length = (len(self.means) + 1) // count
        seams = [length * k - 1 for k in range(1, count)]
        if self.found[:, seams].min() < ONE or self.found[:, seams].mean(1).min() < 1:
            return False
        # A drawing in large pixels has such lines all over.
        others = np.delete(self.means, seams)
        alike = np.delete((self.found >= 1).all(0), seams).sum()
        return bool(alike < count and self.means[seams].mean() >= RIVAL * np.sort(others)[-3])


def _lines(differences: Int[np.ndarray, "k d"]) -> _Lines:
    means = differences.mean(1)
    beside = np.pad(differences, ((2, 2), (0, 0)))
    most = np.max([beside[k : k + len(means)] for k in (0, 1, 3, 4)], axis=0)
    usual = SEAM * max(float(np.median(means)), STEP)
    shares = (differences > most + STEP).mean(1) / SHARE
    return _Lines(means, np.stack([means / usual, shares]))
