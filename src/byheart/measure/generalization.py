"""Whether what is not copied is new: outputs beside pictures that nobody was shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from scipy.stats import rankdata
from torch import Tensor

from byheart.measure.denoising_gap import Level
from byheart.measure.distance import nearest, rmse_matrix

NEIGHBOURS = 5  # as Naeem et al. 2020
AS_WELL, BY_HEART = 1.5, 5.0  # held-out / training error up to which, and from which on


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
    """The denoising gap at the noise level where knowing the training set helps most."""

    verdict: str  # memorized, between, generalizing, not yet learned
    noise_level: float
    train: float
    held_out: float
    ideal_held_out: float

    @property
    def sentence(self) -> str:
        times = f"{self.held_out / self.train:.1f} times" if self.train else "infinitely"
        return {
            "memorized": f"it restores pictures it was trained on {times} better than new ones: "
            "it knows them by heart",
            "between": f"it restores pictures it was trained on {times} better than new ones: "
            "it has begun to know them by heart",
            "generalizing": "it restores new pictures as well as those it was trained on: "
            "it has learned what such pictures are, not which they were",
            "not yet learned": "it restores even the pictures it was trained on worse than their "
            "closest neighbours would: it has not learned yet",
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
    ranks = rankdata(torch.cat([outputs, fresh]).numpy())
    _, ties = torch.cat([outputs, fresh]).unique(return_counts=True)
    above = float(ranks[:s].sum()) - s * (s + 1) / 2  # pairs in which the output is farther away
    n = s + h
    variance = s * h / 12 * (n + 1 - float((ties.double() ** 3 - ties).sum()) / (n * (n - 1)))
    middle = float(outputs.quantile(0.5)), float(fresh.quantile(0.5))
    return Nearness(
        *middle,
        ratio=middle[0] / middle[1] if middle[1] else None,
        z=(above - s * h / 2) / math.sqrt(variance) if variance > 0 else None,
        counts=(s, h),
    )


def manifold(
    outputs: UInt8[Tensor, "s c h w"], real: UInt8[Tensor, "r c h w"], k: int = NEIGHBOURS
) -> Manifold | None:
    """Precision and recall of Kynkäänniemi et al. 2019, density and coverage of Naeem et al. 2020,
    in RMSE. None with at most k real pictures or no outputs; no recall with at most k outputs."""
    if len(real) <= k or len(outputs) == 0:
        return None
    apart = rmse_matrix(outputs, real)
    inside = apart <= _radii(real, k)[None]
    recall = None
    if len(outputs) > k:
        recall = _share((apart <= _radii(outputs, k)[:, None]).any(0))
    return Manifold(
        precision=_share(inside.any(1)),
        recall=recall,
        density=float(inside.double().sum(1).mean()) / k,
        coverage=_share(inside.any(0)),
        neighbours=k,
        counts=(len(outputs), len(real)),
    )


def _radii(images: UInt8[Tensor, "n c h w"], k: int) -> Float[Tensor, " n"]:
    """Distance of each to its k-th nearest other."""
    apart = rmse_matrix(images, images)
    apart.fill_diagonal_(torch.inf)
    return apart.sort(dim=1).values[:, k - 1]


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())


def gap_verdict(levels: Sequence[Level]) -> Gap | None:
    """not yet learned: even on training pictures its error is above what the ideal memorizer, who
    knows nothing but these, makes of held-out ones. generalizing: below that, and on held-out
    pictures at most 1.5 times that on training ones. memorized: at least 5 times. None where no
    level has all numbers.

    On the runs under outputs/showcase those whose outputs are copies have 10 times and more (and
    at n = 1 any number), those that have begun to copy 4, and 2 to 3 those that copy nothing yet.
    """
    known = [
        (level.ideal_held_out - level.ideal_train, level)
        for level in levels
        if level.train is not None and level.held_out is not None
        and level.ideal_train is not None and level.ideal_held_out is not None
    ]  # fmt: skip
    if not known:
        return None
    _, level = max(known, key=lambda pair: pair[0])
    train, held_out, ideal = level.train, level.held_out, level.ideal_held_out
    assert train is not None and held_out is not None and ideal is not None
    if train > ideal:
        verdict = "not yet learned"
    elif held_out <= AS_WELL * train:
        verdict = "generalizing"
    else:
        verdict = "memorized" if held_out >= BY_HEART * train else "between"
    return Gap(verdict, level.noise_level, train, held_out, ideal)


def generalization(
    outputs: UInt8[Tensor, "s c h w"],
    train: UInt8[Tensor, "n c h w"],
    held_out: UInt8[Tensor, "h c h w"],
    levels: Sequence[Level],
) -> dict[str, Any]:
    """The entry of measures.json; null where undefined.

    outputs: one for each initial noise. of_real: what as many real pictures get, every other
    held-out one against the rest, since coverage and recall depend on how many there are.
    agreement: of two halves, which stands in curve.csv.
    """
    near = None
    if len(outputs) and len(held_out):
        near = nearness(nearest(outputs, train).rmse, nearest(held_out, train).rmse)
    gap = gap_verdict(levels)
    parts = {
        "nearest": near,
        "manifold": manifold(outputs, held_out),
        "of_real": manifold(held_out[0::2][: len(outputs)], held_out[1::2]),
    }
    found: dict[str, Any] = {name: part and asdict(part) for name, part in parts.items()}
    found["gap"] = gap and {**asdict(gap), "sentence": gap.sentence}
    return found | {"agreement": None}
