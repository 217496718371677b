"""The game "is this the same picture?": its pairs, its votes, and the tolerance they come to."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from jaxtyping import UInt8

from byheart.lesson.queue import Recent
from byheart.measure.copying import TOLERANCES
from byheart.show.runs import Finished, read_outputs

WIDEST = TOLERANCES[-1]  # of the reference distance
DISTANCES = tuple(k / 10 for k in range(1, 16))  # of the game's pairs; the least is told at once
PAIRS = len(DISTANCES)
FEWEST_VOTES = 6
REMEMBERED = 300  # open pages whose votes are
Vote = tuple[float, bool]  # distance of a pair, whether it was called the same picture


@dataclass(frozen=True)
class Pair:
    """Two pictures of the game, rho apart."""

    left: UInt8[np.ndarray, "s s 3"]
    right: UInt8[np.ndarray, "s s 3"]
    rho: float


class Votes:
    """The votes of a class: of each open page those of the last time through the pairs, so that
    judging again and again there does not outvote the others. A page that is reloaded is another.
    """

    def __init__(self) -> None:
        self.counted = 0  # all that ever came: what changes with each of them
        self._votes: Recent[Vote] = Recent(REMEMBERED, PAIRS)
        self._lock = threading.Lock()

    def add(self, who: str, vote: Vote) -> None:
        with self._lock:
            self.counted += 1
            self._votes.add(who, vote)

    @property
    def all(self) -> list[Vote]:
        with self._lock:
            return self._votes.all()


def threshold(votes: Sequence[Vote]) -> float | None:
    """The distance that parts "same" from "different" with the fewest exceptions.

    The middle one where several do as well. None: fewer than six votes, or all of one kind.
    """
    if len(votes) < FEWEST_VOTES or len({same for _, same in votes}) == 1:
        return None
    ends = sorted({0.0, WIDEST, *(rho for rho, _ in votes)})
    cuts = [(a + b) / 2 for a, b in pairwise(ends)]
    wrong = [sum((rho <= cut) != same for rho, same in votes) for cut in cuts]
    best = [cut for cut, errors in zip(cuts, wrong, strict=True) if errors == min(wrong)]
    return best[len(best) // 2]


def pairs_of(runs: Sequence[Finished]) -> tuple[Pair, ...]:
    """The game's pairs, in an order that is the same for everyone: all distances, well mixed.

    Where no output lies at a distance, one that lies further away is faded towards its nearest
    training image until it does: nothing else about the pair changes. Where none does (a network
    that knows one picture makes only that), a training image's mirror image is faded towards it.
    Empty where the runs have no pictures.
    """
    far, mirrored = _far_pairs(runs)
    made, order = [], random.Random(0)
    for rho in DISTANCES:
        near = [pair for pair in far if abs(pair.rho - rho) < 0.03]
        beyond = [pair for pair in far if pair.rho > rho]
        beyond = beyond or [pair for pair in mirrored if pair.rho > rho]
        if near:
            made.append(order.choice(near))
        elif beyond:
            made.append(faded(order.choice(beyond), rho))
    order.shuffle(made)
    return tuple(made)


def _far_pairs(runs: Sequence[Finished]) -> tuple[list[Pair], list[Pair]]:
    """Outputs under unseen prompts beside their nearest training image, copies byte for byte left
    out; and of each run the training image that is furthest from its mirror image, beside that."""
    far, mirrored = [], []
    for run in runs:
        try:
            made = read_outputs(run.path, run.headline)
        except (OSError, ValueError, KeyError):
            continue
        chosen = [k for k, row in enumerate(made.rows) if row["condition"] == "unseen"]
        for k in chosen[:64]:
            if (rho := float(made.rows[k]["rho"])) > 0:
                far.append(Pair(made.pixels[k], made.nearest([k])[0], rho))
        flipped = made.train[:, :, ::-1]
        rmse = np.sqrt((((flipped.astype(float) - made.train) / 255) ** 2).mean(axis=(1, 2, 3)))
        k = int(rmse.argmax())
        if rmse[k] > 0:
            apart = float(rmse[k]) / run.measures["reference"]["distance"]
            mirrored.append(Pair(flipped[k], made.train[k], apart))
    return far, mirrored


def faded(pair: Pair, rho: float) -> Pair:
    """The left picture moved towards the right one, to `rho` of it but for rounding."""
    share = rho / pair.rho
    mixed = pair.right + share * (pair.left.astype(float) - pair.right)
    return Pair(mixed.round().clip(0, 255).astype(np.uint8), pair.right, rho)
