"""What a picture of the source looks like in numbers: contrast, gradient, sharpness, grain.

An output that falls outside the range of real pictures is broken, not novel. Sums are taken over
integers, so that no value depends on the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from byheart.measure.distance import CHUNK, nearest_other

GRAIN = (1, 15)  # steps of 255 that are neither nothing nor an edge
TAIL = 0.01  # of the held-out pictures lie below a range, and as many above it


def traits(images: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    """Per image:

    contrast: RMS deviation from the image's own mean colour, in [0, 1].
    gradient: RMS difference of neighbouring pixels, in [0, 1].
    sharpness: gradient energy / gradient energy after a 3 x 3 binomial blur. A picture that was
        blurred before loses nothing more and comes near 1, whatever it shows; 0 where it is even.
    grain: share of pixels that differ from the mean of their neighbourhood, the same 3 x 3, by 1 to
        15 steps of 255 in some colour: neither even nor an edge. A network that has not learned
        yet leaves such noise where a drawing is even.
    """
    parts = [_traits(part.long()) for part in _chunks(images)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def natural_ranges(held_out: UInt8[Tensor, "h c s s"]) -> dict[str, tuple[float, float]]:
    """For every trait the central 98 % of real pictures; `nearest` is that of the distance to
    the closest other held-out image. ValueError: fewer than two images.
    """
    values = {**traits(held_out), "nearest": nearest_other(held_out)}
    ends = torch.tensor([TAIL, 1 - TAIL], dtype=torch.float64)
    return {name: _pair(value.quantile(ends)) for name, value in values.items()}


def outside(
    values: dict[str, Float[Tensor, " s"]], ranges: dict[str, tuple[float, float]]
) -> Bool[Tensor, " s"]:
    """Where any of the values lies outside its range."""
    away = [(values[name] < low) | (values[name] > high) for name, (low, high) in ranges.items()]
    return torch.stack(away).any(0)


def _chunks(images: Tensor) -> Iterator[Tensor]:
    # An empty set still has its traits, none of each.
    yield from images.split(CHUNK) if len(images) else [images]


def _traits(images: Int[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    pixels = images.shape[2] * images.shape[3]
    squares = images.square().sum((2, 3)) * pixels - images.sum((2, 3)).square()
    contrast = squares.sum(1).double() / (pixels**2 * images.shape[1])
    blurred = _blurred(images)  # its weights add up to 16
    plain, soft = _gradients(images), _gradients(blurred)
    apart = (16 * images - blurred).abs().amax(1)
    little = (apart >= 16 * GRAIN[0]) & (apart <= 16 * GRAIN[1])
    differences = images[0].numel() * 2 - images.shape[1] * (images.shape[2] + images.shape[3])
    return {
        "contrast": contrast.sqrt() / 255,
        "gradient": (plain.double() / differences).sqrt() / 255,
        "sharpness": torch.where(soft > 0, 256 * plain.double() / soft.clamp(min=1), 0.0),
        "grain": little.double().mean((1, 2)),
    }


def _gradients(images: Int[Tensor, "s c h w"]) -> Int[Tensor, " s"]:
    """Sum of squared differences to the right and lower neighbours."""
    across = images.diff(dim=3).square().sum((1, 2, 3))
    return across + images.diff(dim=2).square().sum((1, 2, 3))


def _blurred(images: Int[Tensor, "s c h w"]) -> Int[Tensor, "s c h w"]:
    """[1 2 1] in both directions, edges repeated; 16 times the mean."""
    for dim in (2, 3):
        size = images.shape[dim]
        before = images.index_select(dim, (torch.arange(size) - 1).clamp(min=0))
        after = images.index_select(dim, (torch.arange(size) + 1).clamp(max=size - 1))
        images = before + 2 * images + after
    return images


def _pair(ends: Tensor) -> tuple[float, float]:
    low, high = ends.tolist()
    return low, high
