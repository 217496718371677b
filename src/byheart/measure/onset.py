"""When copying begins: the step of first copying as a power of n. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import log_ndtr

from byheart.measure.fitting import (
    LEAST_SIZES,
    Many,
    Parameters,
    Values,
    climb,
    middle,
    resampled,
)

NARROWEST = 1e-3  # of an interval, in log steps: below it rounding would drown the derivatives
FLAT = 1e-6  # second derivative below which a direction is not gone along; the maximum stays


@dataclass(frozen=True)
class Onset:
    """median step of first copying = factor · n^exponent; low, high: the exponent's 95 % interval.

    None where fewer than three distinct n have a run that copied.
    """

    factor: float | None  # optimizer steps
    exponent: float | None
    low: float | None
    high: float | None
    sizes: int  # distinct n among the runs that copied
    runs: int
    censored: int  # of the runs: not copied at the last look, so known to begin later only


def onset(points: Sequence[tuple[int, int, int | None]], seed: int = 0) -> Onset:
    """Fit log step = log a + b log n + scatter, normal, to the looks between which copying began.

    points, of each run: training images; the last step looked at without copying, 0 for none; the
    first one with it, None where that did not come. A step is known to lie after the one and by
    the other, or beyond the last look: it enters as the probability of just that (Tobin 1958,
    "Estimation of relationships for limited dependent variables", Econometrica 26). Taking the
    second look for the step, and leaving out the runs that did not copy, makes the exponent too
    small: at large n only the quick ones are counted.

    1/scatter has an exponential prior whose mean is one over the median width of these intervals
    in log steps (of those that begin with a look): where a line runs through all of them, the
    scatter would be 0 and many lines equally good. The more runs, the less it weighs. In 1/scatter
    and the line divided by the scatter the likelihood is concave, so that there is one maximum
    (Burridge 1981, "A note on maximum likelihood estimation for regression models using grouped
    data", Journal of the Royal Statistical Society B 43).

    The interval is the middle 95 % over 2,000 resamples of the runs. A resample in which fewer
    than two n copied says nothing and does not count.

    ValueError: an n below 1, or looks that are not in order.
    """
    for n, after, by in points:
        if n < 1 or after < 0 or (by is not None and by <= after):
            raise ValueError(f"n = {n}, copied after step {after} and by {by}: no run can have it")
    points = sorted(points, key=lambda p: (p[0], p[1], p[2] is None, p[2] or 0))
    copied = np.array([by is not None for _, _, by in points], dtype=bool)
    sizes = len({n for n, _, by in points if by is not None})
    counts = (sizes, len(points), len(points) - int(copied.sum()))
    if sizes < LEAST_SIZES:
        return Onset(None, None, None, None, *counts)
    x = np.log(np.array([n for n, _, _ in points], dtype=np.float64))
    # Steps are whole: one of them stands for half a step to either side, and the first has a log.
    low = np.log(np.array([after for _, after, _ in points]) + 0.5)
    high = np.log(np.array([by or after for _, after, by in points]) + 0.5)
    thin = copied & (high - low < NARROWEST)
    low[thin], high[thin] = high[thin] - NARROWEST, low[thin] + NARROWEST
    draws = resampled(len(points), seed)
    telling = np.array([len(set(x[(row > 0) & copied])) > 1 for row in draws])
    height, slope = _lines(x, low, high, copied, np.ones((1, len(points))))
    ends: tuple[float | None, float | None] = (None, None)
    if telling.any():
        ends = middle(_lines(x, low, high, copied, draws[telling])[1])
    return Onset(float(np.exp(height[0])), float(slope[0]), *ends, *counts)


def _lines(
    x: Values, low: Values, high: Values, copied: Bool[np.ndarray, " n"], weights: Many
) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """Height at x = 0 and slope of the likeliest line, for each row of weights of the runs.

    low, high: the ends of each y; where not copied, `high` means nothing. In each row two distinct
    x or more have copied.
    """
    looked = copied & (low > np.log(0.5))
    width = float(np.median((high - low)[looked if looked.any() else copied]))
    # From the middle of what is known, where numbers are small.
    across, up = x[copied].mean(), (low + high)[copied].mean() / 2
    x, low, high = x - across, low - up, np.where(copied, high - up, 0.0)
    line = np.stack([np.ones_like(x), x], axis=1)
    upper, lower = (np.column_stack([-line, end]) for end in (high, low))

    def logs(at: Parameters) -> tuple[Many, Many, Many]:
        """Both ends in standard deviations from the line, and the log of what lies between."""
        u, v = at @ upper.T, at @ lower.T
        # In the lower tail, where nothing is lost to rounding: P(v..u) = P(-u..-v).
        flip = v > 0
        most, least = log_ndtr(np.where(flip, -v, u)), log_ndtr(np.where(flip, -u, v))
        between = most + np.log(-np.expm1(least - most))
        return u, v, np.where(copied, between, log_ndtr(-v))

    def value(at: Parameters) -> Float[np.ndarray, " r"]:
        with np.errstate(all="ignore"):  # 1/scatter below 0: nan, which gains nothing
            return (weights * logs(at)[2]).sum(axis=1) - width * at[:, 2]

    def derivatives(at: Parameters) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            u, v, log = logs(at)
            # Normal density at the ends over the probability between them.
            p = np.where(copied, np.exp(-(u**2) / 2 - log) / np.sqrt(2 * np.pi), 0.0)
            q = np.exp(-(v**2) / 2 - log) / np.sqrt(2 * np.pi)
        gradient = (weights * p) @ upper - (weights * q) @ lower - np.array([0, 0, width])
        curvature = -_summed(weights * p * q, upper, lower)
        curvature += curvature.transpose(0, 2, 1)
        curvature += _summed(weights * (u * p + p**2), upper, upper)
        curvature += _summed(weights * (q**2 - v * q), lower, lower)
        # Well inside a wide interval the likelihood is flat to the last digit: stay there.
        return gradient, curvature + FLAT * np.eye(3)

    start = np.tile([0.0, 0.0, 1 / (width + np.ptp(low))], (len(weights), 1))
    height, slope, inverse = climb(start, value, derivatives).T
    slope = slope / inverse
    return height / inverse + up - slope * across, slope


def _summed(weights: Many, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "r p p"]:
    """Sum over the runs of weight · a b'."""
    return np.einsum("rn,np,nq->rpq", weights, a, b)
