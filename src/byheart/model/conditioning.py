"""Which prompt vectors stand beside which training image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from byheart.config import Captions
from byheart.model.batch import Batch
from byheart.model.rng import Stream, generator


def training_captions(config: Captions, own: tuple[str, ...]) -> tuple[str, ...]:
    """The caption each image is trained with. `random` has none: its vectors are drawn anew."""
    if config.mode == "shared":
        return (config.shared,) * len(own)
    if config.mode == "own":
        return own
    return ("",) * len(own)


@dataclass(frozen=True)
class Conditioning:
    """Prompt vectors of the distinct captions, and which one each image has.

    Row 0 is the empty prompt. With `random_like` set, every sample gets fresh Gaussian vectors
    of that overall scale instead: a network that cannot know any prompt.
    """

    rows: Float[Tensor, "p l d"]
    of_image: Int[Tensor, " n"]
    random_like: float | None

    def prompt(self, batch: Batch, seed: int, step: int, part: slice) -> Float[Tensor, "b l d"]:
        """Vectors for the rows `part` of the global batch."""
        mine = batch.rows(part)
        index = self.of_image[mine.image].masked_fill(mine.drop, 0)
        if self.random_like is None:
            return self.rows[index]
        draws = generator(self.rows.device, seed, Stream.RANDOM_CAPTION, step)
        shape = (len(batch.image), *self.rows.shape[1:])
        noise = torch.randn(shape, generator=draws, device=self.rows.device)[part]
        noise = noise * self.random_like
        return torch.where(mine.drop[:, None, None], self.rows[:1], noise)


def conditioning_for(
    config: Captions, captions: tuple[str, ...], texts: list[str], vectors: Float[Tensor, "p l d"]
) -> Conditioning:
    """vectors: one row for each of `texts`; texts[0] is the empty prompt."""
    assert texts[0] == ""
    of_image = torch.tensor([texts.index(c) for c in captions], device=vectors.device)
    # Of the overall scale of real prompts, counted where they have words.
    said = vectors[vectors.abs().sum(dim=-1) > 0]
    scale = float(said.square().mean().sqrt())
    return Conditioning(vectors, of_image, scale if config.mode == "random" else None)
