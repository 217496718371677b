"""What counts as a copy: near a training image by a reference that no training set can bend, and
how the share of copies grows with the tolerance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from byheart.measure.distance import nearest, nearest_other
from byheart.measure.intervals import Rate, wilson

TOLERANCE = 1 / 3  # of the reference distance; after Gu et al. 2023, who ask d1 / d2 < 1/3


@dataclass(frozen=True)
class Verdicts:
    """Per output: the closest training image and whether this is a copy of it."""

    nearest: Int[Tensor, " s"]
    rmse: Float[Tensor, " s"]  # d_T: to the closest training image, in [0, 1]
    held_out_rmse: Float[Tensor, " s"]  # d_H: to the closest held-out image
    rho: Float[Tensor, " s"]  # d_T / reference distance
    exact: Bool[Tensor, " s"]  # equal to a training image in every 8-bit value
    copied: Bool[Tensor, " s"]


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
    held_out: UInt8[Tensor, "m c h w"],
    reference: float,
) -> Verdicts:
    """copied iff d_T <= reference / 3 and d_T < d_H. Defined for any n >= 1.

    Without held-out images d_H is infinite: nothing unseen is closer.
    """
    to_train = nearest(outputs, train)
    return verdicts(outputs, to_train.index, to_train.rmse, held_out, reference)


def verdicts(
    outputs: UInt8[Tensor, "s c h w"],
    index: Int[Tensor, " s"],
    rmse: Float[Tensor, " s"],
    held_out: UInt8[Tensor, "m c h w"],
    reference: float,
) -> Verdicts:
    """`judge` where the closest training image and the distance to it are known already."""
    held_out_rmse = torch.full_like(rmse, torch.inf)
    if len(held_out):
        held_out_rmse = nearest(outputs, held_out).rmse
    rho = rmse / reference
    copied = (rho <= TOLERANCE) & (rmse < held_out_rmse)
    return Verdicts(index, rmse, held_out_rmse, rho, rmse == 0, copied)


def unseen_pictures(
    train: UInt8[Tensor, "n c h w"], held_out: UInt8[Tensor, "m c h w"]
) -> Verdicts | None:
    """The same verdict on real pictures the model never saw.

    The held-out images at even places play the outputs, the others the held-out set. None where
    fewer than four images are held out.
    """
    if len(held_out) < 4:
        return None
    return judge(held_out[0::2], train, held_out[1::2], reference_distance(held_out))


def chance(train: UInt8[Tensor, "n c h w"], held_out: UInt8[Tensor, "m c h w"]) -> Rate:
    """How many of them pass. Nothing was counted (None) where fewer than four are held out."""
    verdicts = unseen_pictures(train, held_out)
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


def tolerance_curve(
    verdicts: Verdicts, chance: Verdicts | None, reference: float
) -> list[dict[str, float | None]]:
    """Per tolerance tau on rho (rmse: the same as an RMSE in [0, 1]):

    copied, chance: shares that are within it and nearer to a training than to a held-out image,
        of the outputs and of real pictures the model never saw; at 1/3 the headline's criterion.
    within, chance_within: shares that are within it, whatever else they are near to.
    """
    return [
        {
            "tau": tau,
            "rmse": tau * reference,
            "copied": _share(verdicts, tau, True),
            "chance": _share(chance, tau, True),
            "within": _share(verdicts, tau, False),
            "chance_within": _share(chance, tau, False),
        }
        for tau in TOLERANCES
    ]


def _share(verdicts: Verdicts | None, tau: float, nearer: bool) -> float | None:
    if verdicts is None or len(verdicts.rho) == 0:
        return None
    accepted = verdicts.rho <= tau
    if nearer:
        accepted &= verdicts.rmse < verdicts.held_out_rmse
    return float(accepted.to(torch.float64).mean())
