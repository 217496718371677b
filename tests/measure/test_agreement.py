"""Correlations whose value is known, and medians whose noises repeat."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import pearsonr

from byheart.measure.agreement import Median, correlation, median


def pictures(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=(count, 8, 8, 3), dtype=np.uint8)


def test_it_is_pearsons_correlation_of_all_numbers_of_two_images() -> None:
    a, b = pictures(5, 1), pictures(5, 2)
    known = [
        pearsonr(x.ravel() / 255, y.ravel() / 255).statistic for x, y in zip(a, b, strict=True)
    ]
    assert correlation(a, b) == pytest.approx(known, abs=1e-12)
    assert np.array_equal(correlation(a, b), correlation(b, a))
    assert correlation(a, a) == pytest.approx(np.ones(5), abs=1e-12)
    assert correlation(a, 255 - a) == pytest.approx(-np.ones(5), abs=1e-12)
    half = (a // 2 * 2).astype(np.uint8)
    assert correlation(half, half // 2 + 50) == pytest.approx(np.ones(5), abs=1e-12)
    assert np.abs(correlation(a, a)).max() <= 1


def test_a_flat_image_has_no_direction() -> None:
    a = pictures(3, 5)
    flat = a.copy()
    flat[1] = 77
    for found in (correlation(a, flat), correlation(flat, a), correlation(flat, flat)):
        assert np.isnan(found).tolist() == [False, True, False]


# ------------------------------------------------------------------------------------- the median


def test_the_median_is_of_all_values_and_the_interval_holds_it() -> None:
    values = np.random.default_rng(0).normal(0.5, 0.1, 60)
    found = median(values, [k % 20 for k in range(60)])
    assert found.value == np.median(values) and found.count == 60
    assert found.low < found.value < found.high


def test_prompts_that_change_nothing_add_no_certainty() -> None:
    values = np.random.default_rng(1).normal(0.5, 0.1, 12)
    once = median(values, range(12))
    often = median(np.tile(values, 50), list(range(12)) * 50)
    assert (often.value, often.low, often.high) == (once.value, once.low, once.high)
    assert (once.count, often.count) == (12, 600)
    alone = median(np.tile(values, 50), range(600))  # as if they were independent
    assert alone.high - alone.low < 0.5 * (once.high - once.low)


def test_what_is_not_defined_is_left_out_and_nothing_is_null() -> None:
    nan = math.nan
    assert median(np.array([nan, nan]), [0, 1]) == Median(None, None, None, 0)
    assert median(np.array([]), []) == Median(None, None, None, 0)
    # A single noise has no interval.
    assert median(np.array([0.1, 0.2, 0.9]), [4, 4, 4]) == Median(0.2, None, None, 3)
    found = median(np.array([0.2, nan, 0.4, nan]), [0, 1, 2, 2])
    assert (found.value, found.count) == (pytest.approx(0.3), 2)


def test_the_order_does_not_matter_and_the_seed_is_fixed() -> None:
    values, noises = np.random.default_rng(2).random(30), [k % 10 for k in range(30)]
    found = median(values, noises)
    assert median(values[::-1], noises[::-1]) == found == median(values, noises)
    assert median(values, noises, seed=1) != found
