"""What the prompt changes and what the noise changes: P prompts crossed with K initial noises."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from byheart.measure.distance import CHUNK, norms, squares
from byheart.measure.intervals import wilson
from byheart.measure.resampling import clustered, pair_interval


@dataclass(frozen=True)
class Effect:
    """A value with its 95 % interval and what it was counted on. None where undefined."""

    value: float | None
    low: float | None
    high: float | None
    prompts: int
    noises: int
    pairs: int  # what the mean is over: pairs of outputs; for `steering` single outputs


def spread(images: UInt8[Tensor, "n c h w"]) -> float:
    """RMS distance in [0, 1] between different images: sqrt of the mean of (a - b)² over i ≠ j.

    The unit of both effects. Sums are whole numbers, so no bit depends on the order of the images.
    ValueError: fewer than two images, or all of them equal.
    """
    n, numbers = len(images), images.shape[1:].numel()
    if n < 2:
        raise ValueError(f"{n} image(s): the distance between different images needs two")
    parts = [part.flatten(1).sum(0, dtype=torch.int64) for part in images.split(CHUNK)]
    columns = torch.stack(parts).sum(0).tolist()
    # Over all i, j: sum |x_i - x_j|² = 2 (n sum |x_i|² - |sum x_i|²). Python's integers never end.
    total = 2 * (n * sum(map(int, norms(images).tolist())) - sum(value**2 for value in columns))
    if total == 0:
        raise ValueError(f"all {n} images are equal: there is no distance between them")
    return math.sqrt(total / (n * (n - 1) * numbers)) / 255


def prompt_effect(outputs: UInt8[Tensor, "p k c h w"], spread: float, seed: int = 0) -> Effect:
    """RMS distance of outputs of the same noise under different prompts / spread.

    0: the prompt changes nothing; about 1: it makes another image. None with one prompt. The
    interval resamples prompts and noises and takes the spread as given. It is None with a single
    pair. Where all distances are alike it has no width: resampling shows nothing it has not seen.
    """
    return _effect(outputs.transpose(0, 1), spread, seed, *outputs.shape[:2])


def noise_effect(outputs: UInt8[Tensor, "p k c h w"], spread: float, seed: int = 0) -> Effect:
    """The same with the roles exchanged: same prompt, different noises. None with one noise."""
    return _effect(outputs, spread, seed, *outputs.shape[:2])


def same_image(nearest: Int[Tensor, "p k"], copied: Bool[Tensor, "p k"], seed: int = 0) -> Effect:
    """Share of prompt pairs whose outputs of the same noise are copies of one training image.

    None with one prompt. The interval is the hull of the resampled one and of Wilson's for as many
    pairs as share no output (half the prompts, times the noises): all pairs of a few prompts are
    not so many observations.
    """
    prompts, noises = nearest.shape
    if prompts < 2 or noises < 1:
        return Effect(None, None, None, prompts, noises, 0)
    both = copied.T[:, :, None] & copied.T[:, None, :]
    alike = both & (nearest.T[:, :, None] == nearest.T[:, None, :])
    pairs = noises * prompts * (prompts - 1) // 2
    # Every pair stands there twice, and every copy once beside itself.
    value = (int(alike.sum()) - int(copied.sum())) / (2 * pairs)
    apart = noises * (prompts // 2)
    # Wilson's interval counts whole hits: the next below and the next above.
    below, above = (wilson(whole(value * apart), apart) for whole in (math.floor, math.ceil))
    assert below.low is not None and above.high is not None
    ends = (below.low, above.high, *(pair_interval(alike.double(), seed) or ()))
    return Effect(value, min(ends), max(ends), prompts, noises, pairs)


def steering(matches: Bool[Tensor, "p k"], seed: int = 0) -> Effect:
    """Share of outputs whose nearest training image carries the caption that was asked for.

    Rows are captions, columns noises. Chance is 1 / n where every image has its own caption. The
    interval knows that captions and noises repeat (`resampling.clustered`).
    """
    rate = clustered(matches, seed)
    prompts, noises = matches.shape
    return Effect(rate.rate, rate.low, rate.high, prompts, noises, rate.count)


def _effect(
    groups: UInt8[Tensor, "g m c h w"], spread: float, seed: int, prompts: int, noises: int
) -> Effect:
    """RMS distance / spread between the m members of each group, over all groups."""
    count, members = groups.shape[:2]
    pairs = count * members * (members - 1) // 2
    if pairs == 0:
        return Effect(None, None, None, prompts, noises, 0)
    numbers = groups.shape[2:].numel()

    def in_spreads(squared: float) -> float:
        return math.sqrt(squared / numbers) / 255 / spread

    squared = torch.stack([squares(group, group) for group in groups])
    value = in_spreads(float(squared.sum()) / (2 * pairs))
    interval = pair_interval(squared, seed)
    low, high = map(in_spreads, interval) if interval else (None, None)
    return Effect(value, low, high, prompts, noises, pairs)
