"""Copies that a plain distance misses: recoloured, mirrored, cropped, shifted, pasted in.

Each of four searches compares windows of an output with windows of a training image, upright and
mirrored, by the correlation of their greys, mean and contrast removed: what a change of colour,
brightness or contrast leaves as it is. The best of many windows comes close by chance as well, so
every search has a reference distance of its own, taken with the same search on real pictures.

First every window is compared at 12 x 12; the few best pairs are then aligned at 16 x 16.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from byheart.runtime.processes import joined

GREY = (0.299, 0.587, 0.114)  # ITU-R BT.601
SOURCE = 64  # pixels a side of the greys that windows are cut from
COARSE, FINE = 12, 16  # pixels a side of a window when all are compared, and when a few are
FLAT = 0.02  # standard deviation in [0, 1] below which a window shows nothing
BEST = 3  # training images of each output that are looked at closely
BYTES = 2**26  # of windows or of correlations at once
COLUMNS, BLOCK = 512, 2**21  # windows of training images at once, bytes: what a core's cache holds
HALF = 2 * COARSE
UPRIGHT = 0.01  # how much closer a mirrored window must come to be preferred
LEAST, SCALE = 0.2, 0.1  # of a shift: least overlap, largest change of size
STEPS = (1 / 16, 1 / 32, 1 / 64, 1 / 128)  # of a window's side, by which it is moved and resized

Images = UInt8[Tensor, "_ 3 side side"]
Boxes = Float[Tensor, "k 4"]  # left, upper, width, height; the whole image is (0, 0, 1, 1)
Apart = Callable[[int], list[int]]  # of an output what it must not be compared with, such as itself
Advance = Callable[[int], object]  # told how many outputs were looked at


@dataclass(frozen=True)
class Search:
    """Which windows are compared: (side of the image when a window takes 12 pixels, stride).

    moves: whose window is moved while aligning: "outputs", "train" or "neither".
    """

    name: str
    outputs: tuple[tuple[int, int], ...]
    train: tuple[tuple[int, int], ...]
    moves: str


WHOLE = ((COARSE, 1),)
SEARCHES = (
    Search("whole", WHOLE, WHOLE, "neither"),
    Search("crop", WHOLE, ((13, 1), (15, 1), (17, 1), (20, 1), (HALF, 1)), "train"),
    # A picture shifted by up to a half keeps one of its quarters, or the middle, whole.
    Search("part", ((HALF, 6),), ((HALF, 2),), "train"),  # … which is what `shift` begins with
    Search("inside", ((17, 1), (20, 1), (HALF, 1), (28, 1), (34, 1)), WHOLE, "outputs"),
)


@dataclass(frozen=True)
class Matches:
    """Per output the closest training image under one search.

    distance: sqrt(1 - correlation) of the two windows' greys, 0 … sqrt(2); infinite where there is
    nothing to compare. box: of the window in the output; its_box: in the training image.
    """

    nearest: Int[Tensor, " s"]
    distance: Float[Tensor, " s"]
    mirrored: Bool[Tensor, " s"]
    box: Boxes
    its_box: Boxes


def search(
    outputs: Images,
    train: Images,
    how: Search,
    apart: Apart = lambda output: [],
    advance: Advance = lambda done: None,
) -> dict[str, Matches]:
    """The closest training image to each output under one search, by the search's name.

    Where parts are searched there is a second result, `shift`: the whole overlap that the position
    of the two parts implies is compared, which says far more than a part.
    """
    theirs = _greys(train)
    rows = max(1, BYTES // (4 * COARSE**2 * len(_boxes(how.outputs))))
    found: dict[str, list[Matches]] = {}
    for first in range(0, len(outputs), rows):
        ours = _greys(outputs[first : first + rows])
        banned = [(k, t) for k in range(len(ours)) for t in apart(first + k)]
        best, where = _candidates(ours, theirs, how, banned)
        for name, one in _aligned(ours, theirs, best, where, how).items():
            found.setdefault(name, []).append(one)
        advance(len(ours))
    return {name: joined(parts) for name, parts in found.items()}


def _candidates(
    ours: Float[Tensor, "s g g"],
    theirs: Float[Tensor, "n g g"],
    how: Search,
    banned: list[tuple[int, int]],
) -> tuple[Float[Tensor, "s b"], Int[Tensor, "s b"]]:
    """Of each output the best correlations, and with whom: 2 t, and 2 t + 1 mirrored."""
    windows = parities(_windows(ours, how.outputs))
    best = torch.full((len(ours), BEST), -torch.inf)
    where = torch.zeros(len(ours), BEST, dtype=torch.long)
    count = max(1, BYTES // (4 * max(2 * len(ours), COARSE**2 * len(_boxes(how.train)))))
    for start in range(0, len(theirs), count):
        part = theirs[start : start + count]
        score = _scores(windows, parities(_windows(part, how.train)))
        for k, t in banned:
            if start <= t < start + len(part):
                score[k, 2 * (t - start) : 2 * (t - start) + 2] = -torch.inf
        # The best so far and the new ones; of equals the earlier.
        new = torch.arange(2 * start, 2 * start + score.shape[1]).expand_as(score)
        values, order = torch.cat([best, score], 1).sort(dim=1, descending=True, stable=True)
        best, where = values[:, :BEST], torch.cat([where, new], 1).gather(1, order[:, :BEST])
    return best, where


def _greys(images: Images) -> Float[Tensor, "k g g"]:
    """Greys in [0, 1], at most 64 pixels a side."""
    weights = torch.tensor(GREY)[:, None, None] / 255
    side = min(SOURCE, images.shape[-1])
    parts = ((part.float() * weights).sum(1) for part in images.split(256))
    return torch.cat([resized(part, side) for part in parts])


def resized(grey: Float[Tensor, "k g g"], side: int) -> Float[Tensor, "k side side"]:
    if grey.shape[-1] == side:
        return grey
    fine = grey[:, None]
    return interpolate(fine, (side, side), mode="bilinear", antialias=True)[:, 0]


def _windows(
    grey: Float[Tensor, "k g g"], sizes: tuple[tuple[int, int], ...]
) -> Float[Tensor, "k w d"]:
    found = []
    for side, stride in sizes:
        cut = resized(grey, side).unfold(1, COARSE, stride).unfold(2, COARSE, stride)
        found.append(cut.flatten(3).flatten(1, 2))
    return normal(torch.cat(found, dim=1))


def _boxes(sizes: tuple[tuple[int, int], ...]) -> Boxes:
    """Of each window of `_windows`, in its order."""
    return torch.tensor([
        (x / side, y / side, COARSE / side, COARSE / side)
        for side, stride in sizes
        for y in range(0, side - COARSE + 1, stride)
        for x in range(0, side - COARSE + 1, stride)
    ])  # fmt: skip


def normal(windows: Float[Tensor, "*k d"]) -> Float[Tensor, "*k d"]:
    """Mean 0 and length 1; 0 where a window shows nothing."""
    centred = windows - windows.mean(-1, keepdim=True)
    length = centred.norm(dim=-1, keepdim=True)
    shows = length >= FLAT * windows.shape[-1] ** 0.5
    return torch.where(shows, centred / length.clamp(min=1e-12), 0.0)


def parities(windows: Float[Tensor, "k w d"]) -> Float[Tensor, "2 k w h"]:
    """Of each window the part that a mirror leaves as it is and the part that it makes negative,
    the left half of each: u v = even even + odd odd, and the difference for v mirrored."""
    left, right = windows.unflatten(2, (COARSE, COARSE)).chunk(2, dim=3)
    right = right.flip(3)
    return (torch.stack([left + right, left - right]) / 2**0.5).flatten(3)


def _scores(
    ours: Float[Tensor, "2 s a h"], theirs: Float[Tensor, "2 n b h"]
) -> Float[Tensor, "s 2*n"]:
    """Correlation of the best pair of windows, with each training image upright and mirrored. A
    mirrored image's windows are its own, mirrored: they lie symmetrically in it."""
    count, of_each = theirs.shape[1:3]
    score = torch.empty(ours.shape[1], count, 2)
    columns = max(1, COLUMNS // of_each)
    rows = max(1, BLOCK // (4 * ours.shape[2] * of_each * min(columns, count)))
    for some, parts in zip(score.split(rows), ours.split(rows, 1), strict=True):
        even, odd = parts.flatten(1, 2)
        for block, others in zip(some.split(columns, 1), theirs.split(columns, 1), strict=True):
            evens, odds = others.flatten(1, 2)
            same, turned = even @ evens.T, odd @ odds.T
            for side, every in enumerate((same + turned, same.sub_(turned))):
                every = every.view(len(some), ours.shape[2], block.shape[1], of_each)
                block[..., side] = every.amax(3).amax(1)
    return score.flatten(1)


def _aligned(
    ours: Float[Tensor, "s g g"],
    theirs: Float[Tensor, "n g g"],
    best: Float[Tensor, "s b"],
    where: Int[Tensor, "s b"],
    how: Search,
) -> dict[str, Matches]:
    """The pairs that came closest, aligned; of each output's the best."""
    boxes, its_boxes = _boxes(how.outputs), _boxes(how.train)
    found: dict[str, list[Matches]] = {}
    for rows in torch.arange(len(ours)).split(64):
        place = where[rows].flatten()
        mirrored = place % 2 == 1
        a, b = ours[rows.repeat_interleave(BEST)], theirs[place // 2]
        b = torch.where(mirrored[:, None, None], b.flip(2), b)
        windows = _windows(a, how.outputs), _windows(b, how.train)
        top = torch.einsum("kad,kbd->kab", *windows).flatten(1).argmax(1)
        box, its = boxes[top // len(its_boxes)], its_boxes[top % len(its_boxes)]
        if how.moves == "train":
            its = _moved(_patch(a, box), b, its)
        elif how.moves == "outputs":
            box = _moved(_patch(b, its), a, box)
        pairs = {how.name: (box, its)}
        if how.name == "part":
            pairs["shift"] = _overlap(box, its)
        for name, (box, its) in pairs.items():
            value = (_patch(a, box) * _patch(b, its)).sum(1)
            distance = (1 - value).clamp(min=0).sqrt()
            # Nothing to compare: a window that shows nothing, or fewer images than candidates.
            void = (value == 0) | ~best[rows].flatten().isfinite()
            if name == "shift":
                void |= (box[:, 2:].prod(1) < LEAST) | ((its[:, 2] / box[:, 2] - 1).abs() > SCALE)
            distance = distance.masked_fill(void, torch.inf)
            upright = torch.cat([1 - its[:, :1] - its[:, 2:3], its[:, 1:]], 1)
            its = torch.where(mirrored[:, None], upright, its)
            # A picture that is its own mirror image counts as upright.
            preferred = distance + UPRIGHT * mirrored
            winner = preferred.view(-1, BEST).argmin(1) + torch.arange(len(rows)) * BEST
            columns = (place // 2, distance, mirrored, box, its)
            found.setdefault(name, []).append(Matches(*(column[winner] for column in columns)))
    return {name: joined(parts) for name, parts in found.items()}


def _overlap(box: Boxes, its: Boxes) -> tuple[Boxes, Boxes]:
    """The two rectangles that lie on each other once the two windows do."""
    ratio = its[:, 2:] / box[:, 2:]
    low = (box[:, :2] - its[:, :2] / ratio).clamp(min=0)
    high = (box[:, :2] + (1 - its[:, :2]) / ratio).clamp(max=1)
    corner = its[:, :2] + (low - box[:, :2]) * ratio
    return torch.cat([low, high - low], 1), torch.cat([corner, (high - low) * ratio], 1)


def _patch(grey: Float[Tensor, "k g g"], boxes: Boxes) -> Float[Tensor, "k d"]:
    """The windows at 16 x 16, each pixel the mean of 2 x 2 samples; normalised."""
    points = (torch.arange(2 * FINE) + 0.5) / (2 * FINE)
    x = 2 * (boxes[:, :1] + boxes[:, 2:3] * points) - 1
    y = 2 * (boxes[:, 1:2] + boxes[:, 3:] * points) - 1
    grid = torch.stack(
        [x[:, None].expand(-1, 2 * FINE, -1), y[:, :, None].expand(-1, -1, 2 * FINE)], dim=-1
    )
    cut = grid_sample(grey[:, None], grid, padding_mode="border", align_corners=False)
    return normal(avg_pool2d(cut, 2).flatten(1))


def _moved(fixed: Float[Tensor, "k d"], grey: Float[Tensor, "k g g"], boxes: Boxes) -> Boxes:
    """The square near the given one whose window correlates best with the fixed one."""
    value = (fixed * _patch(grey, boxes)).sum(1)
    ways = torch.cartesian_prod(*[torch.tensor([-1.0, 0.0, 1.0])] * 3)
    for step in (STEPS[0], *STEPS):
        for way in ways:
            side = (boxes[:, 2:] * (1 + step * way[2])).clamp(max=1)
            # About its own centre, and never beyond the image.
            corner = boxes[:, :2] + (boxes[:, 2:] - side) / 2 + step * side * way[:2]
            tried = torch.cat([torch.minimum(corner.clamp(min=0), 1 - side), side], 1)
            score = (fixed * _patch(grey, tried)).sum(1)
            better = score > value
            value = torch.where(better, score, value)
            boxes = torch.where(better[:, None], tried, boxes)
    return boxes
