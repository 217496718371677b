"""Every output is exactly one of: copied, a blend, broken, novel.

What a picture of the source looks like stands in a few traits of held-out pictures; an output that
falls outside their range is broken, not novel. Sums are taken over integers, so that no value
depends on the size of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, pad

from byheart.config import Rule
from byheart.measure.alterations import blurred, jpeg, noisy
from byheart.measure.copying import (
    SENSES,
    STANDARD,
    Ranges,
    Reference,
    Verdicts,
    judge,
    reference_distance,
)
from byheart.measure.distance import CHUNK, nearest_other
from byheart.measure.mixture import mixture
from byheart.measure.prompt_effect import spread

FEW = 100  # real pictures below which a tail of a hundredth says nothing
GRAIN = (1, 15)  # steps of 255 that are neither nothing nor an edge
SHARES = ("grain", "chroma", "coarse")  # traits that are at most 1


def traits(images: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    """Per image:

    contrast: RMS deviation from the image's own mean colour, in [0, 1].
    gradient: RMS difference of neighbouring pixels, in [0, 1].
    sharpness: gradient energy / gradient energy after a 3 x 3 binomial blur. A picture that was
        blurred before loses nothing more and comes near 1, whatever it shows; 0 where it is even.
    grain: share of pixels that differ from the mean of their neighbourhood, the same 3 x 3, by 1 to
        15 steps of 255 in some colour: neither even nor an edge. A network that has not learned
        yet leaves such noise where a drawing is even.
    speckle: median over the pixels of the smallest difference to one of the 8 neighbours, in [0, 1]
        and of the colour that differs most. Even at an edge some neighbour is alike; in noise none.
    """
    return _in_parts(_traits, images)


def _in_parts(
    measured: Callable[[UInt8[Tensor, "k c h w"]], dict[str, Float[Tensor, " k"]]],
    images: UInt8[Tensor, "s c h w"],
) -> dict[str, Float[Tensor, " s"]]:
    parts = [measured(part) for part in images.split(CHUNK)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def barely_altered(images: UInt8[Tensor, "k c s s"]) -> list[list[UInt8[Tensor, "k c s s"]]]:
    """What nobody can tell from the pictures, each by half and in full: with a little noise, a
    little softer, as a good JPEG file, soft with a trace of noise (what a network that draws well
    leaves)."""
    draws = torch.Generator().manual_seed(0)
    return [
        [noisy(images, sigma, draws) for sigma in (0.01, 0.02)],
        [blurred(images, sigma) for sigma in (0.35, 0.5)],
        [jpeg(images, quality) for quality in (90, 75)],
        [noisy(blurred(images, 0.35), 0.005, draws), noisy(blurred(images, 0.45), 0.01, draws)],
    ]


def natural_looks(
    images: UInt8[Tensor, "k c s s"],
    tail: float,
    measured: Callable[[Tensor], dict[str, Tensor]],
) -> tuple[Ranges, ...]:
    """For every trait the central part of real pictures, `tail` left out at either end; and the
    same of each barely visible alteration, from none of it to half and from half to all: what
    nobody can tell from a real picture is not broken, but what is as smooth as one and as noisy as
    another is.

    Of fewer than FEW pictures nothing is left out, and since the next one often lies beyond all of
    them, either end is moved on by the count-th root of the range's ratio; of a share by that of
    its odds, or a share near 1 would be no limit at all. The alterations' ends stay: they lie
    beyond the pictures as it is.
    """
    few = len(images) < FEW
    ends = torch.tensor([0.0, 1.0] if few else [tail, 1 - tail], dtype=torch.float64)

    def look(of: UInt8[Tensor, "k c s s"]) -> Ranges:
        pairs = {name: value.quantile(ends) for name, value in measured(of).items()}
        return {name: (float(low), float(high)) for name, (low, high) in pairs.items()}

    plain = look(images)
    if few:
        for name, (low, high) in plain.items():
            if low > 0:
                plain[name] = _wider(low, high, 1 / len(images), name in SHARES and high < 1)
    looks = [plain]
    for strengths in barely_altered(images):
        less = plain
        for altered in strengths:
            more = look(altered)
            looks.append({
                name: (min(less[name][0], low), max(less[name][1], high))
                for name, (low, high) in more.items()
            })  # fmt: skip
            less = more
    return tuple(looks)


def _wider(low: float, high: float, root: float, share: bool) -> tuple[float, float]:
    if share:
        low, high = low / (1 - low), high / (1 - high)
    ratio = (high / low) ** root
    low, high = low / ratio, high * ratio
    return (low / (1 + low), high / (1 + high)) if share else (low, high)


def natural_places(real: UInt8[Tensor, "h c s s"], tail: float) -> Ranges:
    """How far from other real pictures a real one lies: `nearest`, to the closest, has no low end,
    and `from_mean`, to the mean of all, no high one. ValueError: fewer than two images."""
    count = len(real)
    tail, more = (tail, 0.0) if count >= FEW else (0.0, 1 / count)
    nearest = nearest_other(real)
    # Each from the mean of the others, or it would lie too near.
    apart = from_mean(real, real.double().mean(0)) * count / (count - 1)
    most, least = float(nearest.quantile(1 - tail)), float(apart.quantile(tail))
    return {"nearest": (0.0, most * (1 + more)), "from_mean": (least * (1 - more), 1.0)}


def from_mean(
    images: UInt8[Tensor, "s c h w"], mean: Float[Tensor, "c h w"]
) -> Float[Tensor, " s"]:
    """RMSE in [0, 1] to the mean of real pictures. What a network paints that has learned nothing
    but the average lies nearer to it than any picture."""
    apart = [(part.double() - mean).square().mean((1, 2, 3)) for part in images.split(CHUNK)]
    return torch.cat(apart).sqrt() / 255


def _traits(raw: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    images = raw.int()
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
        "speckle": _to_neighbour(images).flatten(1).median(1).values.double() / 255,
    }


def _gradients(images: Int[Tensor, "s c h w"]) -> Int[Tensor, " s"]:
    """Sum of squared differences to the right and lower neighbours."""
    across = images.diff(dim=3).square().sum((1, 2, 3))
    return across + images.diff(dim=2).square().sum((1, 2, 3))


def _to_neighbour(images: Int[Tensor, "s c h w"]) -> Int[Tensor, "s h w"]:
    """The smallest difference to a neighbour; beyond the edge there is none."""
    wider = pad(images, (1, 1, 1, 1), value=511)  # farther from any than those from each other
    least = torch.full_like(wider[:, 0], 511)
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        apart = (wider - wider.roll(shift, (2, 3))).abs().amax(1)
        back = apart.roll((-shift[0], -shift[1]), (1, 2))
        least = torch.minimum(least, torch.minimum(apart, back))
    return least[:, 1:-1, 1:-1]


def _blurred(images: Int[Tensor, "s c h w"]) -> Int[Tensor, "s c h w"]:
    """[1 2 1] in both directions, edges repeated; 16 times the mean."""
    for dim in (2, 3):
        size = images.shape[dim]
        ends = images.narrow(dim, 0, 1), images, images.narrow(dim, size - 1, 1)
        wider = torch.cat(ends, dim)
        pairs = wider.narrow(dim, 0, size + 1) + wider.narrow(dim, 1, size + 1)
        images = pairs.narrow(dim, 0, size) + pairs.narrow(dim, 1, size)
    return images


BLOCKS = 8  # a side


def all_traits(images: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    """`traits`, and, both from 0 to 1, and 0 where an image is even:

    chroma: share of the contrast (variance about each colour's mean) that the three colours do not
        have in common. Untrained networks: 0.7 to 0.8 (tests/test_audit_pipeline.py); the 18
        embedded photographs: at most 0.31.
    coarse: share of the contrast that is left of an image's 8 x 8 block means.
    """
    return traits(images) | _in_parts(_layout, images)


def _layout(images: UInt8[Tensor, "s c h w"]) -> dict[str, Float[Tensor, " s"]]:
    values = images.double()
    values = values - values.mean((2, 3), keepdim=True)
    whole = values.square().mean((1, 2, 3))
    found = {
        "chroma": values - values.mean(1, keepdim=True),
        "coarse": adaptive_avg_pool2d(values, BLOCKS),
    }
    return {
        name: torch.where(whole > 0, of.square().mean((1, 2, 3)) / whole.clamp(min=1e-12), 0.0)
        for name, of in found.items()
    }


def reference(images: UInt8[Tensor, "h c s s"], source: str, rule: Rule = STANDARD) -> Reference:
    """ValueError: fewer than two images, or images that are all alike."""
    return reference_among(images, natural_looks(images, rule.tail, traits), source, rule)


def reference_among(
    real: UInt8[Tensor, "h c s s"], looks: tuple[Ranges, ...], source: str, rule: Rule
) -> Reference:
    """With looks taken elsewhere. ValueError: as `reference`."""
    return Reference(
        real, reference_distance(real), spread(real), looks, natural_places(real, rule.tail),
        real.double().mean(0), source, rule,
    )  # fmt: skip


def _outside(values: dict[str, Tensor], ranges: Ranges) -> dict[str, Bool[Tensor, " s"]]:
    return {
        name: (values[name] < low) | (values[name] > high) for name, (low, high) in ranges.items()
    }


KINDS = ("copied", "blend", "broken", "novel")


@dataclass(frozen=True)
class Findings(Verdicts):
    """Per output the verdict on copying, and what it is if it is no copy."""

    mixture_rmse: Float[Tensor, " s"]  # to the closest mixture of at most three training images
    kind: Int[Tensor, " s"]  # place in KINDS
    outside: dict[str, Bool[Tensor, " s"]]  # which traits lie outside the range of real pictures

    def reasons(self) -> list[str]:
        """Of each output what makes it what it is, in a word or two; '' where it is novel."""
        said = []
        for k, kind in enumerate(self.kind.tolist()):
            away = [name for name, where in self.outside.items() if where[k]]
            sense = "exact" if self.exact[k] else SENSES[int(self.sense[k])]
            said.append((sense, "mixture", " ".join(away), "")[kind])
        return said


def examine(
    outputs: UInt8[Tensor, "s c h w"],
    train: UInt8[Tensor, "n c h w"],
    reference: Reference,
    look: Callable[[int, Float[Tensor, "k n"]], object] = lambda start, squared: None,
) -> Findings:
    """copied: as `judge` says; look: see there.

    blend: no copy, but a mixture of at most three training images is within a third of the
        reference distance and no held-out image is; the mixture says more of the output than the
        nearest image alone (at most half its distance) and than the output's own mean colour.
        Without the last two, 6 % of unseen emoji are blends of some three among 1,000.
    broken: neither, and a trait lies outside the range of real pictures. An underfit model is not
        creative. (Without `grain` and `speckle`, a third of what a network makes that has seen each
        of a hundred emoji 192 times, and can tell none of them yet, is novel.) Without held-out
        images the closest real picture is the closest training image.
    novel: the rest.
    """
    verdicts, mixed = judge(outputs, train, reference, look), mixture(outputs, train)
    seen = all_traits(outputs) if "chroma" in reference.looks[0] else traits(outputs)
    near = reference.near
    told = (mixed <= verdicts.rmse / 2) & (mixed < seen["contrast"])
    blend = told & (mixed <= near) & (verdicts.held_out_rmse > near)
    closest = verdicts.held_out_rmse if len(reference.images) else verdicts.rmse
    placed = {"nearest": closest, "from_mean": from_mean(outputs, reference.mean)}
    away = torch.stack(
        [torch.stack(list(_outside(seen, look).values())) for look in reference.looks]
    )
    fewest = away.sum(1).argmin(0)  # of each output the look that has the fewest traits outside
    of_look = away[fewest, :, torch.arange(len(outputs))].T
    outside = dict(zip(reference.looks[0], of_look, strict=True))
    outside |= _outside(placed, reference.places)
    broken = torch.stack(list(outside.values())).any(0)
    rest = torch.where(broken, KINDS.index("broken"), KINDS.index("novel"))
    other = torch.where(blend, KINDS.index("blend"), rest)
    kind = torch.where(verdicts.copied, KINDS.index("copied"), other)
    return Findings(**vars(verdicts), mixture_rmse=mixed, kind=kind, outside=outside)
