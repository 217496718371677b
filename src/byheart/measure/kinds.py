"""Every output is exactly one of: copied, a blend, broken, novel.

What a picture of the source looks like stands in a few traits of held-out pictures; an output that
falls outside their range is broken, not novel. Sums are taken over integers, so that no value
depends on the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from byheart.measure.copying import TOLERANCE, Verdicts, judge, reference_distance
from byheart.measure.distance import CHUNK, nearest_other
from byheart.measure.mixture import mixture
from byheart.measure.prompt_effect import spread

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


BLOCKS = 8  # a side


def layout(images: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    """Per image, both from 0 to 1, and 0 where it is even:

    chroma: share of the contrast (variance about each colour's mean) that the three colours do not
        have in common. Untrained networks: 0.7 to 0.8 (tests/test_audit_pipeline.py); the 18
        embedded photographs: at most 0.31.
    coarse: share of the contrast that is left of an image's 8 x 8 block means.
    """
    found: dict[str, list[Tensor]] = {"chroma": [], "coarse": []}
    for part in images.split(CHUNK) if len(images) else [images]:
        values = part.double()
        values = values - values.mean((2, 3), keepdim=True)
        whole = values.square().mean((1, 2, 3))
        apart = (values - values.mean(1, keepdim=True)).square().mean((1, 2, 3))
        blocks = adaptive_avg_pool2d(values, BLOCKS).square().mean((1, 2, 3))
        for name, share in (("chroma", apart), ("coarse", blocks)):
            found[name].append(torch.where(whole > 0, share / whole.clamp(min=1e-12), 0.0))
    return {name: torch.cat(parts) for name, parts in found.items()}


@dataclass(frozen=True)
class Reference:
    """Held-out images and what they say of their source."""

    images: UInt8[Tensor, "h c s s"]
    distance: float  # median distance to the nearest other: how far apart neighbours are
    spread: float  # RMS distance of two different images
    ranges: dict[str, tuple[float, float]]  # of every trait, where real pictures lie
    source: str  # where they come from, as it stands in the report


def reference(images: UInt8[Tensor, "h c s s"], source: str) -> Reference:
    """ValueError: fewer than two images, or images that are all alike."""
    return Reference(
        images, reference_distance(images), spread(images), natural_ranges(images), source
    )


KINDS = ("copied", "blend", "broken", "novel")


@dataclass(frozen=True)
class Findings(Verdicts):
    """Per output the verdict on copying, and what it is if it is no copy."""

    mixture_rmse: Float[Tensor, " s"]  # to the closest mixture of at most three training images
    kind: Int[Tensor, " s"]  # place in KINDS


def examine(
    outputs: UInt8[Tensor, "s c h w"], train: UInt8[Tensor, "n c h w"], reference: Reference
) -> Findings:
    """copied: as `judge` says.

    blend: no copy, but a mixture of at most three training images is within a third of the
        reference distance and no held-out image is; the mixture says more of the output than the
        nearest image alone (at most half its distance) and than the output's own mean colour.
        Without the last two, 6 % of unseen emoji are blends of some three among 1,000.
    broken: neither, and a trait lies outside the range of real pictures. An underfit model is not
        creative. (Without the trait `grain`, a third of what a network makes that has seen each of
        a hundred emoji 192 times, and can tell none of them yet, is novel.)
    novel: the rest.
    """
    verdicts = judge(outputs, train, reference.images, reference.distance)
    return told_apart(outputs, verdicts, mixture(outputs, train).rmse, reference)


def told_apart(
    outputs: UInt8[Tensor, "s c h w"],
    verdicts: Verdicts,
    mixed: Float[Tensor, " s"],
    reference: Reference,
) -> Findings:
    """`examine` from the verdicts and the distances to mixtures.

    Without held-out images the closest real picture is the closest training image.
    """
    seen = traits(outputs)
    if "chroma" in reference.ranges:  # an audit's
        seen |= layout(outputs)
    near = TOLERANCE * reference.distance
    told = (mixed <= verdicts.rmse / 2) & (mixed < seen["contrast"])
    blend = told & (mixed <= near) & (verdicts.held_out_rmse > near)
    closest = verdicts.held_out_rmse if len(reference.images) else verdicts.rmse
    broken = outside(seen | {"nearest": closest}, reference.ranges)
    rest = torch.where(broken, KINDS.index("broken"), KINDS.index("novel"))
    other = torch.where(blend, KINDS.index("blend"), rest)
    kind = torch.where(verdicts.copied, KINDS.index("copied"), other)
    return Findings(**vars(verdicts), mixture_rmse=mixed, kind=kind)
