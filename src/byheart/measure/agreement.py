"""Two models that share no training image: how alike is what they make of the same noise?

Kadkhodaie et al. 2024, "Generalization in diffusion models arises from geometry-adaptive harmonic
representations" (arXiv:2310.02557): models trained on disjoint halves of one source agree only
where neither copies its own half any more. No torch here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from byheart.measure.trends import RESAMPLES

Pixels = UInt8[np.ndarray, "s h w 3"]


@dataclass(frozen=True)
class Median:
    """A median of `count` correlations with its 95 % interval; all None where none is defined."""

    value: float | None
    low: float | None  # None, with `high`, where there is one noise only: nothing to draw anew
    high: float | None
    count: int


def correlation(a: Pixels, b: Pixels) -> Float[np.ndarray, " s"]:
    """Of each two images: the cosine of their pixel vectors, each less its own mean.

    <a - mean a, b - mean b> / (|a - mean a| |b - mean b|) over all h · w · 3 numbers, the mean one
    number for all three colours. 1: the same but for brightness and contrast; nan where an image
    is flat and so has no direction.
    """
    if a.shape != b.shape:
        raise ValueError(f"images of {a.shape} and {b.shape}: give as many of the same size")
    numbers = math.prod(a.shape[1:])
    x, y = (images.reshape(len(images), numbers).astype(np.float64) for images in (a, b))
    x, y = x - x.mean(axis=1, keepdims=True), y - y.mean(axis=1, keepdims=True)
    lengths = np.sqrt((x**2).sum(axis=1) * (y**2).sum(axis=1))
    lengths[lengths == 0] = np.nan
    # A root's rounding may leave 1 + 2e-16.
    return np.clip((x * y).sum(axis=1) / lengths, -1, 1)


def median(values: Float[np.ndarray, " s"], noises: Sequence[int], seed: int = 0) -> Median:
    """The median of all values that are not nan.

    noises: the initial noise of each. The interval is the middle 95 % over 2,000 resamples of the
    noises, each with all its values: where a prompt changes nothing, outputs of one noise are one
    output, however many prompts there are.
    """
    known = ~np.isnan(values)
    whole, of = values[known], np.asarray(noises)[known]
    if len(whole) == 0:
        return Median(None, None, None, 0)
    every = [whole[of == noise] for noise in np.unique(of)]
    low = high = None
    if len(every) > 1:
        drawn = np.random.default_rng(seed).integers(len(every), size=(RESAMPLES, len(every)))
        again = [np.median(np.concatenate([every[k] for k in row])) for row in drawn]
        low, high = map(float, np.quantile(again, [0.025, 0.975]))
    return Median(float(np.median(whole)), low, high, len(whole))
