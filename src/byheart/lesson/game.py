"""The game "is this the same picture?": its pairs, its votes, and the tolerance they come to."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from byheart.data.avatars import family
from byheart.lesson.html import images
from byheart.lesson.queue import Recent
from byheart.measure.controls import ALTERATIONS
from byheart.measure.copying import TOLERANCES
from byheart.show.runs import Finished, Outputs, read_outputs

WIDEST = TOLERANCES[-1]  # of the reference distance
OUTPUTS = (0.15, 0.3, 0.45, 0.6, 0.9)  # distances near which outputs are looked for
OTHERS, PARTS_OTHER = 2, 2  # pairs of two training images, and of avatars that differ in one part
FEWEST_VOTES = 6
REMEMBERED = 300  # browsers whose votes are
EACH = 16  # the newest votes of each: as many as there are pairs

Shown = tuple[Finished, Outputs]


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures of the game, rho apart. how: what the left one is, told after the vote."""

    left: UInt8[np.ndarray, "s s 3"]
    right: UInt8[np.ndarray, "s s 3"]
    rho: float
    how: str


class Vote(NamedTuple):
    """How far apart a pair was, at most `WIDEST`, and whether it was called the same picture."""

    rho: float
    same: bool


class Votes:
    """The votes of a class: of each browser the newest, so that judging again and again there does
    not outvote the others."""

    def __init__(self) -> None:
        self.counted = 0  # all that ever came: what changes with each of them
        self._votes: Recent[Vote] = Recent(REMEMBERED, EACH)
        self._lock = threading.Lock()

    def add(self, who: str, vote: Vote) -> None:
        with self._lock:
            self.counted += 1
            self._votes.add(who, vote)

    @property
    def all(self) -> list[Vote]:
        with self._lock:
            return self._votes.all()

    @property
    def voters(self) -> int:
        return len(self._votes)


def threshold(votes: Sequence[Vote]) -> float | None:
    """The distance that parts "same" from "different" with the fewest exceptions.

    The middle one where several do as well. None: fewer than six votes, or all of one kind.
    """
    if len(votes) < FEWEST_VOTES or len({vote.same for vote in votes}) == 1:
        return None
    ends = sorted({0.0, WIDEST, *(vote.rho for vote in votes)})
    cuts = [(a + b) / 2 for a, b in pairwise(ends)]
    wrong = [sum((rho <= cut) != same for rho, same in votes) for cut in cuts]
    best = [cut for cut, errors in zip(cuts, wrong, strict=True) if errors == min(wrong)]
    return best[len(best) // 2]


def pairs_of(runs: Sequence[Finished]) -> tuple[Pair, ...]:
    """The game's pairs, in an order that is the same for everyone.

    Training images beside what becomes of pictures as people pass them on, outputs of the networks
    beside their nearest training image, two different training images, and avatars that differ in
    one part. Empty where the runs have no pictures.
    """
    order = random.Random(0)
    there = [*_pictures(runs)]
    made = [*_by_alteration(there, order), *_by_network(there), *_by_part(runs, order)]
    order.shuffle(made)
    return tuple(made)


def _apart(left: np.ndarray, right: np.ndarray, run: Finished) -> float:
    """In the run's reference distance."""
    rmse = np.sqrt((((left.astype(float) - right) / 255) ** 2).mean())
    return float(rmse) / float(run.measures["reference"]["distance"])


def _pictures(runs: Sequence[Finished]) -> Iterator[Shown]:
    for run in runs:
        with suppress(OSError, ValueError, KeyError):
            yield run, read_outputs(run.path, run.headline)


def _by_alteration(there: Sequence[Shown], order: random.Random) -> Iterator[Pair]:
    every = [(run, image) for run, made in there for image in made.train]
    if not every:
        return
    for how, change in ALTERATIONS.items():
        run, image = order.choice(every)
        changed = change(torch.from_numpy(image).permute(2, 0, 1)[None], image.shape[0])
        left = changed[0].permute(1, 2, 0).numpy()
        yield Pair(left, image, _apart(left, image, run), f"The right one, {how}")
    distinct = [*{image.tobytes(): (run, image) for run, image in every}.values()]
    for _ in range(OTHERS if len(distinct) > 1 else 0):
        (run, left), (_, right) = order.sample(distinct, 2)
        if left.shape == right.shape:
            yield Pair(left, right, _apart(left, right, run), "Another training image")


def _by_network(there: Sequence[Shown]) -> Iterator[Pair]:
    """Outputs under unseen prompts at various distances; copies byte for byte are left out."""
    found = []
    for run, made in there:
        unseen = [k for k, row in enumerate(made.rows) if row["condition"] == "unseen"][:64]
        how = f"What a network made that had seen {images(run.n)}"
        found += [
            Pair(made.pixels[k], made.nearest([k])[0], rho, how)
            for k in unseen
            if (rho := float(made.rows[k]["rho"])) > 0
        ]
    for rho in OUTPUTS[: len(found)]:
        nearest = min(found, key=lambda pair: abs(pair.rho - rho))
        found.remove(nearest)
        yield nearest


def _by_part(runs: Sequence[Finished], order: random.Random) -> Iterator[Pair]:
    """An avatar with another mouth, or whatever its style has."""
    of = next((run for run in runs if run.config.get("images.source") == "avatars"), None)
    if of is None:
        return
    style = family(str(of.config["images.style"]))
    part = next((name for name in style.choices if "mouth" in name), next(iter(style.choices)))
    for k in range(PARTS_OTHER):
        right, parts = style.draw(f"game-{k}", int(of.config["images.size"]))
        other = order.choice([one for one in style.choices[part] if one != parts.get(part)])
        left = style.draw(f"game-{k}", right.shape[-1], parts | {part: other})[0]
        pair = [one.permute(1, 2, 0).numpy() for one in (left, right)]
        yield Pair(pair[0], pair[1], _apart(pair[0], pair[1], of), f"The right one, another {part}")
