"""Where copying ends: the copied share of a sweep's runs as a curve along n. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log10

import numpy as np
from jaxtyping import Float

from byheart.measure.fitting import (
    LEAST_SIZES,
    Many,
    Values,
    climb,
    finite,
    middle,
    resampled,
)

WEB = 2_300_000_000  # training images of Stable Diffusion v1
# Standard deviations of the normal prior of `extrapolate`, in logits: of the intercept, and of a
# slope per standard deviation of its (logarithmic) input.
INTERCEPT, SLOPE = 10.0, 5.0
CONFOUNDED = 0.01  # an input that others explain up to this share of its spread tells nothing new


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
    are the middle 95 % over 2,000 resamples of the runs, those of a single n left out: outputs of
    one run are not independent.

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
    draws = resampled(len(table), seed)
    # Runs of a single n say nothing of how the share falls: only the prior would speak.
    draws = draws[[len(set(table[row > 0, 0])) > 1 for row in draws]]
    every = np.concatenate([np.ones((1, len(table))), draws])
    constant, slope = _logistic(design, table[:, 3], table[:, 4], every)[:, :2].T
    # All other inputs stand at their mean, where their standardised value is 0.
    centre, spread = float(logs["n"].mean()), float(logs["n"].std())
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        # A share that does not fall with n falls below a half nowhere.
        half = np.where(slope < 0, 10 ** (centre - spread * constant / slope), np.inf)
    share = _expit(constant + slope * (log10(images) - centre) / spread)
    half_low, half_high = middle(half[1:])
    share_low, share_high = middle(share[1:])
    return replace(
        nothing, half=finite(half[0]), half_low=half_low, half_high=half_high,
        share=float(share[0]), share_low=share_low, share_high=share_high,
        inputs=inputs, confounded=confounded,
        held={k: float(10 ** v.mean()) for k, v in logs.items() if k not in {"n", *confounded}},
    )  # fmt: skip


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

    def posterior(beta: np.ndarray) -> Values:
        logit = beta @ design.T
        likelihood = weights * (hits * logit - outputs * np.logaddexp(0, logit))
        return likelihood.sum(axis=1) - (prior * beta**2).sum(axis=1) / 2

    def derivatives(beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        share = _expit(beta @ design.T)
        gradient = (weights * (hits - outputs * share)) @ design - prior * beta
        weight = weights * outputs * share * (1 - share)
        curvature = np.einsum("rn,np,nq->rpq", weight, design, design) + np.diag(prior)
        return gradient, curvature

    return climb(np.zeros((len(weights), design.shape[1])), posterior, derivatives)


def _orders(images: int, sizes: Sequence[int]) -> float:
    return max(0.0, log10(images / sizes[-1]), log10(sizes[0] / images))


def _warning(images: int, sizes: Sequence[int], orders: float | None) -> str:
    if not orders:
        return "" if sizes else "Nothing was measured."
    return (
        f"{images:,} images lie {orders:.1f} orders of magnitude outside what was measured "
        f"(n = {sizes[0]:,} to {sizes[-1]:,}): this is a curve carried on, not a measurement."
    )
