"""The nearest possible picture: of all avatars of a family, drawn or not, the one closest to an
output. No published measure can say of an output what it is and whether it was shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

import torch
from jaxtyping import UInt8
from torch import Tensor

from byheart.data.avatars import Family, Parts
from byheart.measure.distance import rmse_matrix, root

STARTS = 3  # closest known pictures that a descent begins at, until one leads close enough
ROUNDS = 4
DOUBT = 1.1  # times the squared distance up to which a picture that was shown is the answer
SEED = "seed"  # its turn among the parts
SHIFTS = 48  # seeds tried for where the parts are, in a style that shifts them

Image = UInt8[Tensor, "3 z z"]


@dataclass(frozen=True)
class Member:
    """An avatar of the family. DiceBear draws it from the seed and the parts."""

    seed: str
    parts: Parts
    pixels: Image
    rmse: float  # to the output, in [0, 1]
    trained_on: str | None  # name of the training picture with these pixels or exactly these parts


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
    comes no closer than `near` (RMSE in [0, 1]) is begun once more from the next known picture,
    unless two descents have ended at the same parts. A picture that was trained on and is hardly
    farther away comes first, since what another saves may be noise: "never shown" has to be sure.
    """
    found = []
    for output in outputs:
        search = _Search(output, family)
        to_known = rmse_matrix(output[None], known)[0]
        ends: list[_Drawn] = []
        for place in to_known.sort(stable=True).indices[:STARTS].tolist():
            end = search.descend(names[place])
            agreed = any(end.parts == other.parts for other in ends)
            ends.append(end)
            if agreed or search.rmse(end) <= near:
                break
        best = min(ends, key=attrgetter("squared"))
        shown_to, place = to_known[:trained].min(0)
        if float(shown_to) ** 2 <= DOUBT * search.rmse(best) ** 2:
            best = search.draw(names[int(place)], family.parts(names[int(place)]))
        apart = rmse_matrix(best.pixels[None], known[:trained])[0]
        close = [(float(apart[k]), names[k]) for k in apart.sort(stable=True).indices[:STARTS]]
        # What lies behind something else need not be the same.
        same = [name for rmse, name in close if rmse == 0 or family.parts(name) == best.parts]
        shown = same[0] if same else None
        found.append(Member(best.seed, best.parts, best.pixels, search.rmse(best), shown))
        advance(1)
    return found


@dataclass(frozen=True)
class _Drawn:
    seed: str
    parts: Parts
    pixels: Image
    squared: int  # sum of squared 8-bit differences to the output


@dataclass
class _Search:
    """Everything drawn for one output: what a second descent asks for again is there already."""

    output: Image
    family: Family
    drawn: dict[tuple[str, tuple[tuple[str, str], ...]], _Drawn] = field(default_factory=dict)

    def draw(self, seed: str, parts: Parts) -> _Drawn:
        key = (seed, tuple(sorted(parts.items())))
        if key not in self.drawn:
            pixels, shown = self.family.draw(seed, self.output.shape[-1], parts)
            squared = int((pixels.int() - self.output.int()).square().sum())
            self.drawn[key] = _Drawn(seed, shown, pixels, squared)
        return self.drawn[key]

    def rmse(self, one: _Drawn) -> float:
        return float(root(torch.tensor([float(one.squared)]).double(), self.output[None]))

    def descend(self, seed: str) -> _Drawn:
        best = self.draw(seed, self.family.parts(seed))
        turns = [*self.family.choices, *([SEED] if self.family.shifted else [])]
        quiet = 0  # turns in a row that brought nothing
        for name in turns * ROUNDS:
            here = best
            best = min([here, *self.exchanges(here, name)], key=attrgetter("squared"))
            # After an exchange the others have their turn again, but not the same one.
            quiet = quiet + 1 if best is here else 1
            if quiet == len(turns) or best.squared == 0:
                break
        return best

    def exchanges(self, here: _Drawn, name: str) -> Iterator[_Drawn]:
        """The picture with every other choice of one part, or from other seeds.

        What was not there has a colour that nobody chose; a hat of the wrong colour can be worse
        than none. It is also tried in the colour that the output has in its place.
        """
        if name == SEED:
            yield from (self.draw(f"shift-{k}", here.parts) for k in range(SHIFTS))
        for choice in self.family.choices[name] if name in here.parts else ():
            if choice == here.parts[name]:
                continue
            yield (new := self.draw(here.seed, here.parts | {name: choice}))
            place = (new.pixels != here.pixels).any(0)
            for colour in new.parts:
                if colour.endswith(" colour") and colour not in here.parts and place.any():
                    wanted = self.output[:, place].double().mean(1)
                    closest = min(
                        self.family.choices[colour],
                        key=lambda code: float((_rgb(code) - wanted).square().sum()),
                    )
                    yield self.draw(here.seed, new.parts | {colour: closest})


def _rgb(code: str) -> Tensor:
    return torch.tensor([int(code[k : k + 2], 16) for k in (1, 3, 5)], dtype=torch.float64)
