"""The global batch of a step, from (seed, step) alone.

Every process draws the whole batch and takes its rows. So the number of processes changes nothing
but rounding, one image is no special case, and resuming needs only the step.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from byheart.model.rng import Stream, generator


@dataclass(frozen=True)
class Batch:
    image: Int[Tensor, " b"]  # index into the training set
    t: Int[Tensor, " b"]  # timestep
    noise: Float[Tensor, "b c h w"]
    drop: Bool[Tensor, " b"]  # caption replaced by the empty one

    def rows(self, part: slice) -> Batch:
        return Batch(self.image[part], self.t[part], self.noise[part], self.drop[part])


def draw(
    seed: int,
    step: int,
    size: int,
    n_images: int,
    duplicates: int,
    timesteps: int,
    shape: tuple[int, int, int],
    dropout: float,
    device: torch.device,
) -> Batch:
    """The batch of optimizer step `step` (from 0).

    Images pass in seeded rounds, each round every image once and the first one `duplicates` times,
    so that the exposures of two others differ by at most one.
    Timesteps are stratified, one from each of `size` equal bands in random order: the same
    expectation as uniform draws with less variance.
    """
    rounds = n_images + duplicates - 1
    places = range(step * size, (step + 1) * size)
    drawn = [_round(seed, k // rounds, rounds)[k % rounds] for k in places]
    image = torch.tensor([place if place < n_images else 0 for place in drawn], device=device)
    draws = generator(device, seed, Stream.BATCH, step)
    band = torch.randperm(size, generator=draws, device=device)
    t = (band + torch.rand(size, generator=draws, device=device)) * (timesteps / size)
    # In float32 the sum may round up into the next band.
    last = ((band + 1) * timesteps - 1).div(size, rounding_mode="floor")
    noise = torch.randn(size, *shape, generator=draws, device=device)
    drop = torch.rand(size, generator=draws, device=device) < dropout
    return Batch(image, t.long().minimum(last), noise, drop)


@lru_cache(maxsize=64)  # a batch spans few
def _round(seed: int, number: int, places: int) -> list[int]:
    """Order of the places in one round."""
    order = generator("cpu", seed, Stream.ORDER, number)
    return torch.randperm(places, generator=order).tolist()
