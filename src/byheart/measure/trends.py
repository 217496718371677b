"""Fits over the runs of a sweep: when copying begins, as a power of n, and where along n it ends.

No torch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit, log_ndtr

from byheart.measure.intervals import finite

RESAMPLES = 2000
BROKEN = 0.5  # share of broken outputs from which on a network has not learned to draw
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


def middle(values: Values) -> list[float]:
    """Both ends of the middle 95 %, nan left out."""
    known = values[~np.isnan(values)]
    # No interpolation: between infinity and a number lies nothing.
    return np.quantile(known, [0.025, 0.975], method="inverted_cdf").tolist()


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
    looked = copied & (low > np.log(0.5))
    width = float(np.median((high - low)[looked if looked.any() else copied]))
    data = Looks(x, low, high, copied, width)
    height, slope = (float(part[0]) for part in _line(data, np.ones((1, len(points)))))
    ends = _profile(data, slope)
    if telling.any():
        ends += middle(_line(data, draws[telling])[1])
    return Onset(float(np.exp(height)), slope, finite(min(ends)), finite(max(ends)), *counts)


@dataclass(frozen=True)
class Looks:
    """What is known of each run, in logs."""

    x: Values
    low: Values  # ends of each y
    high: Values  # means nothing where not copied
    copied: Bool[np.ndarray, " n"]
    width: float  # prior mean of the scatter


def _profile(data: Looks, slope: float) -> list[float]:
    """The slopes at which the likelihood, best over all else, is not yet less by CUT.

    Resampled runs share their looks: where every run lies between the same two of them, all
    resamples agree, and yet many lines pass through. Infinite: an end that is not found.
    """

    def best(at: float) -> float:
        moved = replace(data, low=data.low - at * data.x, high=data.high - at * data.x)
        ones = np.ones((len(data.x), 1))
        return float(_likeliest(ones, moved, np.ones((1, len(data.x))))[1][0])

    least = best(slope) - CUT

    def end(sign: float) -> float:
        inner, step = 0.0, FIRST_STEP
        while best(slope + sign * step) > least:
            inner, step = step, 2 * step
            if step > LARGEST_SLOPE:
                return sign * np.inf
        for _ in range(20):
            half_way = (inner + step) / 2
            if best(slope + sign * half_way) > least:
                inner = half_way
            else:
                step = half_way
        return slope + sign * inner

    return [end(-1.0), end(1.0)]


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


# Standard deviations of the normal prior of `half_copied`, in logits: of the intercept, and of a
# slope per standard deviation of its (logarithmic) input.
INTERCEPT, SLOPE = 10.0, 5.0
CONFOUNDED = 0.01  # an input that others explain up to this share of its spread tells nothing new


@dataclass(frozen=True)
class Half:
    """Where half of the outputs are copies, within the sizes that were measured.

    n, low and high are None where it lies or may lie outside: nothing is said of what nobody saw.
    """

    n: float | None  # training images at which 50 % falls
    low: float | None
    high: float | None
    inputs: tuple[str, ...]  # what the share is fitted on, besides a constant
    confounded: tuple[str, ...]  # varies, but only together with the inputs
    held: Mapping[str, float]  # geometric mean of the runs, at which the curve is read
    sizes: tuple[int, ...]
    runs: int
    outputs: int
    copied: int


def half_copied(points: Sequence[tuple[int, int, float, int, int]], seed: int = 0) -> Half:
    """Logistic regression of the copied share on log n, log exposures and log parameters.

    points, one for each run: training images, parameters, exposures of each image, copied outputs,
    outputs. What does not vary is left out, and so is what varies only together with what stands
    before it (exposures at a fixed number of steps): `confounded`. The curve is read at the
    geometric mean of the runs' exposures and parameters (`held`).

    Fitted by iteratively reweighted least squares with a normal prior, mean 0: standard deviation
    5 for each slope per standard deviation of its input, 10 for the constant. Separation is usual
    here (all copied up to some n, none above), and without a prior the slopes would then have no
    end; with it, what lies between the two n is a smooth step of the prior's making. The intervals
    are the middle 95 % over 2,000 resamples of the runs, those of a single n left out: outputs of
    one run are not independent.

    n and its ends are None where fewer than three distinct n were measured, or all outputs are
    copies, or none is. ValueError: numbers that no run can have.
    """
    for n, parameters, exposures, copied, outputs in points:
        if min(n, parameters, outputs) < 1 or exposures <= 0 or not 0 <= copied <= outputs:
            raise ValueError(
                f"n = {n}, {parameters} parameters, {exposures} exposures, {copied} of {outputs} "
                "outputs copied: no run can have these"
            )
    points = sorted(points)
    sizes = tuple(sorted({point[0] for point in points}))
    hits, outputs = sum(p[3] for p in points), sum(p[4] for p in points)
    nothing = Half(None, None, None, (), (), {}, sizes, len(points), outputs, hits)
    if len(sizes) < LEAST_SIZES or hits in {0, outputs}:
        return nothing
    table = np.asarray(points, dtype=np.float64)
    n, parameters, exposures = np.log10(table[:, :3]).T
    logs = {"n": n, "exposures": exposures, "parameters": parameters}
    inputs, confounded = _telling(logs)
    design = np.stack([np.ones(len(table)), *(_standard(logs[name]) for name in inputs)], axis=1)
    draws = resampled(len(table), seed)
    # Runs of a single n say nothing of how the share falls: only the prior would speak.
    draws = draws[[len(set(table[row > 0, 0])) > 1 for row in draws]]
    every = np.concatenate([np.ones((1, len(table))), draws])
    constant, slope = _logistic(design, table[:, 3], table[:, 4], every)[:, :2].T
    # All other inputs stand at their mean, where their standardised value is 0.
    centre, spread = float(n.mean()), float(n.std())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # A share that does not fall with n falls below a half nowhere.
        half = np.where(slope < 0, 10 ** (centre - spread * constant / slope), np.inf)
    low, high = middle(half[1:])
    found = replace(
        nothing, inputs=inputs, confounded=confounded,
        held={k: float(10 ** v.mean()) for k, v in logs.items() if k not in {"n", *confounded}},
    )  # fmt: skip
    if not sizes[0] <= low <= half[0] <= high <= sizes[-1]:
        return found
    return replace(found, n=float(half[0]), low=low, high=high)


def _standard(values: Values) -> Values:
    return (values - values.mean()) / values.std()


def _telling(logs: Mapping[str, Values]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of what varies on its own, and of what varies only with what stands before it."""
    kept: dict[str, Values] = {}
    confounded = []
    for name, values in logs.items():
        if np.ptp(values) < 1e-9:
            continue
        new = _standard(values)
        if kept:
            before = np.stack(list(kept.values()), axis=1)
            rest = new - before @ np.linalg.lstsq(before, new, rcond=None)[0]
            if rest.std() < CONFOUNDED:
                confounded.append(name)
                continue
        kept[name] = new
    return tuple(kept), tuple(confounded)


def _logistic(
    design: Float[np.ndarray, "n p"], hits: Values, outputs: Values, weights: Many
) -> Float[np.ndarray, "r p"]:
    """The coefficients of largest posterior probability, for each row of weights of the runs."""
    prior = 1 / np.array([INTERCEPT, *[SLOPE] * (design.shape[1] - 1)]) ** 2

    def posterior(beta: np.ndarray) -> Values:
        logit = beta @ design.T
        likelihood = weights * (hits * logit - outputs * np.logaddexp(0, logit))
        return likelihood.sum(axis=1) - (prior * beta**2).sum(axis=1) / 2

    def derivatives(beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = expit(beta @ design.T)
        gradient = (weights * (hits - outputs * share)) @ design - prior * beta
        weight = weights * outputs * share * (1 - share)
        curvature = np.einsum("rn,np,nq->rpq", weight, design, design) + np.diag(prior)
        return gradient, curvature

    return climb(np.zeros((len(weights), design.shape[1])), posterior, derivatives)
