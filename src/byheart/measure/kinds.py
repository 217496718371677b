"""Every output is exactly one of: copied, a blend, broken, novel."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from byheart.measure.blend import mixture
from byheart.measure.copying import TOLERANCE, Verdicts, judge
from byheart.measure.layout import layout
from byheart.measure.reference import Reference
from byheart.measure.traits import outside, traits

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
