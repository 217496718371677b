"""The mixture of a few training images that comes closest to an output."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from byheart.measure.distance import CHUNK, ENTRIES, norms, root, squares

SUM = 1e4  # weight of the condition that the weights add up to 1
STEPS = 10  # training images that a mixture is sought among, one after the other


def mixture(
    outputs: UInt8[Tensor, "s c h w"], train: UInt8[Tensor, "n c h w"]
) -> Float[Tensor, " s"]:
    """RMSE in [0, 1] of each output to its best mixture of at most three training images.

    They are the three that weigh most in a mixture of ten, found one after the other: each time the
    image that brings the mixture so far closest to the output, and then the best weights of all
    chosen (Frank and Wolfe, fully corrective). In a crowded family the parts of a mixture are not
    among the nearest images: half of each of two is nearer to many a third.

    The weights add up to 1. Without that, black would be a mixture of nothing, and at n = 1 every
    faded copy a blend. What is searched are inner products of integers, exact in float64, and never
    those of all training images with each other.
    """
    of_train = norms(train)
    count = min(CHUNK, max(1, ENTRIES // (STEPS * len(train))))
    found = [_search(squares(part, train, of_train), train, of_train)
             for part in outputs.split(count)]  # fmt: skip
    return root(torch.cat(found), outputs)


def _search(
    to_train: Float[Tensor, "s n"], train: UInt8[Tensor, "n c h w"], of_train: Float[Tensor, " n"]
) -> Float[Tensor, " s"]:
    """Squared distance to the best mixture.

    to_train: squared distances of outputs to training images. All that a mixture needs follows
    from them and those of its parts to each other: |s - sum w_i x_i|² = sum w_i |s - x_i|²
    - 1/2 sum w_i w_j |x_i - x_j|² where the weights add up to 1.
    """
    parts = to_train.argmin(1)[:, None]
    rows = _apart(parts[:, 0], train, of_train)[:, None]  # of each part so far, to all images
    weights, among = torch.ones(len(to_train), 1, dtype=torch.float64), _among(rows, parts)
    tried = []
    while True:
        inner = _inner(weights, among)[:, None]
        here = (weights * to_train.gather(1, parts)).sum(1, keepdim=True) - inner
        if parts.shape[1] <= 3:
            tried.append(here[:, 0])
        if parts.shape[1] == min(STEPS, to_train.shape[1]):
            break
        # |p - x|² of the mixture p so far, by the same identity.
        to_others = torch.einsum("sp,spn->sn", weights, rows) - inner
        closer = _towards(here, to_train, to_others).scatter(1, parts, torch.inf)
        new = closer.argmin(1, keepdim=True)
        parts = torch.cat([parts, new], 1)
        rows = torch.cat([rows, _apart(new[:, 0], train, of_train)[:, None]], 1)
        among = _among(rows, parts)
        weights = _fitted(to_train.gather(1, parts), among)
    heavy = weights.sort(dim=1, descending=True, stable=True).indices[:, :3]
    some = rows.gather(1, heavy[:, :, None].expand(-1, -1, rows.shape[2]))
    parts = parts.gather(1, heavy)
    to_parts, among = to_train.gather(1, parts), _among(some, parts)
    weights = _fitted(to_parts, among)
    tried.append((weights * to_parts).sum(1) - _inner(weights, among))
    return torch.stack(tried).amin(0).clamp(min=0)


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
