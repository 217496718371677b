"""Intervals where prompts and noises repeat: against loops, against Wilson, against the truth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from byheart.measure import resampling
from byheart.measure.intervals import Rate, wilson
from byheart.measure.resampling import (
    above,
    by_prompt_and_noise,
    clustered,
    difference,
    pair_interval,
    rate_interval,
)

SEED = 3


def coins(*shape: int, share: float = 0.5, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share


def width(rate: Rate) -> float:
    return rate.high - rate.low


def drawn(prompts: int, noises: int) -> tuple[list[list[int]], list[list[int]]]:
    """Of each resample the prompts and the noises, each as often as it was drawn."""
    seen: list[Tensor] = []

    def note(prompt: Tensor, noise: Tensor) -> Tensor:
        seen.extend((prompt, noise))
        return torch.zeros(len(prompt), dtype=torch.float64)

    by_prompt_and_noise(note, prompts, noises, SEED)
    first, second = (
        [torch.arange(len(row)).repeat_interleave(row.long()).tolist() for row in counts]
        for counts in seen
    )
    return first, second


def middle(values: list[float]) -> list[float]:
    return np.quantile(values, [0.025, 0.975]).tolist()


# --------------------------------------------------------------------------------- the bootstrap


def test_prompts_and_noises_are_drawn_on_their_own_with_replacement() -> None:
    prompts, noises = drawn(7, 3)
    assert len(prompts) == len(noises) == 2000
    assert {len(row) for row in prompts} == {7} and {len(row) for row in noises} == {3}
    counts = np.array([[row.count(k) for k in range(7)] for row in prompts])
    assert np.allclose(counts.mean(axis=0), 1, atol=0.1)
    assert np.allclose(counts.var(axis=0), 1 - 1 / 7, atol=0.15)  # multinomial
    others = np.array([[row.count(k) for k in range(3)] for row in noises])
    assert np.abs(np.corrcoef(counts.T, others.T)[:7, 7:]).max() < 0.1


def test_the_interval_of_a_rate_is_a_loops() -> None:
    hits = coins(6, 4)
    shares = [
        float(np.mean([[bool(hits[p, k]) for k in noises] for p in prompts]))
        for prompts, noises in zip(*drawn(6, 4), strict=True)
    ]
    assert rate_interval(hits, SEED) == pytest.approx(middle(shares), abs=1e-12)


def test_the_interval_of_pairs_is_a_loops_and_no_prompt_meets_itself() -> None:
    table = np.random.default_rng(0).random((3, 4, 4))
    table = table + table.transpose(0, 2, 1)
    means = []
    for prompts, noises in zip(*drawn(4, 3), strict=True):
        pairs = [table[k, i, j] for k in noises for i in prompts for j in prompts if i != j]
        if pairs:
            means.append(float(np.mean(pairs)))
    assert 1900 < len(means) < 2000  # of four prompts one is drawn throughout in 1 of 64
    expected = pytest.approx(middle(means), abs=1e-12)
    assert pair_interval(torch.from_numpy(table), SEED) == expected
    table[:, range(4), range(4)] = 1e9  # what stands on the diagonal is never looked at
    assert pair_interval(torch.from_numpy(table), SEED) == pytest.approx(middle(means), abs=1e-9)


@pytest.mark.parametrize(("noises", "prompts"), [(5, 0), (5, 1), (1, 2), (0, 2)])
def test_too_few_pairs_have_no_interval(noises: int, prompts: int) -> None:
    assert pair_interval(torch.ones(noises, prompts, prompts, dtype=torch.float64), SEED) is None


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    hits = torch.rand(7, 5, generator=torch.Generator().manual_seed(0)) < 0.4
    pairs = hits.T[:, :, None] & hits.T[:, None, :]
    whole = rate_interval(hits, 3), pair_interval(pairs.double(), 3)
    monkeypatch.setattr(resampling, "NUMBERS", 7 * 300)
    assert (rate_interval(hits, 3), pair_interval(pairs.double(), 3)) == whole


def test_the_same_seed_gives_the_same_interval_and_leaves_no_trace() -> None:
    hits, before = coins(20, 4), torch.get_rng_state()
    assert rate_interval(hits, SEED) == rate_interval(hits, SEED)
    assert clustered(hits, SEED) == clustered(hits, SEED)
    assert torch.equal(torch.get_rng_state(), before)
    assert len({rate_interval(coins(37, 9), seed) for seed in range(20)}) > 1


# -------------------------------------------------------------------------------- beside Wilson's


@pytest.mark.parametrize("value", [False, True])
@pytest.mark.parametrize("shape", [(1, 1), (100, 1), (64, 8)])
def test_where_all_are_alike_it_is_wilsons(value: bool, shape: tuple[int, int]) -> None:
    hits = torch.full(shape, value)
    assert rate_interval(hits, SEED) == (float(value), float(value))  # resampling is too sure
    assert clustered(hits) == wilson(int(hits.sum()), hits.numel(), shape[0])
    tries = wilson(int(hits[:, 0].sum()), shape[0])  # a row's second output says nothing new
    assert (clustered(hits).low, clustered(hits).high) == (tries.low, tries.high)
    assert clustered(hits.T) == clustered(hits)


@pytest.mark.parametrize("share", [0.02, 0.5])
@pytest.mark.parametrize("shape", [(200, 1), (1, 200), (50, 4), (3, 3)])
def test_it_is_never_narrower_than_wilsons(shape: tuple[int, int], share: float) -> None:
    hits = coins(*shape, share=share)
    rate, plain = clustered(hits), wilson(int(hits.sum()), hits.numel())
    assert (rate.hits, rate.count, rate.rate) == (plain.hits, plain.count, plain.rate)
    assert 0 <= rate.low <= plain.low and plain.high <= rate.high <= 1


def test_where_neither_prompt_nor_noise_repeats_it_is_wilsons() -> None:
    hits = torch.zeros(100, 1, dtype=torch.bool)
    hits[:3] = True
    assert clustered(hits) == clustered(hits.T) == wilson(3, 100)


def test_what_chance_leaves_is_never_below_0() -> None:
    assert above(wilson(3, 100), wilson(30, 100)) == {"rate": 0.0, "low": 0.0, "high": 0.0}
    left = above(wilson(30, 100), wilson(0, 100))
    assert tuple(left.values()) == difference(wilson(30, 100), wilson(0, 100))
    assert above(wilson(3, 100), wilson(0, 0)) == {"rate": None, "low": None, "high": None}


def test_noises_that_all_agree_count_once() -> None:
    column = coins(50, 1)
    hits = column.expand(50, 8)
    alone, together = wilson(int(column.sum()), 50), wilson(int(hits.sum()), 400)
    assert width(clustered(hits)) == pytest.approx(width(alone), rel=0.1)
    assert width(clustered(hits)) > 2.5 * width(together)
    # Nor does it matter which of the two agrees.
    assert width(clustered(hits.T)) == pytest.approx(width(alone), rel=0.1)


def test_independent_outputs_cost_at_most_a_root_of_three() -> None:
    # Owen 2007: a cell's own chance is counted three times, so the interval is too wide, never
    # too narrow.
    widths = [width(clustered(coins(40, 40, seed=seed))) for seed in range(5)]
    assert np.mean(widths) == pytest.approx(3**0.5 * width(wilson(800, 1600)), rel=0.08)


def test_the_interval_holds_the_truth_as_often_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resampling, "RESAMPLES", 400)  # enough for a count of misses
    random = np.random.default_rng(0)
    held, too_narrow = [], []
    for seed in range(300):
        # A prompt is a hit with its own probability, uniform: the rate of all prompts is 1/2.
        own = random.random((40, 1)).repeat(4, axis=1)
        hits = torch.from_numpy(random.random((40, 4)) < own)
        rate, plain = clustered(hits, seed), wilson(int(hits.sum()), 160)
        held.append(rate.low <= 0.5 <= rate.high)
        too_narrow.append(plain.low <= 0.5 <= plain.high)
    assert 0.93 <= np.mean(held) <= 1.0
    assert np.mean(too_narrow) < 0.9  # as if all outputs were independent


# ------------------------------------------------------------------------------- the difference


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((6, 7), (2, 7), 0.0582, 0.8062),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 20), -0.1611, 0.2775),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 20), 0.6791, 1.0),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_the_difference_is_the_published_one(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    a, b = wilson(*first), wilson(*second)
    known = pytest.approx((a.rate - b.rate, low, high), abs=5.1e-5)
    assert difference(a, b) == known
    assert difference(b, a) == pytest.approx((b.rate - a.rate, -high, -low), abs=5.1e-5)
