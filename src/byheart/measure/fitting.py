"""What the fits over the runs of a sweep share: resampled runs, Newton's climb. No torch here."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
LEAST_SIZES = 3  # distinct n below which no fit is made: two points agree with any line

Values = Float[np.ndarray, " n"]
Many = Float[np.ndarray, "r n"]
Parameters = Float[np.ndarray, "r p"]
# Of each row of parameters: the gradient [r p], and minus the second derivatives [r p p].
Derivatives = Callable[[Parameters], tuple[np.ndarray, np.ndarray]]


def resampled(count: int, seed: int) -> Many:
    """How often each of `count` runs was drawn in `count` draws with replacement, 2,000 times.

    Efron 1979, "Bootstrap methods", Annals of Statistics 7.
    """
    index = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    weights = np.zeros((RESAMPLES, count))
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], index), 1)
    return weights


def middle(values: Values) -> tuple[float | None, float | None]:
    """The middle 95 %, nan left out; None for an end that is infinite."""
    known = values[~np.isnan(values)]
    # No interpolation: between infinity and a number lies nothing.
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf")
    return finite(low), finite(high)


def finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def climb(
    start: Parameters, value: Callable[[Parameters], Values], derivatives: Derivatives
) -> Parameters:
    """The parameters of largest `value`, a strictly concave function, from each row of `start`."""
    at, best = start, value(start)
    for _ in range(100):
        gradient, curvature = derivatives(at)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        # Newton's step may overshoot where the function is nearly straight: halve it until it
        # gains. What is no number lies outside and gains nothing.
        for _ in range(30):
            reached = value(at + step)
            worse = ~(reached >= best - 1e-9)
            if not worse.any():
                break
            step[worse] /= 2
        at, best = at + step, reached
        if np.abs(step).max() < 1e-9:
            break
    return at
