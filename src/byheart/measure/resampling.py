"""Intervals where prompts and noise seeds repeat: outputs that share one of them are no two coins.

The pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1)
draws prompts and noises anew, each on its own, and keeps the outputs where the drawn rows and
columns cross. It is a little too careful: where the outputs are independent after all it counts
their chance three times, and the interval is up to sqrt(3) times as wide as need be.
"""

from __future__ import annotations

from collections.abc import Callable
from math import hypot

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from byheart.measure.intervals import Rate, wilson

RESAMPLES = 2000
NUMBERS = 2**22  # drawn at once: 32 MiB

# Of each resample: how often every prompt [r p] and every noise [r k] was drawn -> a value [r].
Statistic = Callable[[Tensor, Tensor], Tensor]


def by_prompt_and_noise(
    statistic: Statistic, prompts: int, noises: int, seed: int
) -> tuple[float, float] | None:
    """The middle 95 % of `statistic` over 2,000 resamples of prompts and of noises.

    Of a single prompt (or noise) there is nothing to draw: then only the other is resampled.
    Resamples whose value is nan say nothing and are left out; None where all are.
    """
    # In blocks, so that memory does not grow with the number of outputs; each of the two has its
    # own place in the one stream that all draws come from, prompts first.
    ours, theirs = (torch.Generator().manual_seed(seed) for _ in range(2))
    rows = min(RESAMPLES, max(1, NUMBERS // max(prompts, noises)))
    blocks = [min(rows, RESAMPLES - first) for first in range(0, RESAMPLES, rows)]
    for block in blocks:
        torch.randint(prompts, (block, prompts), generator=theirs)
    parts = [statistic(drawn(block, prompts, ours), drawn(block, noises, theirs))
             for block in blocks]  # fmt: skip
    values = torch.cat(parts)
    values = values[values.isfinite()]
    if len(values) == 0:
        return None
    ends = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = values.quantile(ends).tolist()
    return low, high


def rate_interval(hits: Bool[Tensor, "p k"], seed: int) -> tuple[float, float]:
    """Of the share of hits among prompts x noises. No width where all hits are alike: see
    `clustered`."""
    cells, (prompts, noises) = hits.double(), hits.shape

    def share(prompt: Tensor, noise: Tensor) -> Tensor:
        return ((prompt @ cells) * noise).sum(dim=1) / cells.numel()

    interval = by_prompt_and_noise(share, prompts, noises, seed)
    assert interval is not None
    return interval


def pair_interval(pairs: Float[Tensor, "k p p"], seed: int) -> tuple[float, float] | None:
    """Of the mean over pairs of different prompts under the same noise.

    `pairs` is symmetric: a value for every two prompts, one matrix for each noise. A prompt drawn
    twice is no pair with itself. None where one resample is like another: with fewer than two
    prompts, or two prompts and one noise.
    """
    noises, prompts = pairs.shape[:2]
    if prompts < 2 or (prompts == 2 and noises < 2):
        return None
    # A prompt's pairs with itself do not count, whatever stands there.
    between = pairs.double() * (1 - torch.eye(prompts, dtype=torch.float64))

    def mean(prompt: Tensor, noise: Tensor) -> Tensor:
        total = torch.zeros(len(prompt), dtype=torch.float64)
        for column, matrix in zip(noise.T, between, strict=True):
            total += column * ((prompt @ matrix) * prompt).sum(dim=1)
        count = noises * (prompts**2 - prompt.square().sum(dim=1))
        return total / count  # 0 / 0 = nan where one prompt was drawn throughout

    return by_prompt_and_noise(mean, prompts, noises, seed)


def clustered(hits: Bool[Tensor, "p k"], seed: int = 0) -> Rate:
    """The share of hits among prompts x noises with an interval that knows both repeat.

    The hull of two intervals: Wilson's as if all outputs were independent, and the resampled one.
    Wilson's alone where nothing repeats: one output of each prompt, or of each noise. Where all
    hits are alike, which resampling takes for certainty, nobody can tell whether a second prompt
    was a second try: Wilson's of as many tries as there are different prompts or different noises,
    whichever are more. All None where there are no outputs.
    """
    count = int(hits.sum())
    if count in (0, hits.numel()):
        return wilson(count, hits.numel(), max(hits.shape))
    plain = wilson(count, hits.numel())
    if plain.low is None or plain.high is None or 1 in hits.shape:
        return plain
    low, high = rate_interval(hits, seed)
    return Rate(plain.hits, plain.count, plain.rate, min(low, plain.low), max(high, plain.high))


def difference(rate: Rate, chance: Rate) -> tuple[float | None, float | None, float | None]:
    """rate - chance with its 95 % interval, (value, low, high). None where either is unknown.

    Newcombe 1998, "Interval estimation for the difference between independent proportions",
    method 10: the roots of the summed squares of the two intervals' halves. Where those are wider
    than Wilson's it is Zou & Donner's 2008 generalisation.
    """
    p, q = rate.rate, chance.rate
    if p is None or rate.low is None or rate.high is None:
        return None, None, None
    if q is None or chance.low is None or chance.high is None:
        return None, None, None
    low = p - q - hypot(p - rate.low, chance.high - q)
    high = p - q + hypot(rate.high - p, q - chance.low)
    return p - q, low, high


def above(rate: Rate, chance: Rate) -> dict[str, float | None]:
    """What chance leaves of a rate, with its interval: `difference`, never below 0."""
    found = zip(("rate", "low", "high"), difference(rate, chance), strict=True)
    return {name: None if value is None else max(0.0, value) for name, value in found}


def drawn(times: int, count: int, draws: torch.Generator) -> Float[Tensor, "r n"]:
    """How often each of `count` was drawn in `count` draws with replacement, so many times."""
    index = torch.randint(count, (times, count), generator=draws)
    one = torch.ones((), dtype=torch.float64).expand(index.shape)
    return torch.zeros(index.shape, dtype=torch.float64).scatter_add_(1, index, one)
