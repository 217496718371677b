"""Pictures whose right verdict is known, judged as real outputs are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from byheart.measure.alterations import Images, as_bytes, blurred, jpeg, noisy
from byheart.measure.copying import Reference
from byheart.measure.kinds import reference

COUNT = 64  # outputs of each control
NOISES = (0.05, 0.1)  # standard deviations of the noisy copiers, in [0, 1]


@dataclass(frozen=True)
class Control:
    """Outputs of a model that is known through and through."""

    outputs: Images
    expected: str  # as it stands in the report
    reference: Reference


def controls(train: Images, held_out: Reference, seed: int) -> dict[str, Control]:
    """By name: copiers, held-out images, blends, the mean image, blanks and noise.

    Blends need two training images, held-out images four. The held-out images at even places play
    the outputs, the others the held-out set. At n = 1 the mean image is the image.
    """
    draws = torch.Generator().manual_seed(seed)
    many = spread_out(train, COUNT)
    plain = {"exact": (many, "copied")}
    for sigma in NOISES:
        plain[f"noisy_{sigma}"] = noisy(many, sigma, draws), "copied at the same rate for any n"
    if len(train) > 1:
        one = torch.randint(len(train), (COUNT,), generator=draws)
        plain["blend"] = (mixed(train, one, another(one, len(train), draws)), "blend")
    plain["mean"] = (mean(train), "copied" if len(train) == 1 else "not novel")
    plain["blank"] = (blanks(train), "broken")
    noise = torch.randint(256, (COUNT, *train.shape[1:]), generator=draws, dtype=torch.uint8)
    plain["noise"] = (noise, "broken")
    made = {name: Control(*pair, held_out) for name, pair in plain.items()}
    if len(held_out.images) >= 4:
        other_half = reference(held_out.images[1::2], "every other held-out image", held_out.rule)
        other_half = replace(other_half, distance=held_out.distance, spread=held_out.spread)
        made["held_out"] = Control(held_out.images[0::2], "novel, copied at chance", other_half)
    return made


def another(places: Int[Tensor, " k"], n: int, draws: torch.Generator) -> Int[Tensor, " k"]:
    """For each of n places one of the others."""
    return (places + torch.randint(1, n, places.shape, generator=draws)) % n


def mixed(
    images: Images, one: Int[Tensor, " k"], other: Int[Tensor, " k"], share: float = 0.5
) -> Images:
    """share: of the first of each two."""
    return as_bytes((share * images[one] + (1 - share) * images[other]) / 255)


def mean(images: Images) -> UInt8[Tensor, "1 c h w"]:
    return as_bytes(images.double().mean(0, keepdim=True) / 255)


def blanks(like: Images) -> UInt8[Tensor, "5 c h w"]:
    """Five even greys, black and white among them."""
    even = torch.tensor([0, 85, 128, 170, 255], dtype=torch.uint8)
    return even[:, None, None, None].expand(-1, *like.shape[1:]).clone()


def altered(train: Images) -> dict[str, Images]:
    """Copies that a viewer would recognise and a distance may not: what each measure makes of them.

    At most COUNT training images, evenly spread.
    """
    images = spread_out(train, min(len(train), COUNT))
    size = images.shape[-1]
    return {name: change(images, size) for name, change in ALTERATIONS.items()}


def spread_out(images: Images, count: int) -> Images:
    """`count` of the images, evenly spread; where there are fewer, again from the start."""
    return images[torch.arange(count) * max(len(images), count) // count % len(images)]


def _cropped(images: Images, size: int) -> Images:
    edge = round(size * 0.15)
    inner = images[:, :, edge : size - edge, edge : size - edge].float()
    grown = torch.nn.functional.interpolate(inner, size=(size, size), mode="bilinear")
    return grown.round().to(torch.uint8)


ALTERATIONS: dict[str, Callable[[Images, int], Images]] = {
    "mirrored": lambda images, size: images.flip(3),
    "shifted by two pixels": lambda images, size: images.roll((2, 2), dims=(2, 3)),
    "channels exchanged": lambda images, size: images.roll(1, dims=1),
    "half the contrast": lambda images, size: as_bytes(images / 510 + 0.25),
    "JPEG, quality 30": lambda images, size: jpeg(images, 30),
    "cropped to 70 %": _cropped,
    "strongly blurred": lambda images, size: blurred(images, size / 16),
}
