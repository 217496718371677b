"""Whether what is not copied is new: outputs beside pictures that nobody was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from statistics import median
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from byheart.measure.denoising_gap import Level
from byheart.measure.distance import nearest, squared_other, squared_rows
from byheart.measure.trends import BROKEN

NEIGHBOURS = 5  # as Naeem et al. 2020
AS_WELL = 1.5  # held-out / training error up to which new pictures are restored as well as old ones
BY_HEART = 9.0  # and from which on old ones are known: a third, as for copies, of the root
PLATEAU = 0.9  # noise levels at which the ideal's gap is at least this share of its largest


@dataclass(frozen=True)
class Nearness:
    """Distances to the training set: of outputs, and of pictures the model never saw."""

    outputs: float  # median
    fresh: float  # median
    ratio: float | None  # of the two; 1: new pictures are no farther away
    z: float | None  # 0: outputs lie no nearer than new pictures; -3 and below: they copy
    counts: tuple[int, int]


@dataclass(frozen=True)
class Manifold:
    """Outputs against held-out pictures, by balls that reach to the k-th nearest neighbour."""

    precision: float  # outputs that lie in a held-out picture's ball
    recall: float | None  # held-out pictures that lie in an output's ball
    density: float  # held-out balls that an output lies in / k; 1 for real pictures on average
    coverage: float  # held-out pictures with an output in their ball
    neighbours: int
    counts: tuple[int, int]  # outputs, held-out pictures


@dataclass(frozen=True)
class Gap:
    """The denoising gap where knowing the training set helps most; see `gap_verdict`."""

    verdict: str  # memorized, between, generalizing, not yet learned
    noise_level: float
    train: float
    held_out: float
    ideal_train: float
    ideal_held_out: float
    variance: float | None  # of the pictures: the error of who knows only their mean

    @property
    def sentence(self) -> str:
        times = f"{self.held_out / self.train:.1f} times" if self.train else "infinitely"
        unable = "it paints broken pictures"
        if self.train > self.ideal_held_out:
            unable = "it restores not even the pictures it was trained on"
        return {
            "memorized": f"it restores pictures it was trained on {times} better than new ones: "
            "it knows them by heart",
            "between": "it restores pictures it was trained on better than new ones, "
            "but does not know them by heart: it is in between",
            "generalizing": "it restores new pictures as well as those it was trained on: "
            "it has learned what such pictures are, not which they were",
            "not yet learned": f"it has not learned yet: {unable}",
        }[self.verdict]


def nearness(outputs: Float[Tensor, " s"], fresh: Float[Tensor, " h"]) -> Nearness | None:
    """outputs, fresh: distances to the closest training image. None where either is empty.

    z: the data-copying test of Meehan, Chaudhuri and Dasgupta 2020, C_T over one cell: the
    Mann-Whitney statistic in standard deviations, ties counted (negative: outputs are nearer). It
    takes the outputs for independent: give one for each initial noise. None where all are alike.
    """
    s, h = len(outputs), len(fresh)
    if s == 0 or h == 0:
        return None
    both = torch.cat([outputs, fresh])
    values, place, ties = both.unique(return_inverse=True, return_counts=True)
    ranks = ties.cumsum(0).double() - (ties - 1) / 2  # equal values share their middle rank
    above = float(ranks[place[:s]].sum()) - s * (s + 1) / 2  # pairs with the output farther away
    n = s + h
    variance = s * h / 12 * (n + 1 - float((ties.double() ** 3 - ties).sum()) / (n * (n - 1)))
    middle = median(outputs.tolist()), median(fresh.tolist())
    return Nearness(
        *middle,
        ratio=middle[0] / middle[1] if middle[1] else None,
        z=(above - s * h / 2) / math.sqrt(variance) if len(values) > 1 else None,
        counts=(s, h),
    )


def manifold(
    outputs: UInt8[Tensor, "s c h w"], real: UInt8[Tensor, "r c h w"], k: int = NEIGHBOURS
) -> Manifold | None:
    """Precision and recall of Kynkäänniemi et al. 2019, density and coverage of Naeem et al. 2020,
    in RMSE. None with at most k real pictures or no outputs; no recall with at most k outputs.

    A ball holds its border. Squared distances are whole numbers here, so that is exact.
    """
    s, r = len(outputs), len(real)
    if r <= k or s == 0:
        return None
    reach, own = squared_other(real, k), squared_other(outputs, k) if s > k else None
    inside, precise = 0, 0
    covered, recalled = torch.zeros(r, dtype=torch.bool), torch.zeros(r, dtype=torch.bool)
    for start, apart in squared_rows(outputs, real):
        hits = apart <= reach[None]
        inside += int(hits.sum())
        precise += int(hits.any(1).sum())
        covered |= hits.any(0)
        if own is not None:
            recalled |= (apart <= own[start : start + len(apart), None]).any(0)
    return Manifold(
        precision=precise / s,
        recall=None if own is None else int(recalled.sum()) / r,
        density=inside / (k * s),
        coverage=int(covered.sum()) / r,
        neighbours=k,
        counts=(s, r),
    )


def gap_verdict(
    levels: Sequence[Level], broken: float, variance: float | None = None
) -> Gap | None:
    """memorized: on held-out pictures its error is at least 9 times that on training ones.
    not yet learned: not so, and half of its outputs or more are broken, or even on training
    pictures its error is above what the ideal memorizer, who knows nothing but these, makes of
    held-out ones. generalizing: neither, and on held-out pictures at most 1.5 times that on
    training ones and no more than the ideal memorizer's. between: the rest.

    Said where the ideal memorizer's error grows most from training to held-out pictures: usually a
    plateau of many levels, and then its middle. Where there is hardly any noise a network that
    hands back what it is given is nearly right about all pictures, learned or not.

    broken: share of the outputs. By the errors alone a network of four steps that paints grey would
    seem to generalize: it has the same on all pictures, below the ideal memorizer's of ten. No
    bound on the error itself tells the two apart: what is left when half of a picture is noise
    depends on the family (0.04 to 0.1 of the variance for avatars, 0.14 to 0.3 for photographs).
    variance: mean squared difference of the pictures from their mean, in latent units, to read the
    errors by; it decides nothing.

    Known runs stand in tests/measure/test_generalization.py: held-out / training error is 10 and
    more where the outputs are copies, at most 8 where they are broken, and 1.0 to 1.1 where new.

    None where no level has all numbers and tells the memorizer's two errors apart.
    """
    rows = (astuple(level)[1:] for level in levels)
    known = sorted(row for row in rows if None not in row)
    largest = max((row[4] - row[3] for row in known), default=0.0)
    if largest <= 0:
        return None
    plateau = [row for row in known if row[4] - row[3] >= PLATEAU * largest]
    noise_level, train, held_out, ideal_train, ideal = plateau[(len(plateau) - 1) // 2]
    as_well = held_out <= AS_WELL * train and held_out <= ideal
    if train <= ideal and held_out >= BY_HEART * train:
        verdict = "memorized"
    elif train > ideal or broken >= BROKEN:
        verdict = "not yet learned"
    else:
        verdict = "generalizing" if as_well else "between"
    return Gap(verdict, noise_level, train, held_out, ideal_train, ideal, variance)


def generalization(
    outputs: UInt8[Tensor, "s c h w"],
    train: UInt8[Tensor, "n c h w"],
    held_out: UInt8[Tensor, "r c h w"],
    gap: Gap | None = None,
) -> dict[str, Any]:
    """The entry of measures.json; null where undefined.

    outputs: one for each initial noise. gap: where it was measured. agreement: of two halves, which
    stands in curve.csv.

    manifold and of_real: every other held-out picture is what both are held against, the outputs
    and as many of the others as there are outputs. All numbers but precision depend on how many
    stand on either side, so nothing else would be comparable.
    """
    near = None
    if len(outputs) and len(train) and len(held_out):
        near = nearness(nearest(outputs, train).rmse, nearest(held_out, train).rmse)
    playing, against = held_out[0::2][: len(outputs)], held_out[1::2]
    parts = {
        "nearest": near,
        "manifold": manifold(outputs, against),
        "of_real": manifold(playing, against),
    }
    found: dict[str, Any] = {name: part and asdict(part) for name, part in parts.items()}
    found["gap"] = gap and {**asdict(gap), "sentence": gap.sentence}
    return found | {"agreement": None}
