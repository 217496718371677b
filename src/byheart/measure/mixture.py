"""The mixture of a few training images that comes closest to an output."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from byheart.measure.distance import CHUNK, inner_products, norms, root

STARTS = 8  # nearest training images from which a mixture is begun


@dataclass(frozen=True)
class Mixture:
    """Per output the best mixture found; a part with weight 0 takes no part."""

    rmse: Float[Tensor, " s"]  # to the mixture, in [0, 1]
    parts: Int[Tensor, "s 3"]  # indices of training images
    weights: Float[Tensor, "s 3"]  # non-negative, together 1


def mixture(outputs: UInt8[Tensor, "s c h w"], train: UInt8[Tensor, "n c h w"]) -> Mixture:
    """Greedy: from each of the nearest images the best second, from the best pair the best third.

    The weights add up to 1. Without that, black would be a mixture of nothing, and at n = 1 every
    faded copy a blend. What is searched are inner products of integers, exact in float64.
    ValueError: no training images.
    """
    if len(train) == 0:
        raise ValueError("no images to mix")
    among = inner_products(train, train)
    found = []
    for part in outputs.split(CHUNK) if len(outputs) else [outputs]:
        to_train = norms(part)[:, None] - 2 * inner_products(part, train) + norms(train)[None]
        found.append(_search(to_train, _squared(among)))
    squared, parts, weights = (torch.cat(column) for column in zip(*found, strict=True))
    return Mixture(root(squared, outputs), parts, weights)


def _squared(products: Float[Tensor, "n n"]) -> Float[Tensor, "n n"]:
    own = products.diagonal()
    return own[:, None] - 2 * products + own[None]


def _search(
    to_train: Float[Tensor, "s n"], among: Float[Tensor, "n n"]
) -> tuple[Float[Tensor, " s"], Int[Tensor, "s 3"], Float[Tensor, "s 3"]]:
    """Squared distance to the best mixture, its parts and their weights.

    to_train: squared distances of outputs to training images; among: of these to each other. All
    that a mixture needs follows from them: |s - sum w_i x_i|² = sum w_i |s - x_i|²
    - 1/2 sum w_i w_j |x_i - x_j|² where the weights add up to 1.
    """
    rows = torch.arange(len(to_train))
    # sort, unlike topk, promises which of two equal distances comes first
    starts = to_train.sort(dim=1, stable=True).indices[:, :STARTS]  # s m
    first = to_train.gather(1, starts)[:, :, None]
    pair, share = _towards(first, to_train[:, None, :], among[starts])  # s m n
    best = pair.flatten(1).argmin(1)
    i, j = starts[rows, best // pair.shape[2]], best % pair.shape[2]
    t = share.flatten(1)[rows, best]
    # From the pair's point p, |p - x_k|² by the same identity.
    point = (1 - t) * to_train[rows, i] + t * to_train[rows, j] - t * (1 - t) * among[i, j]
    gap = (t * (1 - t) * among[i, j])[:, None]
    to_others = (1 - t)[:, None] * among[i] + t[:, None] * among[j] - gap
    third, step = _towards(point[:, None], to_train, to_others)
    k = third.argmin(1)
    u = step[rows, k]
    parts = torch.stack([i, j, k], dim=1)
    weights = torch.stack([(1 - u) * (1 - t), (1 - u) * t, u], dim=1)
    to, inside = to_train.gather(1, parts), among[parts[:, :, None], parts[:, None]]
    weights = _refitted(weights, to, inside)
    return _value(weights, to, inside), parts, weights


def _towards(
    here: Tensor, there: Tensor, apart: Tensor
) -> tuple[Float[Tensor, "*k"], Float[Tensor, "*k"]]:
    """Smallest squared distance to the segment from one point to another, and how far along.

    here, there: squared distances to its ends; apart: squared length.
    """
    along = (here - there + apart) / (2 * apart)
    along = torch.where(apart > 0, along, 0.0).clamp(0, 1)
    return (1 - along) * here + along * there - along * (1 - along) * apart, along


def _refitted(
    weights: Float[Tensor, "s 3"], to: Float[Tensor, "s 3"], among: Float[Tensor, "s 3 3"]
) -> Float[Tensor, "s 3"]:
    """The best weights of the three parts, where all are positive; else as they came.

    Stationary point of the quadratic form above on the plane sum w = 1 (Lagrange): two unknowns.
    """
    # With w_1 = 1 - a - b the gradient in (a, b) is linear: [d12, c; c, d13] (a, b) = r.
    d12, d13, d23 = among[:, 0, 1], among[:, 0, 2], among[:, 1, 2]
    cross = (d12 + d13 - d23) / 2
    right_a, right_b = (to[:, 0] - to[:, 1] + d12) / 2, (to[:, 0] - to[:, 2] + d13) / 2
    determinant = d12 * d13 - cross.square()
    whole = determinant > 1e-9 * (d12 * d13).clamp(min=1.0)
    safe = torch.where(whole, determinant, 1.0)
    a = (right_a * d13 - right_b * cross) / safe
    b = (right_b * d12 - right_a * cross) / safe
    fitted = torch.stack([1 - a - b, a, b], dim=1)
    return torch.where((whole & (fitted > 0).all(1))[:, None], fitted, weights)


def _value(
    weights: Float[Tensor, "s 3"], to: Float[Tensor, "s 3"], among: Float[Tensor, "s 3 3"]
) -> Float[Tensor, " s"]:
    mixed = (weights[:, :, None] * weights[:, None] * among).sum((1, 2)) / 2
    return ((weights * to).sum(1) - mixed).clamp(min=0)
