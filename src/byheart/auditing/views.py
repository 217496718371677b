"""What else of a picture a model may have been trained on, and give back: squashed to a square,
another square of it, a tile of it where it is a sheet of several, on black, with its transparency
dropped, as it is stored; turned by any of the eight symmetries, or as a negative.

Trainers differ in what they make of a file. Each view is compared whole, by the correlation of
greys; so it costs a thousandth of the searches for parts (matching.py), and is kept only where it
differs from the centred square.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from byheart.auditing.matching import BEST, BYTES, COARSE, FINE, GREY, Matches, normal, resized
from byheart.data.decode import FILTER, Box, Picture

SIDE = 2 * FINE  # pixels of a view: what the closest look takes
ALONG = 24  # squares along the long side for each of its own side: none lies 1/48 away
DIFFERS = 0.02  # RMSE in [0, 1] of two views that are two
SYMMETRIES = (
    "", "mirrored", "turned by 180°", "upside down", "mirrored along its diagonal",
    "turned by 90°", "turned by 270°", "mirrored along its other diagonal",
)  # fmt: skip
INVERSE = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}  # the others undo themselves
View = tuple[str, UInt8[np.ndarray, "32 32"]]
CHANGE = 0.03  # how much closer each change must come to be believed


@dataclass(frozen=True)
class Views:
    """Of several pictures. The first of each is the centred square, without a name."""

    greys: UInt8[Tensor, "m 32 32"]
    of: Int[Tensor, " m"]  # place of the picture
    names: tuple[str, ...]

    def only(self, kept: list[int]) -> Views:
        """Of the pictures at these places, in their order."""
        rows, of = [], []
        for place, picture in enumerate(kept):
            mine = (self.of == picture).nonzero()[:, 0].tolist()
            rows += mine
            of += [place] * len(mine)
        chosen = torch.tensor(rows, dtype=torch.long)
        names = tuple(self.names[k] for k in rows)
        return Views(self.greys[chosen], torch.tensor(of, dtype=torch.long), names)


@dataclass(frozen=True)
class Looks:
    """Whole pictures as they are compared beside their windows: in other views, and by a learned
    descriptor (rows of length 1) where there is one."""

    views: Views
    descriptors: Float[Tensor, "n d"] | None = None

    def only(self, kept: list[int]) -> Looks:
        chosen = torch.tensor(kept, dtype=torch.long)
        rows = None if self.descriptors is None else self.descriptors[chosen]
        return Looks(self.views.only(kept), rows)


def views_of(picture: Picture, centre: Image.Image, tiles: list[tuple[str, Picture]]) -> list[View]:
    """Names and greys, the centred square first; each that differs from all before it.

    centre: that square, as `picture.rgb` gives it. tiles: of a sheet, with their places.
    """
    found = [("", np.array(centre.convert("L").resize((SIDE, SIDE), FILTER)))]
    picture = picture.reduced(SIDE)
    whole = (0, 0, *picture.size)
    backgrounds = [("", "white"), ("on black", "black"), ("with its transparency dropped", None)]
    for shown, behind in backgrounds if picture.transparent else backgrounds[:1]:
        image = picture.rgb(whole, behind).convert("L")
        squares = [("", picture.centre), ("squashed", whole)]
        for part, box in [*squares, *_along(picture)]:
            square = image.resize((SIDE, SIDE), FILTER, box=box)
            _add(found, (part, shown), square)
            if picture.turned is not None and (part, box) in squares:
                back = INVERSE.get(picture.turned, picture.turned)
                _add(found, (part, shown, "as stored"), square.transpose(back))
    for place, tile in tiles:
        square = tile.rgb(tile.centre).convert("L").resize((SIDE, SIDE), FILTER)
        _add(found, (f"the tile in {place}",), square)
    return found


def _add(found: list[View], words: tuple[str, ...], square: Image.Image) -> None:
    view = np.array(square)
    if all(_apart(view, other) >= DIFFERS for _, other in found):
        found.append((" ".join(word for word in words if word), view))


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.sqrt(np.square(one.astype(float) - other).mean())) / 255


def _along(picture: Picture) -> list[tuple[str, Box]]:
    """Squares along the long side, from end to end."""
    width, height = picture.size
    side, slack = min(width, height), abs(width - height)
    count = -(-slack * ALONG // side)
    where = "from the left" if width > height else "from the top"
    boxes = []
    for k in range(count + 1 if count else 0):
        offset, share = round(slack * k / count), f"{round(100 * k / count)} %"
        left, upper = (offset, 0) if width > height else (0, offset)
        box = (left, upper, left + side, upper + side)
        boxes.append((f"the square {share} of the way {where}", box))
    return boxes


def gathered(each: list[list[View]]) -> Views:
    greys = [torch.from_numpy(grey) for one in each for _, grey in one]
    return Views(
        torch.stack(greys) if greys else torch.empty((0, SIDE, SIDE), dtype=torch.uint8),
        torch.tensor([place for place, one in enumerate(each) for _ in one], dtype=torch.long),
        tuple(name for one in each for name, _ in one),
    )


def squares_only(images: UInt8[Tensor, "k 3 s s"]) -> Views:
    """Of pictures that are squares already."""
    weights = torch.tensor(GREY)[:, None, None]
    greys = (resized((image.float() * weights).sum(0)[None], SIDE)[0] for image in images)
    return gathered([[("", grey.round().clamp(0, 255).byte().numpy())] for grey in greys])


def search_looks(
    outputs: Looks, train: Looks, count: int, apart: Callable[[int], list[int]]
) -> dict[str, tuple[Matches, list[str]]]:
    """Of each of `count` outputs the closest training picture by each look, and what it is then."""
    found = {"view": search_views(outputs.views, train.views, count, apart)}
    if outputs.descriptors is not None and train.descriptors is not None:
        alike = outputs.descriptors @ train.descriptors.T
        for k in range(count):
            alike[k, apart(k)] = -torch.inf
        best = alike.max(1)
        distance = (1 - best.values).clamp(min=0).sqrt().float()
        found["descriptor"] = _as_wholes(best.indices, distance), ["by the descriptor"] * count
    return found


def _as_wholes(nearest: Int[Tensor, " s"], distance: Float[Tensor, " s"]) -> Matches:
    """Of wholes: what else was changed stands in words beside it."""
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(nearest), 4)
    return Matches(nearest, distance, torch.zeros(len(nearest), dtype=torch.bool), whole, whole)


def search_views(
    outputs: Views, train: Views, count: int, apart: Callable[[int], list[int]]
) -> tuple[Matches, list[str]]:
    """Of each of `count` outputs the closest training picture in another view, and which it is.

    What the centred squares themselves say, upright or mirrored, is left to matching.py. Distance
    and `apart` as there.
    """
    ours, theirs = outputs.greys.float() / 255, train.greys.float() / 255
    coarse = _windows(ours, COARSE)
    both = torch.stack([_windows(s, COARSE) for s in _symmetric(theirs)], 1)  # (m, 8, d)
    best = torch.full((len(ours), BEST), -torch.inf)
    where = torch.zeros(len(ours), BEST, dtype=torch.long)  # 16 view + 2 symmetry + negative
    plain_o = torch.tensor([not name for name in outputs.names], dtype=torch.bool)
    plain_t = torch.tensor([not name for name in train.names], dtype=torch.bool)
    piece = max(1, BYTES // (4 * 16 * len(ours)))
    for start in range(0, len(theirs), piece):
        part = slice(start, start + piece)
        score = torch.einsum("sd,mkd->smk", coarse, both[part])
        score = torch.stack([score, -score], 3)  # (s, m, 8, 2)
        known = plain_o[:, None] & plain_t[None, part]
        score[:, :, :2, 0].masked_fill_(known[:, :, None], -torch.inf)
        for k, place in enumerate(outputs.of.tolist()):
            for t in apart(place):
                score[k, train.of[part] == t] = -torch.inf
        flat = score.flatten(1)
        places = torch.arange(16 * start, 16 * start + flat.shape[1]).expand_as(flat)
        values, order = torch.cat([best, flat], 1).topk(BEST, dim=1)
        where = torch.cat([where, places], 1).gather(1, order)
        best = values
    return _closest(outputs, train, ours, theirs, best, where, count)


def _closest(
    outputs: Views, train: Views, ours: Tensor, theirs: Tensor, best: Tensor, where: Tensor,
    count: int,
) -> tuple[Matches, list[str]]:  # fmt: skip
    """The best pairs, compared closely; of each output the nearest."""
    fine = _windows(ours, FINE)
    view, symmetry, negative = where // 16, where // 2 % 8, where % 2
    every = torch.stack(_symmetric(theirs), 1)  # (m, 8, 32, 32)
    closer = _windows(every[view.flatten(), symmetry.flatten()], FINE).view(*view.shape, -1)
    value = torch.einsum("sd,sbd->sb", fine, closer) * (1 - 2 * negative)
    distance = (1 - value).clamp(min=0).sqrt()
    distance = distance.masked_fill(~best.isfinite() | (value == 0), torch.inf)
    changes = (symmetry > 0).long() + negative
    preferred = distance + CHANGE * changes
    nearest, smallest = [0] * count, [float("inf")] * count
    words, found = [""] * count, [float("inf")] * count
    for row, column in enumerate(preferred.argmin(1).tolist()):
        k, wanted = int(outputs.of[row]), float(preferred[row, column])
        if wanted < smallest[k]:
            smallest[k], found[k] = wanted, float(distance[row, column])
            place = int(view[row, column])
            nearest[k] = int(train.of[place])
            said = [train.names[place], SYMMETRIES[int(symmetry[row, column])]]
            said += ["a negative"] * int(negative[row, column])
            words[k] = ", ".join(word for word in said if word) or outputs.names[row]
    return _as_wholes(torch.tensor(nearest), torch.tensor(found)), words


def _windows(greys: Float[Tensor, "m s s"], side: int) -> Float[Tensor, "m d"]:
    if side == FINE:
        return normal(avg_pool2d(greys[:, None], 2).flatten(1))
    return normal(resized(greys, side).flatten(1))


def _symmetric(greys: Float[Tensor, "m s s"]) -> list[Float[Tensor, "m s s"]]:
    """In the order of SYMMETRIES."""
    turned = greys.transpose(1, 2)
    return [
        greys, greys.flip(2), greys.flip(1, 2), greys.flip(1),
        turned, turned.flip(1), turned.flip(2), turned.flip(1, 2),
    ]  # fmt: skip
