"""The end of copying, beside curves that are known because the runs were made from them."""

from __future__ import annotations

import math

import numpy as np
import pytest

from byheart.measure.trends import half_copied

Run = tuple[int, int, float, int, int]


def runs_of(half: float, slope: float, sizes: list[int], outputs: int = 10_000) -> list[Run]:
    """Runs whose copied share is logistic in log10 n, half of it at `half`."""
    shares = [1 / (1 + (n / half) ** (slope / math.log(10))) for n in sizes]
    return [
        (n, 10**6, 400.0, round(share * outputs), outputs)
        for n, share in zip(sizes, shares, strict=True)
    ]


@pytest.mark.parametrize("half", [20.0, 300.0, 5000.0])
def test_an_exact_logistic_is_found(half: float) -> None:
    found = half_copied(runs_of(half, 3.0, [1, 10, 100, 1000, 10_000]))
    assert found.n == pytest.approx(half, rel=0.02)
    assert 0.8 * half < found.low <= found.high < 1.25 * half
    assert (found.inputs, found.confounded) == (("n",), ())
    assert found.held == pytest.approx({"exposures": 400, "parameters": 1e6})
    assert (len(found.sizes), found.runs, found.outputs) == (5, 5, 50_000)


def test_exposures_and_parameters_are_told_apart_from_n() -> None:
    draws = np.random.default_rng(3)
    points = []
    for n in (1, 10, 100, 1000):
        for exposures in (50.0, 500.0):
            for parameters in (10**6, 10**8):
                logit = 3 - 2 * math.log10(n) + 1.5 * math.log10(exposures / 158.113883)
                logit += 0.5 * math.log10(parameters / 10**7)
                copied = int(draws.binomial(20_000, 1 / (1 + math.exp(-logit))))
                points.append((n, parameters, exposures, copied, 20_000))
    found = half_copied(points)
    assert found.inputs == ("n", "exposures", "parameters")
    assert found.n == pytest.approx(10**1.5, rel=0.03)  # at the geometric means
    assert found.held == pytest.approx({"exposures": 158.113883, "parameters": 1e7})
    assert found.low <= found.n <= found.high


def test_exposures_that_only_mirror_n_are_named_and_left_out() -> None:
    points = [(n, p, 1e5 / n, c, o) for n, p, _, c, o in runs_of(50, 3, [1, 10, 100, 1000])]
    found = half_copied(points)
    assert (found.inputs, found.confounded) == (("n",), ("exposures",))
    assert "exposures" not in found.held
    assert found.n == pytest.approx(50, rel=0.02)


def test_resamples_of_a_single_n_do_not_let_the_prior_speak() -> None:
    # They know nothing of how the share falls, and three runs give one in nine of them.
    found = half_copied([(n, 10**6, 400.0, k, 64) for n, k in ((1, 64), (10, 32), (100, 0))])
    assert found.n == pytest.approx(10) and 1 < found.low < 10 < found.high < 100


def test_a_clean_step_has_finite_slopes_and_an_end_between_its_two_sides() -> None:
    points = [(n, 10**6, 400.0, 64 if n < 50 else 0, 64) for n in (1, 10, 100, 1000)] * 3
    found = half_copied(points)
    assert 10 < found.n < 100
    assert 1 < found.low <= found.n


@pytest.mark.parametrize(
    ("sizes", "copies"),
    [
        # One run of four copied nothing: a third of the resamples leave it out.
        ((1, 10, 20, 100), (64, 64, 64, 0)),
        ((1, 10, 100), (64, 64, 0)),
        # A share that grows with n falls nowhere.
        ((1, 10, 100, 1000), (20, 30, 45, 60)),
        # Half is copied at 5,000, which a fit would find.
        ((1, 10, 100, 1000), (64, 64, 63, 57)),
    ],
)
def test_nothing_is_said_where_it_may_lie_outside_of_what_was_measured(
    sizes: tuple[int, ...], copies: tuple[int, ...]
) -> None:
    points = [(n, 10**6, 400.0, k, 64) for n, k in zip(sizes, copies, strict=True)]
    found = half_copied(points)
    assert found.n is found.low is found.high is None
    assert (found.inputs, found.sizes) == (("n",), sizes)


@pytest.mark.parametrize(
    "points",
    [
        [],
        [(1, 5, 1.0, 3, 8)],
        [(1, 5, 1.0, 8, 8), (10, 5, 1.0, 3, 8)] * 5,
        [(n, 5, 1.0, 8, 8) for n in (1, 10, 100)],
        [(n, 5, 1.0, 0, 8) for n in (1, 10, 100)],
    ],
    ids=["nothing", "one run", "two sizes", "all copied", "none copied"],
)
def test_what_cannot_be_fitted_is_none_with_its_counts(points: list[Run]) -> None:
    found = half_copied(points)
    assert (found.n, found.low, found.high, found.inputs) == (None, None, None, ())
    assert (found.runs, set(found.sizes)) == (len(points), {p[0] for p in points})
    assert found.copied == sum(p[3] for p in points)
    assert found.outputs == sum(p[4] for p in points)


def test_the_runs_may_come_in_any_order() -> None:
    points = runs_of(50, 3, [1, 10, 100, 1000], outputs=40)
    assert half_copied(points) == half_copied(points[::-1])
    assert half_copied(points).n == half_copied(points, seed=1).n
