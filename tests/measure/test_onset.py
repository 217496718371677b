"""When copying begins, beside laws that are known because the runs were made from them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import norm

from byheart.measure import trends
from byheart.measure.trends import Onset, onset

Run = tuple[int, int, int | None]
SIZES = (1, 3, 10, 30, 100)


def looked(n: int, step: float, looks: Sequence[int]) -> Run:
    """What is known of a run that copies from `step` on."""
    before, after = [s for s in looks if s < step], [s for s in looks if s >= step]
    return n, max(before, default=0), min(after, default=None)


def looks_of(steps: int) -> list[int]:
    """Twelve looks, log-spaced from a hundredth of the run on, as a run has them."""
    return sorted({round(steps / 100 * 100 ** (k / 11)) for k in range(12)})


def runs_of(law: Callable[[int], float], steps: int, scatter: float, seed: int) -> list[Run]:
    draws = np.random.default_rng(seed)
    return [
        looked(n, law(n) * math.exp(scatter * draws.standard_normal()), looks_of(steps))
        for n in SIZES
        for _ in range(4)
    ]


def least_squares(points: Sequence[Run]) -> float:
    """The look after, as if copying began there; runs without one left out."""
    seen = np.array([(n, by) for n, _, by in points if by is not None], dtype=float)
    return float(np.polyfit(*np.log(seen).T, 1)[0])


@pytest.mark.parametrize(("factor", "power"), [(300, 2), (4000, 1), (5000, 0)])
def test_an_exact_power_law_is_found(factor: int, power: int) -> None:
    steps = [(n, factor * n**power) for n in (1, 3, 10, 100)]
    found = onset([(n, step - 1, step) for n, step in steps])
    assert found.exponent == pytest.approx(power, abs=1e-3)
    assert found.factor == pytest.approx(factor, rel=2e-3)
    assert (found.low, found.high) == pytest.approx((power, power), abs=2e-3)
    assert (found.sizes, found.runs, found.censored) == (4, 4, 0)


def test_looked_at_after_every_step_it_is_least_squares() -> None:
    draws = np.random.default_rng(1)
    sizes = [n for n in SIZES for _ in range(6)]
    steps = [round(5000 * n**0.8 * math.exp(0.2 * draws.standard_normal())) for n in sizes]
    found = onset([(n, step - 1, step) for n, step in zip(sizes, steps, strict=True)])
    slope, height = np.polyfit(np.log(sizes), np.log(steps), 1)
    assert found.exponent == pytest.approx(slope, abs=1e-4)
    assert found.factor == pytest.approx(np.exp(height), rel=1e-3)
    assert found.low < 0.8 < found.high
    # Least squares' own standard error, sigma / sqrt(sum (x - mean)²), in the same neighbourhood.
    x = np.log(sizes)
    error = 0.2 / math.sqrt(((x - x.mean()) ** 2).sum())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.4)


def test_it_is_the_maximum_that_scipy_finds() -> None:
    points = runs_of(lambda n: 30 * n**0.9, 1000, 0.5, seed=4)
    n, after, by = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    copied = ~np.isnan(by)
    low, high = np.log(after + 0.5), np.log(np.where(copied, by, np.inf) + 0.5)
    width = np.median((high - low)[copied & (after > 0)])

    def against(parameters: np.ndarray) -> float:
        height, slope, log_scatter = parameters
        scatter = math.exp(log_scatter)
        ends = [(end - height - slope * np.log(n)) / scatter for end in (low, high)]
        inside = norm.cdf(ends[1]) - norm.cdf(ends[0])
        return float(-np.log(inside).sum() + width / scatter)

    best = minimize(against, [3.0, 1.0, 0.0], method="Nelder-Mead",
                    options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 5000})  # fmt: skip
    found = onset(points)
    assert 0 < found.censored < len(points)
    assert found.exponent == pytest.approx(best.x[1], abs=1e-6)
    assert found.factor == pytest.approx(math.exp(best.x[0]), rel=1e-6)


@pytest.mark.parametrize(
    ("steps", "scatter"), [(500, 0.8), (20_000, 0.3)], ids=["never copied", "copied at once"]
)
def test_the_exponent_is_recovered_where_least_squares_is_too_small(
    monkeypatch: pytest.MonkeyPatch, steps: int, scatter: float
) -> None:
    """Short runs end before the largest n copies; long ones are first looked at too late."""
    monkeypatch.setattr(trends, "RESAMPLES", 10)  # only the interval hangs on them
    every = [runs_of(lambda n: 30 * n**0.9, steps, scatter, seed) for seed in range(20)]
    censored = sum(by is None for points in every for _, _, by in points)
    at_once = sum(after == 0 for points in every for _, after, _ in points)
    assert (censored if steps == 500 else at_once) > 60
    found = [onset(points).exponent for points in every]
    error = np.std(found) / math.sqrt(len(found))
    assert np.mean(found) == pytest.approx(0.9, abs=3 * error) and error < 0.06
    biased = np.mean([least_squares(points) for points in every])
    assert biased < 0.9 - 2 * error and 0.9 - biased > 2 * abs(np.mean(found) - 0.9)


def test_the_interval_holds_the_law_most_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trends, "RESAMPLES", 200)  # enough for a count of misses
    found = [onset(runs_of(lambda n: 30 * n**0.9, 1000, 0.4, seed)) for seed in range(25)]
    held = [one.low < 0.9 < one.high for one in found]
    assert 0.75 <= np.mean(held) <= 1


def test_a_run_that_never_copied_only_pushes_up() -> None:
    copied = [(1, 8, 12), (10, 80, 120), (30, 260, 390)]
    alone = onset(copied).exponent
    assert onset([*copied, (100, 5000, None)]).exponent > alone + 0.2
    # Long before the line reaches it, its ending tells nothing.
    assert onset([*copied, (100, 2, None)]).exponent == pytest.approx(alone, abs=0.01)
    found = onset([*copied, (100, 5000, None), (100, 2, None)])
    assert (found.runs, found.censored, found.sizes) == (5, 2, 3)


def test_a_line_through_all_looks_is_one_line_and_not_the_first_that_fits() -> None:
    found = onset([(1, 5, 20), (10, 50, 200), (100, 500, 2000)])
    assert found.exponent == pytest.approx(1, abs=0.02)  # in the middle of what is possible
    assert found.factor == pytest.approx(10, rel=0.1)
    # Every exponent from 0.70 to 1.30 passes between all the looks: none of them is excluded.
    assert found.low < 0.72 and found.high > 1.28
    assert found.low > 0.3 and found.high < 1.7


@pytest.mark.parametrize("exponent", [0.6, 0.95, 1.1])
@pytest.mark.parametrize("seeds", [1, 3])
def test_without_scatter_the_looks_alone_leave_room_for_the_law(
    exponent: float, seeds: int
) -> None:
    """Seeds that agree share their looks: they are no more evidence than one of them."""
    looks = [12, 18, 28, 42, 63, 96, 145, 220, 333, 505, 765, 1159]
    points: list[Run] = []
    for n in (1, 10, 30):
        step = 20 * n**exponent
        by = next(look for look in looks if look >= step)
        after = max((look for look in looks if look < step), default=0)
        points += [(n, after, by)] * seeds
    found = onset(points)
    assert found.low < exponent < found.high


def test_looks_of_very_different_width_stand_together() -> None:
    points = [(1, 0, 500), (3, 899, 900), (10, 2999, 3000), (100, 29_000, None)]
    found = onset(points)
    assert found.exponent == pytest.approx(1, abs=0.2)
    assert math.isfinite(found.high)


def test_two_sizes_agree_with_any_line_and_give_none() -> None:
    points = [(1, 0, 10), (1, 8, 12), (10, 50, 90), (100, 900, None)]
    assert onset(points) == Onset(None, None, None, None, 2, 4, 1)
    assert onset([]) == Onset(None, None, None, None, 0, 0, 0)
    assert onset([(1, 10, None)]) == Onset(None, None, None, None, 0, 1, 1)


def test_the_order_of_the_runs_does_not_matter_and_the_seed_is_fixed() -> None:
    points = runs_of(lambda n: 30 * n**0.9, 1000, 0.5, seed=2)
    found = onset(points)
    assert onset(points[::-1]) == found == onset(points)
    assert found.low != onset(points, seed=1).low or found.high != onset(points, seed=1).high
    assert found.exponent == onset(points, seed=1).exponent


def test_a_run_that_is_there_twice_weighs_twice() -> None:
    points = runs_of(lambda n: 30 * n**0.9, 1000, 0.5, seed=3)
    assert onset(points * 3).exponent == pytest.approx(onset(points).exponent, abs=0.02)
    times = [(n, 100 * after, None if by is None else 100 * by) for n, after, by in points]
    assert onset(times).exponent == pytest.approx(
        onset(points).exponent, abs=0.05
    )  # of other units
