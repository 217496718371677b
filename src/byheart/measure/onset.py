"""When copying begins, and where it ends: two fits over the runs of a sweep. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite, log10

import numpy as np
from jaxtyping import Float

RESAMPLES = 2000
LEAST_SIZES = 3  # distinct n below which neither fit is made: two points agree with any line
WEB = 2_300_000_000  # training images of Stable Diffusion v1
# Standard deviations of the normal prior of `extrapolate`, in logits: of the intercept, and of a
# slope per standard deviation of its (logarithmic) input.
INTERCEPT, SLOPE = 10.0, 5.0
CONFOUNDED = 0.01  # an input that others explain up to this share of its spread tells nothing new

Values = Float[np.ndarray, " n"]
Many = Float[np.ndarray, "r n"]


@dataclass(frozen=True)
class Onset:
    """step of first copying = factor · n^exponent; low, high: the exponent's 95 % interval.

    None where fewer than three distinct n have a run that copied.
    """

    factor: float | None  # optimizer steps
    exponent: float | None
    low: float | None
    high: float | None
    sizes: int  # distinct n among the runs that copied
    runs: int
    censored: int  # of the runs: not copied within the run, left out of the fit


@dataclass(frozen=True)
class Extrapolation:
    """Where half of the outputs are copies, and what the same curve says for `images`.

    All five values and `half_*` are None where undefined; an end of an interval is None too where
    the resampled runs set it no bound.
    """

    half: float | None  # training images at which 50 % falls
    half_low: float | None
    half_high: float | None
    share: float | None  # copied share at `images`
    share_low: float | None
    share_high: float | None
    images: int
    orders: float | None  # of magnitude between `images` and the measured n; 0: among them
    inputs: tuple[str, ...]  # what the share is fitted on, besides a constant
    confounded: tuple[str, ...]  # varies, but only together with the inputs
    held: Mapping[str, float]  # geometric mean of the runs, at which the curve is read
    sizes: int
    runs: int
    outputs: int
    copied: int
    warning: str  # in plain words


def onset(points: Sequence[tuple[int, int | None]], seed: int = 0) -> Onset:
    """Fit log step = log a + b log n by least squares over the runs that copied.

    points: (training images, optimizer step of first copying) of each run; None: not copied within
    the run. Such runs are left out, so where there are some the true exponent is likely larger.
    The interval is the middle 95 % over 2,000 resamples of the runs (Efron 1979, "Bootstrap
    methods", Annals of Statistics 7); resamples of a single n say nothing and do not count.

    ValueError: an n or a step below 1.
    """
    for n, step in points:
        if n < 1 or (step is not None and step < 1):
            raise ValueError(f"n = {n}, step {step}: both count from 1")
    seen = sorted((n, step) for n, step in points if step is not None)
    sizes, censored = len({n for n, _ in seen}), len(points) - len(seen)
    if sizes < LEAST_SIZES:
        return Onset(None, None, None, None, sizes, len(points), censored)
    x, y = np.log(np.asarray(seen, dtype=np.float64)).T
    (slope,), (height,) = _line(x, y, np.ones((1, len(seen))))
    low, high = _middle(_line(x, y, _resampled(len(seen), seed))[0])
    return Onset(float(np.exp(height)), float(slope), low, high, sizes, len(points), censored)


def extrapolate(
    points: Sequence[tuple[int, int, float, int, int]], images: int = WEB, seed: int = 0
) -> Extrapolation:
    """Logistic regression of the copied share on log n, log exposures and log parameters.

    points, one for each run: training images, parameters, exposures of each image, copied outputs,
    outputs. What does not vary is left out, and so is what varies only together with what stands
    before it (exposures at a fixed number of steps): `confounded`. The curve is read at the
    geometric mean of the runs' exposures and parameters (`held`).

    Fitted by iteratively reweighted least squares with a normal prior, mean 0: standard deviation
    5 for each slope per standard deviation of its input, 10 for the constant. Separation is usual
    here (all copied up to some n, none above), and without a prior the slopes would then have no
    end; with it, what lies between the two n is a smooth step of the prior's making. The intervals
    are the middle 95 % over 2,000 resamples of the runs: outputs of one run are not independent.

    None throughout where fewer than three distinct n were measured, or all outputs are copies, or
    none is. ValueError: numbers that no run can have.
    """
    for n, parameters, exposures, copied, outputs in points:
        if min(n, parameters, outputs) < 1 or exposures <= 0 or not 0 <= copied <= outputs:
            raise ValueError(
                f"n = {n}, {parameters} parameters, {exposures} exposures, {copied} of {outputs} "
                "outputs copied: no run can have these"
            )
    points = sorted(points)
    sizes = sorted({point[0] for point in points})
    hits, outputs = sum(p[3] for p in points), sum(p[4] for p in points)
    orders = _orders(images, sizes) if sizes else None
    nothing = Extrapolation(
        None, None, None, None, None, None, images, orders, (), (), {},
        len(sizes), len(points), outputs, hits, _warning(images, sizes, orders),
    )  # fmt: skip
    if len(sizes) < LEAST_SIZES or hits in {0, outputs}:
        return nothing
    table = np.asarray(points, dtype=np.float64)
    logs = dict(zip(("n", "parameters", "exposures"), np.log10(table[:, :3]).T, strict=True))
    logs = {name: logs[name] for name in ("n", "exposures", "parameters")}
    inputs, confounded = _telling(logs)
    design = np.stack([np.ones(len(table)), *(_standard(logs[name]) for name in inputs)], axis=1)
    every = np.concatenate([np.ones((1, len(table))), _resampled(len(table), seed)])
    constant, slope = _logistic(design, table[:, 3], table[:, 4], every)[:, :2].T
    # All other inputs stand at their mean, where their standardised value is 0.
    middle, spread = float(logs["n"].mean()), float(logs["n"].std())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # A share that does not fall with n falls below a half nowhere.
        half = np.where(slope < 0, 10 ** (middle - spread * constant / slope), np.inf)
    share = _expit(constant + slope * (log10(images) - middle) / spread)
    half_low, half_high = _middle(half[1:])
    share_low, share_high = _middle(share[1:])
    return replace(
        nothing, half=_finite(half[0]), half_low=half_low, half_high=half_high,
        share=float(share[0]), share_low=share_low, share_high=share_high,
        inputs=inputs, confounded=confounded,
        held={k: float(10 ** v.mean()) for k, v in logs.items() if k not in {"n", *confounded}},
    )  # fmt: skip


def _line(x: Values, y: Values, weights: Many) -> tuple[Values, Values]:
    """Slope and height at x = 0 of each row's weighted least squares; nan where x does not vary."""
    total = weights.sum(axis=1, keepdims=True)
    across = x - (weights @ x)[:, None] / total
    spread = (weights * across**2).sum(axis=1)
    spread[spread < 1e-12] = np.nan
    slope = (weights * across * y).sum(axis=1) / spread
    return slope, ((weights @ y) - slope * (weights @ x)) / total[:, 0]


def _resampled(count: int, seed: int) -> Many:
    """How often each of `count` runs was drawn in `count` draws with replacement, 2,000 times."""
    index = np.random.default_rng(seed).integers(count, size=(RESAMPLES, count))
    weights = np.zeros((RESAMPLES, count))
    np.add.at(weights, (np.arange(RESAMPLES)[:, None], index), 1)
    return weights


def _middle(values: Values) -> tuple[float | None, float | None]:
    """The middle 95 %, nan left out; None for an end that is infinite."""
    known = values[~np.isnan(values)]
    # No interpolation: between infinity and a number lies nothing.
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf")
    return _finite(low), _finite(high)


def _finite(value: float) -> float | None:
    return float(value) if isfinite(value) else None


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


def _expit(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow and without losing the smallest shares."""
    return np.exp(-np.logaddexp(0, -x))


def _logistic(
    design: Float[np.ndarray, "n p"], hits: Values, outputs: Values, weights: Many
) -> Float[np.ndarray, "r p"]:
    """The coefficients of largest posterior probability, for each row of weights of the runs."""
    prior = 1 / np.array([INTERCEPT, *[SLOPE] * (design.shape[1] - 1)]) ** 2
    beta = np.zeros((len(weights), design.shape[1]))

    def posterior(beta: np.ndarray) -> Values:
        logit = beta @ design.T
        likelihood = weights * (hits * logit - outputs * np.logaddexp(0, logit))
        return likelihood.sum(axis=1) - (prior * beta**2).sum(axis=1) / 2

    best = posterior(beta)
    for _ in range(100):
        share = _expit(beta @ design.T)
        gradient = (weights * (hits - outputs * share)) @ design - prior * beta
        weight = weights * outputs * share * (1 - share)
        curvature = np.einsum("rn,np,nq->rpq", weight, design, design) + np.diag(prior)
        step = np.linalg.solve(curvature, gradient[..., None])[..., 0]
        # Newton's step may overshoot where the shares are near 0 or 1: halve it until it gains.
        for _ in range(30):
            value = posterior(beta + step)
            worse = value < best - 1e-9
            if not worse.any():
                break
            step[worse] /= 2
        beta, best = beta + step, value
        if np.abs(step).max() < 1e-9:
            break
    return beta


def _orders(images: int, sizes: Sequence[int]) -> float:
    return max(0.0, log10(images / sizes[-1]), log10(sizes[0] / images))


def _warning(images: int, sizes: Sequence[int], orders: float | None) -> str:
    if not orders:
        return "" if sizes else "Nothing was measured."
    return (
        f"{images:,} images lie {orders:.1f} orders of magnitude outside what was measured "
        f"(n = {sizes[0]:,} to {sizes[-1]:,}): this is a curve carried on, not a measurement."
    )
