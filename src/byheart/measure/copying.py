"""What counts as a copy: a picture near a training image by a reference that no training set can
bend, or far nearer to it than to any other real picture; and how the share of copies grows as
either threshold is relaxed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from byheart.config import Rule
from byheart.measure.alterations import jpeg
from byheart.measure.distance import nearest_other, norms, rmse_matrix, root, squared_rows, squares
from byheart.measure.intervals import Rate, wilson
from byheart.runtime.processes import joined

# What configs/overfit.yaml says too; an audit, which has no settings, is judged by it.
# 1/3: after Gu et al. 2023, who ask d1 / d2 < 1/3.
STANDARD = Rule(tolerance=1 / 3, margin=0.8, reach=0.5, tail=0.01)

Ranges = dict[str, tuple[float, float]]  # by trait


@dataclass(frozen=True)
class Reference:
    """Held-out images, what they say of their source, and the rule that outputs are judged by."""

    images: UInt8[Tensor, "h c s s"]
    distance: float  # median distance to the nearest other: how far apart neighbours are
    spread: float  # RMS distance of two different images
    looks: tuple[Ranges, ...]  # of every trait: of real pictures, and of their alterations
    places: Ranges  # how far from each other they lie
    mean: Float[Tensor, "c s s"]  # of real pictures, in steps of 255
    source: str  # where they come from, as it stands in the report
    rule: Rule = field(default_factory=lambda: STANDARD)

    @property
    def ranges(self) -> Ranges:
        """Of every trait, where real pictures or their barely visible alterations lie."""
        ends = {
            name: [look[name] for look in self.looks]
            for name in (self.looks[0] if self.looks else ())
        }
        return {n: (min(e)[0], max(high for _, high in e)) for n, e in ends.items()} | self.places

    @property
    def near(self) -> float:
        """RMSE up to which two pictures are the same: `rule.tolerance` of the distance."""
        return self.rule.tolerance * self.distance


@dataclass(frozen=True)
class Verdicts:
    """Per output: the closest training image and whether this is a copy of it."""

    nearest: Int[Tensor, " s"]
    rmse: Float[Tensor, " s"]  # d_T: to the closest training image, in [0, 1]
    held_out_rmse: Float[Tensor, " s"]  # d_H: to the closest held-out image
    rho: Float[Tensor, " s"]  # d_T / reference distance
    margin: Float[Tensor, " s"]  # see `judge`; NaN where there is no other picture
    exact: Bool[Tensor, " s"]  # equal to a training image in every 8-bit value
    sense: Int[Tensor, " s"]  # place in SENSES

    @property
    def copied(self) -> Bool[Tensor, " s"]:
        return self.sense > 0


SENSES = ("no copy", "close", "distinct", "resaved")  # what a copy is one by; the first that holds
TILES = 4  # a side; a difference is even where none of the 16 has a mean square of more than
EVEN = 4  # times the whole difference's: noise has at most 2, another mouth 5 and more
QUALITIES = (75, 50)  # of the JPEG files that a picture may have come through
CANDIDATES = 8  # closest pictures that are compared as JPEG leaves them


def reference_distance(held_out: UInt8[Tensor, "h c s s"]) -> float:
    """Median distance from a held-out image to its nearest other: how far apart neighbours are.

    One number per source and resolution, the same for every training set. ValueError: fewer than
    two images, or images that are all alike.
    """
    distance = float(nearest_other(held_out).quantile(0.5))
    if distance == 0:
        raise ValueError("the held-out images are equal in pairs: there is no reference distance")
    return distance


def judge(
    outputs: UInt8[Tensor, "s c h w"],
    train: UInt8[Tensor, "n c h w"],
    reference: Reference,
    look: Callable[[int, Float[Tensor, "k n"]], object] = lambda start, squared: None,
    own: Int[Tensor, " s"] | None = None,
) -> Verdicts:
    """An output s is a copy of its closest training image i in one of three senses:

    close: d_T <= reference distance / 3, and no held-out image is closer.
    distinct: margin >= 0.8, d_T <= half the spread, and the difference is even. With a the closest
        to s of all *other* pictures, training and held-out, and a_i the closest of them to i,
        margin = (d(s, a)² - d(s, i)²) / d(i, a_i)²: the log-likelihood ratio of "i plus noise"
        against "another picture plus noise", in units of what parts the two. 1: at i but for noise
        of any size; 0: half-way; negative: nearer to something else. Even: no tile of 4 x 4 differs
        by more than twice the RMSE (after the patch-max distance of Carlini et al. 2023), for where
        all the difference lies in one place it is no noise but another mouth or another hat.
    resaved: close or distinct once all pictures are as JPEG leaves them.

    Training images closer to i than reference distance / 3 are i once more, and no alternatives to
    it. Defined for any n >= 1. Without held-out images d_H is infinite: nothing unseen is closer.
    look: is shown the squared distances of some outputs, from which on, to all training images.
    own: where the outputs are held-out images themselves their places, to leave them out there.
    """
    n, everything = len(train), torch.cat([train, reference.images])
    same = (255 * reference.near) ** 2 * outputs.shape[1:].numel()
    parts: list[Verdicts] = []
    of_all = norms(everything)
    for start, rows in squared_rows(outputs, everything, of_all):
        look(start, rows[:, :n])
        part = outputs[start : start + len(rows)]
        if own is not None:
            rows[torch.arange(len(rows)), n + own[start : start + len(rows)]] = torch.inf
        closest = rows[:, :n].min(1).values
        index = (rows[:, :n] == closest[:, None]).int().argmax(1)  # the first of equals
        unseen = torch.full_like(closest, torch.inf)
        if n < rows.shape[1]:
            unseen = rows[:, n:].min(1).values
        which, back = index.unique(return_inverse=True)
        apart = squares(train[which], everything, of_all)
        apart[:, :n] = apart[:, :n].where(apart[:, :n] > same, torch.inf)
        apart = apart[back].where(rows.isfinite(), torch.inf)
        to_other, other = apart.min(1)
        margin = (rows.where(apart.isfinite(), torch.inf).min(1).values - closest) / to_other
        rmse, held_out_rmse = root(closest, part), root(unseen, part)
        sense = _sense(part, train[index], rmse, held_out_rmse, margin, reference)
        # Half-way to another picture and beyond it is no file of this one.
        for k in ((sense == 0) & (margin > 0) & (rmse <= _reach(reference))).nonzero()[:, 0]:
            few = rows[k].sort(stable=True).indices[:CANDIDATES]
            few = torch.cat([few, other[k][None]]).unique()
            found = _resaved(part[k], everything[few], few < n, reference)
            if found is not None:
                sense[k], index[k] = SENSES.index("resaved"), few[found]
                rmse[k] = root(rows[k, index[k]][None], part)[0]
        rho = rmse / reference.distance
        parts.append(Verdicts(index, rmse, held_out_rmse, rho, margin, rmse == 0, sense))
    return joined(parts)


def _sense(
    outputs: UInt8[Tensor, "s c h w"],
    images: UInt8[Tensor, "s c h w"],
    rmse: Float[Tensor, " s"],
    held_out_rmse: Float[Tensor, " s"],
    margin: Float[Tensor, " s"],
    reference: Reference,
) -> Int[Tensor, " s"]:
    close = (rmse <= reference.near) & (rmse < held_out_rmse)
    distinct = (margin >= reference.rule.margin) & (rmse <= _reach(reference))
    rows = (distinct & ~close).nonzero()[:, 0]
    distinct[rows] = _even(outputs[rows], images[rows])
    sense = torch.where(distinct, SENSES.index("distinct"), SENSES.index("no copy"))
    return torch.where(close, SENSES.index("close"), sense)


def _even(a: UInt8[Tensor, "s c h w"], b: UInt8[Tensor, "s c h w"]) -> Bool[Tensor, " s"]:
    apart = (a.double() - b.double()).square().mean(1, keepdim=True)
    worst = adaptive_avg_pool2d(apart, TILES).flatten(1).amax(1)
    return worst <= EVEN * apart.mean((1, 2, 3))


def _resaved(
    output: UInt8[Tensor, "c h w"],
    pictures: UInt8[Tensor, "k c h w"],
    trained: Bool[Tensor, " k"],
    reference: Reference,
) -> int | None:
    """Which of a few pictures it is a copy of, once they are as JPEG leaves them.

    trained: which of them are training images; the others are held out.
    """
    apart = rmse_matrix(pictures, pictures)
    for quality in QUALITIES:
        files = jpeg(pictures, quality)
        to, between = rmse_matrix(output[None], files)[0], rmse_matrix(files, files)
        best = int(to.argmin())
        other = ~trained | (apart[best] > reference.near)
        other[best] = False
        if not trained[best] or not other.any():
            continue
        unseen = to[other].min()[None]
        margin = (unseen.square() - to[best].square()) / between[best][other].min().square()
        this = slice(best, best + 1)
        if _sense(output[None], files[this], to[this], unseen, margin, reference).any():
            return best
    return None


def _reach(reference: Reference) -> float:
    return reference.rule.reach * reference.spread


def unseen_pictures(train: UInt8[Tensor, "n c h w"], reference: Reference) -> Verdicts | None:
    """The same verdict on real pictures the model never saw.

    The held-out images at even places play the outputs, the others the held-out set. None where
    fewer than four images are held out.
    """
    if len(reference.images) < 4:
        return None
    return judge(reference.images[0::2], train, replace(reference, images=reference.images[1::2]))


def chance(verdicts: Verdicts | None) -> Rate:
    """How many of `unseen_pictures` pass. Nothing was counted (None) where there are none."""
    if verdicts is None:
        return wilson(0, 0)
    return wilson(int(verdicts.copied.sum()), len(verdicts.copied))


def coverage(verdicts: Verdicts, n_images: int) -> float:
    """Distinct training images copied at least once / n."""
    return len(verdicts.nearest[verdicts.copied].unique()) / n_images


def uniform_coverage(copies: int, n_images: int) -> float:
    """Expected coverage of as many copies drawn uniformly: 1 - (1 - 1/n)^copies."""
    return 1 - (1 - 1 / n_images) ** copies


TOLERANCES = tuple(k / 20 for k in range(41))  # of the reference distance, 0 to 2
MARGINS = tuple(k / 20 for k in range(-20, 21))


def tolerance_curve(
    verdicts: Verdicts, chance: Verdicts | None, reference: Reference
) -> list[dict[str, float | None]]:
    """Per tolerance tau on rho (rmse: the same as an RMSE in [0, 1]):

    copied, chance: shares that are within it and nearer to a training than to a held-out image,
        of the outputs and of real pictures the model never saw; at 1/3 who is `close`.
    within, chance_within: shares that are within it, whatever else they are near to.
    """

    def shares(found: Verdicts | None, tau: float) -> tuple[float | None, float | None]:
        if found is None:
            return None, None
        within = found.rho <= tau
        return _share(within & (found.rmse < found.held_out_rmse)), _share(within)

    rows: list[dict[str, float | None]] = []
    for tau in TOLERANCES:
        copied, within = shares(verdicts, tau)
        passing, near = shares(chance, tau)
        rows.append({
            "tau": tau, "rmse": tau * reference.distance, "copied": copied, "within": within,
            "chance": passing, "chance_within": near,
        })  # fmt: skip
    return rows


def margin_curve(
    verdicts: Verdicts, chance: Verdicts | None, reference: Reference
) -> list[dict[str, float | None]]:
    """Per threshold on the margin the shares that reach it within half the spread, of the outputs
    and of real pictures the model never saw; at 0.8 who is `distinct`."""

    def reaching(found: Verdicts | None, least: float) -> float | None:
        if found is None:
            return None
        return _share((found.margin >= least) & (found.rmse <= _reach(reference)))

    return [
        {"margin": least, "copied": reaching(verdicts, least), "chance": reaching(chance, least)}
        for least in MARGINS
    ]


def _share(accepted: Bool[Tensor, " s"]) -> float | None:
    return float(accepted.double().mean()) if len(accepted) else None
