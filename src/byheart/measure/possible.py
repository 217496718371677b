"""The nearest possible picture: of all avatars of a family, drawn or not, the one closest to an
output. No published measure can say of an output what it is and whether it was shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from byheart.data.avatars import Family, Parts
from byheart.measure.distance import nearest, rmse_matrix

STARTS = 3  # closest known pictures that a descent begins at, until one leads close enough
ROUNDS = 4
GAIN = 0.02  # share of the squared distance that an exchange must save: less may fit mere noise
SHIFTS = 48  # seeds tried for where the parts are, in a style that shifts them

Image = UInt8[Tensor, "3 z z"]


@dataclass(frozen=True)
class Member:
    """An avatar of the family. DiceBear draws it from the seed and the parts."""

    seed: str
    parts: Parts
    pixels: Image
    rmse: float  # to the output, in [0, 1]
    trained_on: str | None  # name of the training picture that has exactly these parts


def nearest_possible(
    outputs: UInt8[Tensor, "s 3 z z"],
    known: UInt8[Tensor, "k 3 z z"],
    names: Sequence[str],
    trained: int,
    family: Family,
    near: float,
    advance: Callable[[int], object] = lambda outputs: None,
) -> list[Member]:
    """Of each output its nearest possible picture.

    known: pictures of the family, the first `trained` of which were trained on; names: their seeds.
    From the known picture closest to the output one part after the other is exchanged for whatever
    brings it closest, all others as they are, until no exchange helps: coordinate descent. What
    comes no closer than `near` (RMSE in [0, 1]) is begun once more from the next known picture.
    """
    found = []
    for output in outputs:
        to_known = rmse_matrix(output[None], known)[0]
        tried: list[tuple[float, str, Parts, Image]] = []
        for place in to_known.sort(stable=True).indices[:STARTS].tolist():
            tried.append(_descended(output, names[place], family))
            if tried[-1][0] <= near:
                break
        rmse, seed, parts, pixels = min(tried, key=lambda one: one[0])
        close = rmse_matrix(pixels[None], known[:trained])[0].sort(stable=True).indices[:STARTS]
        same = [names[k] for k in close.tolist() if family.parts(names[k]) == parts]
        found.append(Member(seed, parts, pixels, rmse, same[0] if same else None))
        advance(1)
    return found


def _descended(output: Image, seed: str, family: Family) -> tuple[float, str, Parts, Image]:
    size = output.shape[-1]

    def drawn(seed: str, parts: Parts) -> tuple[float, str, Parts, Image]:
        pixels, shown = family.draw(seed, size, parts)
        return float(nearest(pixels[None], output[None]).rmse), seed, shown, pixels

    best = drawn(seed, family.parts(seed))
    for _ in range(ROUNDS):
        before = best[0]
        for name, choices in family.choices.items():
            here = best
            for choice in choices:
                if name in here[2] and choice != here[2][name]:
                    tried = drawn(here[1], here[2] | {name: choice})
                    if tried[0] < best[0] and tried[0] ** 2 <= (1 - GAIN) * here[0] ** 2:
                        best = tried
        if family.shifted and best[0] > 0:
            here = best
            moved = (drawn(f"shift-{k}", here[2]) for k in range(SHIFTS))
            best = min([best, *moved], key=_rmse)
        if best[0] == before:
            break
    return best


def _rmse(one: tuple[float, str, Parts, Image]) -> float:
    return one[0]


def exchanged(one: Parts, other: Parts) -> tuple[str, ...]:
    """The parts in which two avatars differ."""
    return tuple(name for name in (one | other) if one.get(name) != other.get(name))
