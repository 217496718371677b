"""What else of a picture a model may have been trained on, and give back: squashed to a square,
another square of it, a tile of it where it is a sheet of several, on black, with its transparency
dropped, as it is stored; turned by any of the eight symmetries, or as a negative.

Trainers differ in what they make of a file. Each view is compared whole, by the correlation of
greys, and is kept only where it differs from the centred square. The squares along the long side
are not compared with each other: a picture that is as long as another is its squashed view too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from torch import Tensor
from torch.nn.functional import avg_pool2d

from byheart.auditing.matching import (
    BEST,
    BLOCK,
    BYTES,
    COARSE,
    FINE,
    GREY,
    Apart,
    Matches,
    normal,
    parities,
    resized,
)
from byheart.data.decode import FILTER, Box, Picture

SIDE = 2 * FINE  # pixels of a view: what the closest look takes
ALONG = 24  # squares along the long side for each of its own side: none lies 1/48 away
DIFFERS = 0.02  # RMSE in [0, 1] of two views that are two
SYMMETRIES = (
    "", "mirrored", "turned by 180°", "upside down", "mirrored along its diagonal",
    "turned by 90°", "turned by 270°", "mirrored along its other diagonal",
)  # fmt: skip
UNMIRRORED = (0, 2, 4, 5)  # of them; the other four are these, mirrored
INVERSE = {
    Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270,
    Image.Transpose.ROTATE_270: Image.Transpose.ROTATE_90,
}  # the others undo themselves
TURNED = 2**14  # bytes that a view takes under all symmetries
CHANGE = 0.03  # how much closer each change must come to be believed


class View(NamedTuple):
    name: str
    grey: UInt8[np.ndarray, "32 32"]
    along: bool = False  # one of the squares along the long side


@dataclass(frozen=True)
class Views:
    """Of several pictures. The first of each is the centred square, without a name."""

    greys: UInt8[Tensor, "m 32 32"]
    of: Int[Tensor, " m"]  # place of the picture, in their order
    names: tuple[str, ...]
    along: Bool[Tensor, " m"]

    @property
    def centred(self) -> Bool[Tensor, " m"]:
        return torch.tensor([not name for name in self.names], dtype=torch.bool)

    def at(self, rows: Int[Tensor, " k"]) -> Views:
        names = tuple(self.names[k] for k in rows.tolist())
        return Views(self.greys[rows], self.of[rows], names, self.along[rows])

    def only(self, kept: list[int]) -> Views:
        """Of the pictures at these places, in their order."""
        pictures = torch.tensor(kept, dtype=torch.long)
        first, counts = (torch.searchsorted(self.of, pictures, right=end) for end in (False, True))
        counts -= first
        of = torch.arange(len(kept)).repeat_interleave(counts)
        within = torch.arange(len(of)) - (counts.cumsum(0) - counts)[of]
        return replace(self.at(first[of] + within), of=of)


@dataclass(frozen=True)
class Looks:
    """Pictures as they are compared: squares, from which windows are cut, other views, and a
    learned descriptor (rows of length 1) where there is one."""

    pixels: UInt8[Tensor, "n 3 s s"]
    views: Views
    descriptors: Float[Tensor, "n d"] | None = None

    def __len__(self) -> int:
        return len(self.pixels)

    def only(self, kept: list[int]) -> Looks:
        chosen = torch.tensor(kept, dtype=torch.long)
        rows = None if self.descriptors is None else self.descriptors[chosen]
        return Looks(self.pixels[chosen], self.views.only(kept), rows)


def views_of(picture: Picture, centre: Image.Image, tiles: list[tuple[str, Picture]]) -> list[View]:
    """Names and greys, the centred square first; each that differs from all before it.

    centre: that square, as `picture.rgb` gives it. tiles: of a sheet, with their places.
    """
    found = [View("", np.array(centre.convert("L").resize((SIDE, SIDE), FILTER)))]
    for place, tile in tiles:
        square = tile.rgb(tile.centre).convert("L").resize((SIDE, SIDE), FILTER)
        _add(found, (f"the tile in {place}",), square)
    picture = picture.reduced(SIDE)
    whole = (0, 0, *picture.size)
    backgrounds = [("", "white"), ("on black", "black"), ("with its transparency dropped", None)]
    for shown, behind in backgrounds if picture.transparent else backgrounds[:1]:
        image = picture.rgb(whole, behind).convert("L")
        for part, box in (("", picture.centre), ("squashed", whole)):
            square = image.resize((SIDE, SIDE), FILTER, box=box)
            _add(found, (part, shown), square)
            if picture.turned is not None:
                back = INVERSE.get(picture.turned, picture.turned)
                _add(found, (part, shown, "as stored"), square.transpose(back))
        for part, box in _along(picture):
            _add(found, (part, shown), image.resize((SIDE, SIDE), FILTER, box=box), along=True)
    return found


def _add(
    found: list[View], words: tuple[str, ...], square: Image.Image, along: bool = False
) -> None:
    grey = np.array(square)
    apart = np.array([other.grey for other in found], np.float32) - grey
    if (np.square(apart).mean((1, 2)) >= (255 * DIFFERS) ** 2).all():
        found.append(View(" ".join(word for word in words if word), grey, along))


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
    views = [view for one in each for view in one]
    greys = np.array([view.grey for view in views], np.uint8).reshape(-1, SIDE, SIDE)
    return Views(
        torch.from_numpy(greys),
        torch.tensor([place for place, one in enumerate(each) for _ in one], dtype=torch.long),
        tuple(view.name for view in views),
        torch.tensor([view.along for view in views], dtype=torch.bool),
    )


def squares_only(images: UInt8[Tensor, "k 3 s s"]) -> Views:
    """Of pictures that are squares already."""
    weights = torch.tensor(GREY)[:, None, None]
    greys = (resized((image.float() * weights).sum(0)[None], SIDE)[0] for image in images)
    return gathered([[View("", grey.round().clamp(0, 255).byte().numpy())] for grey in greys])


def search_looks(
    outputs: Looks, train: Looks, apart: Apart
) -> dict[str, tuple[Matches, list[str]]]:
    """Of each output the closest training picture by each look, and what it is then."""
    found = {"view": search_views(outputs.views, train.views, apart)}
    if outputs.descriptors is not None and train.descriptors is not None:
        alike = outputs.descriptors @ train.descriptors.T
        for k in range(len(outputs)):
            alike[k, apart(k)] = -torch.inf
        best = alike.max(1)
        distance = (1 - best.values).clamp(min=0).sqrt().float()
        words = ["by the descriptor"] * len(outputs)
        found["descriptor"] = _as_wholes(best.indices, distance), words
    return found


def _as_wholes(nearest: Int[Tensor, " s"], distance: Float[Tensor, " s"]) -> Matches:
    """Of wholes: what else was changed stands in words beside it."""
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(len(nearest), 4)
    return Matches(nearest, distance, torch.zeros(len(nearest), dtype=torch.bool), whole, whole)


def search_views(outputs: Views, train: Views, apart: Apart) -> tuple[Matches, list[str]]:
    """Of each output the closest training picture in another view, and which it is.

    What the centred squares themselves say, upright or mirrored, is left to matching.py. Distance
    and `apart` as there.
    """
    best = torch.full((len(outputs.of), BEST), -torch.inf)
    where = torch.zeros(len(outputs.of), BEST, dtype=torch.long)
    everything = torch.ones_like(train.along)
    for asked, among in ((~outputs.along, everything), (outputs.along, ~train.along)):
        rows, columns = asked.nonzero()[:, 0], among.nonzero()[:, 0]
        if len(rows) and len(columns):
            best[rows], found = _best(outputs.at(rows), train.at(columns), apart)
            where[rows] = columns[found]
    return _closest(outputs, train, best, where)


def _best(
    outputs: Views, train: Views, apart: Apart
) -> tuple[Float[Tensor, "s b"], Int[Tensor, "s b"]]:
    """Of each view of an output the training views that come closest under any symmetry, as a
    negative or not."""
    even, odd = parities(_coarse(outputs.greys)[None])[:, 0]
    best = torch.full((len(even), BEST), -torch.inf)
    where = torch.zeros(len(even), BEST, dtype=torch.long)
    banned = [(k, t) for k, place in enumerate(outputs.of.tolist()) for t in apart(place)]
    ours, centred = outputs.centred, train.centred
    piece = max(1, BYTES // max(4 * len(even), TURNED))
    rows = max(1, BLOCK // (4 * len(UNMIRRORED) * min(piece, len(train.of))))
    for start in range(0, len(train.of), piece):
        part = slice(start, start + piece)
        theirs = _symmetric(_coarse(train.greys[part]).unflatten(1, (COARSE, COARSE)))
        turned = torch.stack([theirs[way].flatten(1) for way in UNMIRRORED])
        evens, odds = parities(turned).flatten(1, 2)
        score = torch.empty(len(even), turned.shape[1])
        known = ours[:, None] & centred[None, part]
        for k in range(0, len(even), rows):
            some = slice(k, k + rows)
            same, other = even[some] @ evens.T, odd[some] @ odds.T
            shape = (len(same), *turned.shape[:2])
            same, other = same.view(shape), other.view(shape).abs_()
            # Of u v and of u with v mirrored, and their negatives, the largest is |same| + |other|.
            upright = torch.where(known[some], -same[:, 0], same[:, 0].abs())
            same.abs_()[:, 0] = upright
            score[some] = same.add_(other).amax(1)
        for k, t in banned:
            score[k, train.of[part] == t] = -torch.inf
        places = torch.arange(start, start + score.shape[1]).expand_as(score)
        best, order = torch.cat([best, score], 1).topk(BEST, dim=1)
        where = torch.cat([where, places], 1).gather(1, order)
    return best, where


def _closest(
    outputs: Views,
    train: Views,
    best: Float[Tensor, "s b"],
    where: Int[Tensor, "s b"],
) -> tuple[Matches, list[str]]:
    """The best pairs, compared closely; of each output the nearest."""
    count = len(outputs.of.unique())
    nearest, smallest = [0] * count, [float("inf")] * count
    words, found = [""] * count, [float("inf")] * count
    ways = torch.arange(2 * len(SYMMETRIES))  # 2 symmetry + negative
    changes = (ways > 1).long() + ways % 2
    ours, centred = outputs.centred, train.centred
    for rows in torch.arange(len(where)).split(max(1, BYTES // (4 * BEST * 8 * FINE**2))):
        fine, closer = _fine(outputs.greys[rows]), _fine(train.greys[where[rows].flatten()])
        every = torch.stack(_symmetric(closer), 1).flatten(2).unflatten(0, where[rows].shape)
        value = torch.einsum("sd,sbkd->sbk", normal(fine.flatten(1)), normal(every))
        distance = (1 - torch.stack([value, -value], 3).flatten(2)).clamp(min=0).sqrt()
        known = ours[rows][:, None] & centred[where[rows]]
        void = (known[:, :, None] & ((ways == 0) | (ways == 2))) | ~best[rows].isfinite()[
            :, :, None
        ]
        distance = distance.masked_fill(void | (value == 0).repeat_interleave(2, 2), torch.inf)
        preferred = (distance + CHANGE * changes).flatten(1).min(1)
        for row, wanted, way in zip(rows.tolist(), *map(Tensor.tolist, preferred), strict=True):
            k = int(outputs.of[row])
            if wanted < smallest[k]:
                candidate, way = divmod(way, len(ways))
                place = int(where[row, candidate])
                smallest[k], nearest[k] = wanted, int(train.of[place])
                found[k] = float(distance[row - int(rows[0]), candidate, way])
                said = [train.names[place], SYMMETRIES[way // 2], "a negative" * (way % 2)]
                words[k] = ", ".join(word for word in said if word) or outputs.names[row]
    return _as_wholes(torch.tensor(nearest), torch.tensor(found)), words


def _coarse(greys: UInt8[Tensor, "m 32 32"]) -> Float[Tensor, "m d"]:
    return normal(resized(greys.float() / 255, COARSE).flatten(1))


def _fine(greys: UInt8[Tensor, "m 32 32"]) -> Float[Tensor, "m f f"]:
    return avg_pool2d(greys[:, None].float() / 255, 2)[:, 0]


def _symmetric(greys: Float[Tensor, "m s s"]) -> list[Float[Tensor, "m s s"]]:
    """In the order of SYMMETRIES."""
    turned = greys.transpose(1, 2)
    return [
        greys, greys.flip(2), greys.flip(1, 2), greys.flip(1),
        turned, turned.flip(1), turned.flip(2), turned.flip(1, 2),
    ]  # fmt: skip
