"""When copying begins: the step of first copying as a power of n. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

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

CUT = 1.9207  # half the 95 % point of chi-squared with one degree of freedom
FIRST_STEP, LARGEST_SLOPE = 1e-3, 50.0  # of the search for where the likelihood has fallen by it
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

    The interval reaches as far as the wider of two: the middle 95 % over 2,000 resamples of the
    runs (one in which fewer than two n copied says nothing and does not count), and the exponents
    whose best likelihood is less by no more than half the 95 % point of chi-squared (Wilks 1938).
    The first knows that runs differ, the second that their looks are coarse.

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
    data = Looks(x, low, high, copied, _width(low, high, copied))
    height, slope = (float(part[0]) for part in _line(data, np.ones((1, len(points)))))
    inside = _profile(data, slope)
    if telling.any():
        resampled_ = middle(_line(data, draws[telling])[1])
        inside = (_outer(min, inside[0], resampled_[0]), _outer(max, inside[1], resampled_[1]))
    return Onset(float(np.exp(height)), slope, *inside, *counts)


@dataclass(frozen=True)
class Looks:
    """What is known of each run, in logs."""

    x: Values
    low: Values  # ends of each y
    high: Values  # means nothing where not copied
    copied: Bool[np.ndarray, " n"]
    width: float  # prior mean of the scatter


def _width(low: Values, high: Values, copied: Bool[np.ndarray, " n"]) -> float:
    looked = copied & (low > np.log(0.5))
    return float(np.median((high - low)[looked if looked.any() else copied]))


def _outer(
    pick: Callable[[float, float], float], one: float | None, other: float | None
) -> float | None:
    """The end that is further out; None has no bound."""
    return None if one is None or other is None else pick(one, other)


def _profile(data: Looks, slope: float) -> tuple[float | None, float | None]:
    """The slopes at which the likelihood, best over all else, is not yet less by CUT.

    Resampled runs share their looks: where every run lies between the same two of them, all
    resamples agree, and yet many lines pass through. None: an end that is not found.
    """

    def best(at: float) -> float:
        moved = replace(data, low=data.low - at * data.x, high=data.high - at * data.x)
        ones = np.ones((len(data.x), 1))
        return float(_likeliest(ones, moved, np.ones((1, len(data.x))))[1][0])

    least = best(slope) - CUT

    def end(sign: float) -> float | None:
        inner, step = 0.0, FIRST_STEP
        while best(slope + sign * step) > least:
            inner, step = step, 2 * step
            if step > LARGEST_SLOPE:
                return None
        for _ in range(20):
            middle_ = (inner + step) / 2
            inner, step = (
                (middle_, step) if best(slope + sign * middle_) > least else (inner, middle_)
            )
        return slope + sign * inner

    return end(-1.0), end(1.0)


def _line(data: Looks, weights: Many) -> tuple[Float[np.ndarray, " r"], Float[np.ndarray, " r"]]:
    """Height at x = 0 and slope of the likeliest line, for each row of weights of the runs.

    In each row two distinct x or more have copied.
    """
    across = data.x[data.copied].mean()
    design = np.stack([np.ones_like(data.x), data.x - across], axis=1)
    height, slope = _likeliest(design, data, weights)[0].T
    return height - slope * across, slope


def _likeliest(
    design: Float[np.ndarray, "n k"], data: Looks, weights: Many
) -> tuple[Float[np.ndarray, "r k"], Float[np.ndarray, " r"]]:
    """Coefficients of the likeliest scatter around design · coefficients, for each row of weights,
    and the logarithm of their likelihood and prior."""
    copied, width = data.copied, data.width
    # From the middle of what is known, where numbers are small.
    up = (data.low + np.where(copied, data.high, data.low))[copied].mean() / 2
    low, high = data.low - up, np.where(copied, data.high - up, 0.0)
    upper, lower = (np.column_stack([-design, end]) for end in (high, low))
    count = design.shape[1]

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
            return (weights * logs(at)[2]).sum(axis=1) - width * at[:, count]

    def derivatives(at: Parameters) -> tuple[np.ndarray, np.ndarray]:
        with np.errstate(all="ignore"):
            u, v, log = logs(at)
            # Normal density at the ends over the probability between them.
            p = np.where(copied, np.exp(-(u**2) / 2 - log) / np.sqrt(2 * np.pi), 0.0)
            q = np.exp(-(v**2) / 2 - log) / np.sqrt(2 * np.pi)
        gradient = (weights * p) @ upper - (weights * q) @ lower
        gradient[:, count] -= width
        curvature = -_summed(weights * p * q, upper, lower)
        curvature += curvature.transpose(0, 2, 1)
        curvature += _summed(weights * (u * p + p**2), upper, upper)
        curvature += _summed(weights * (q**2 - v * q), lower, lower)
        # Well inside a wide interval the likelihood is flat to the last digit: stay there.
        return gradient, curvature + FLAT * np.eye(count + 1)

    start = np.zeros((len(weights), count + 1))
    start[:, count] = 1 / (width + np.ptp(low))
    at = climb(start, value, derivatives)
    found = at[:, :count] / at[:, count:]
    found[:, 0] += up
    return found, value(at)


def _summed(weights: Many, a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "r p p"]:
    """Sum over the runs of weight · a b'."""
    return np.einsum("rn,np,nq->rpq", weights, a, b)
