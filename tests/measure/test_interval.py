"""A rate and its interval, beside scipy's and beside what is known by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from byheart.measure.intervals import Rate, wilson


@pytest.mark.parametrize("count", [1, 2, 7, 64, 512, 100_000])
def test_the_interval_is_scipys(count: int) -> None:
    for hits in sorted({0, 1, count // 3, count // 2, count - 1, count}):
        ours = wilson(hits, count)
        known = binomtest(hits, count).proportion_ci(0.95, method="wilson")
        assert (ours.low, ours.high) == pytest.approx((known.low, known.high), abs=1e-12)


def test_of_nothing_counted_nothing_is_known() -> None:
    assert wilson(0, 0) == Rate(0, 0, None, None, None)


@pytest.mark.parametrize(("hits", "count"), [(1, 0), (-1, 5), (6, 5), (0, -1), (-2, -1)])
def test_more_hits_than_counted_are_refused(hits: int, count: int) -> None:
    with pytest.raises(ValueError, match=f"{hits} hits of {count}"):
        wilson(hits, count)


@given(st.integers(1, 10**6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_rate_and_stays_within_0_and_1(pair: tuple[int, int]) -> None:
    hits, count = pair
    rate, mirrored = wilson(hits, count), wilson(count - hits, count)
    assert 0 <= rate.low <= rate.rate <= rate.high <= 1 and rate.low < rate.high
    assert mirrored.low == pytest.approx(1 - rate.high, abs=1e-12)
