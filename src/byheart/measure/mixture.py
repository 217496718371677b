"""The mixture of a few training images that comes closest to an output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn.functional import pad

from byheart.measure.distance import CHUNK, ENTRIES, norms, root, squares

SUM = 1e4  # weight of the condition that the weights add up to 1
STEPS = 10  # training images that a mixture is sought among, one after the other


@dataclass(frozen=True)
class Mixture:
    """Per output the best mixture found; a part with weight 0 takes no part."""

    rmse: Float[Tensor, " s"]  # to the mixture, in [0, 1]
    parts: Int[Tensor, "s 3"]  # indices of training images
    weights: Float[Tensor, "s 3"]  # non-negative, together 1


def mixture(outputs: UInt8[Tensor, "s c h w"], train: UInt8[Tensor, "n c h w"]) -> Mixture:
    """The three that weigh most in a mixture of ten, found one after the other: each time the
    image that brings the mixture so far closest to the output, and then the best weights of all
    chosen (Frank and Wolfe, fully corrective). In a crowded family the parts of a mixture are not
    among the nearest images: half of each of two is nearer to many a third.

    The weights add up to 1. Without that, black would be a mixture of nothing, and at n = 1 every
    faded copy a blend. What is searched are inner products of integers, exact in float64, and never
    those of all training images with each other. ValueError: no training images.
    """
    if len(train) == 0:
        raise ValueError("no images to mix")
    of_train = norms(train)
    found, count = [], min(CHUNK, max(1, ENTRIES // (STEPS * len(train))))
    for part in outputs.split(count):
        found.append(_search(squares(part, train, of_train), train, of_train))
    squared, parts, weights = (torch.cat(column) for column in zip(*found, strict=True))
    return Mixture(root(squared, outputs), parts, weights)


def _search(
    to_train: Float[Tensor, "s n"], train: UInt8[Tensor, "n c h w"], of_train: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " s"], Int[Tensor, "s 3"], Float[Tensor, "s 3"]]:
    """Squared distance to the best mixture, its parts and their weights.

    to_train: squared distances of outputs to training images. All that a mixture needs follows
    from them and those of its parts to each other: |s - sum w_i x_i|² = sum w_i |s - x_i|²
    - 1/2 sum w_i w_j |x_i - x_j|² where the weights add up to 1.
    """
    parts = to_train.argmin(1)[:, None]
    rows = _apart(parts[:, 0], train, of_train)[:, None]  # of each part so far, to all images
    weights = torch.ones(len(to_train), 1, dtype=torch.float64)
    tried = []
    while True:
        if parts.shape[1] <= 3:
            tried.append(_three(parts, weights, rows, to_train))
        if parts.shape[1] == min(STEPS, to_train.shape[1]):
            break
        among = _among(rows, parts)
        inner = _inner(weights, among)[:, None]
        # |p - x|² of the mixture p so far, by the same identity.
        to_others = torch.einsum("sp,spn->sn", weights, rows) - inner
        here = (weights * to_train.gather(1, parts)).sum(1, keepdim=True) - inner
        closer = _towards(here, to_train, to_others).scatter(1, parts, torch.inf)
        new = closer.argmin(1, keepdim=True)
        parts = torch.cat([parts, new], 1)
        rows = torch.cat([rows, _apart(new[:, 0], train, of_train)[:, None]], 1)
        among = _among(rows, parts)
        weights = _fitted(to_train.gather(1, parts), among)
    heavy = weights.sort(dim=1, descending=True, stable=True).indices[:, :3]
    some = rows.gather(1, heavy[:, :, None].expand(-1, -1, rows.shape[2]))
    parts = parts.gather(1, heavy)
    among = _among(some, parts)
    weights = _fitted(to_train.gather(1, parts), among)
    tried.append(_three(parts, weights, some, to_train))
    values = torch.stack([value for value, _, _ in tried])
    best, row = values.argmin(0), torch.arange(len(to_train))
    return (
        values[best, row],
        torch.stack([parts for _, parts, _ in tried])[best, row],
        torch.stack([weights for _, _, weights in tried])[best, row],
    )


def _three(
    parts: Int[Tensor, "s p"],
    weights: Float[Tensor, "s p"],
    rows: Float[Tensor, "s p n"],
    to_train: Float[Tensor, "s n"],
) -> tuple[Float[Tensor, " s"], Int[Tensor, "s 3"], Float[Tensor, "s 3"]]:
    """What a mixture of at most three comes to, with parts of weight 0 where there are fewer."""
    among = _among(rows, parts)
    value = (weights * to_train.gather(1, parts)).sum(1) - _inner(weights, among)
    lack = 3 - parts.shape[1]
    filled = torch.cat([parts, parts[:, :1].expand(-1, lack)], 1)
    return value.clamp(min=0), filled, pad(weights, (0, lack))


def _apart(
    index: Int[Tensor, " s"], train: UInt8[Tensor, "n c h w"], of_train: Float[Tensor, " n"]
) -> Float[Tensor, "s n"]:
    """Squared distances of some training images to all."""
    which, back = index.unique(return_inverse=True)
    return squares(train[which], train, of_train)[back]


def _among(rows: Float[Tensor, "s p n"], parts: Int[Tensor, "s p"]) -> Float[Tensor, "s p p"]:
    """Squared distances of the parts to each other. rows: of each part, to all images."""
    return rows.gather(2, parts[:, None].expand(-1, parts.shape[1], -1))


def _inner(weights: Float[Tensor, "s p"], among: Float[Tensor, "s p p"]) -> Float[Tensor, " s"]:
    return (weights[:, :, None] * weights[:, None] * among).sum((1, 2)) / 2


def _towards(
    here: Float[Tensor, "s 1"], there: Float[Tensor, "s n"], apart: Float[Tensor, "s n"]
) -> Float[Tensor, "s n"]:
    """Smallest squared distance to the segment from one point to another.

    here, there: squared distances to its ends; apart: squared length.
    """
    along = (here - there + apart) / (2 * apart)
    along = torch.where(apart > 0, along, 0.0).clamp(0, 1)
    return (1 - along) * here + along * there - along * (1 - along) * apart


def _fitted(to: Float[Tensor, "s p"], among: Float[Tensor, "s p p"]) -> Float[Tensor, "s p"]:
    """The non-negative weights, together 1, of the mixture closest to the output.

    Seen from the output, <x_a, x_b> = (|x_a|² + |x_b|² - |x_a - x_b|²) / 2; a root of that matrix
    has the parts for columns, and what is sought is their combination closest to 0.
    """
    from scipy.optimize import nnls  # a second to import: not for every command

    inner = (to[:, :, None] + to[:, None] - among) / 2
    scale = inner.diagonal(dim1=1, dim2=2).amax(1).clamp(min=1.0)
    values, vectors = torch.linalg.eigh(inner / scale[:, None, None])
    roots = values.clamp(min=0).sqrt()[:, :, None] * vectors.mT
    # A heavy last row makes the weights add up to 1.
    heavy = torch.full((len(to), 1, to.shape[1]), SUM, dtype=torch.float64)
    right = np.append(np.zeros(to.shape[1]), SUM)
    found = [nnls(columns, right)[0] for columns in torch.cat([roots, heavy], 1).numpy()]
    weights = torch.from_numpy(np.array(found)).reshape(to.shape)
    return weights / weights.sum(1, keepdim=True)
