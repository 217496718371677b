"""Distances between 8-bit images, exact.

Squared distances of 8-bit images are integers below 2^53, so float64 holds them without rounding:
no verdict can depend on the size of a chunk, on the number of processes or on the machine. Roots
are taken last, by `math`: torch's own are off in the last bit here and there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

CHUNK = 256  # images a side at once: 2 x 12.5 MB of float32 at 64 x 64
ENTRIES = 2**23  # distances at once: 64 MB
EXACT = 2**24 // 255**2  # products of two 8-bit values whose sum float32 holds without rounding


@dataclass(frozen=True)
class Match:
    """For each output its closest image, and the closest after that."""

    index: Int[Tensor, " s"]
    rmse: Float[Tensor, " s"]  # in [0, 1]
    second: Float[Tensor, " s"] | None  # RMSE to the runner-up; None where there is one image


def rmse_matrix(a: UInt8[Tensor, "s c h w"], b: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "s n"]:
    """sqrt(mean((a - b)²)) of every pair, in [0, 1]. For matrices that fit into memory."""
    return root(squares(a, b), a)


def nearest(outputs: UInt8[Tensor, "s c h w"], images: UInt8[Tensor, "n c h w"]) -> Match:
    """Closest image to each output by RMSE; the first of equals. ValueError: no images."""
    if len(images) == 0:
        raise ValueError("no images to compare with")
    k = min(2, len(images))
    best, where = [], []
    for _, rows in squared_rows(outputs, images):
        # sort, unlike topk, promises which of two equal distances comes first
        values, order = rows.sort(dim=1, stable=True)
        best.append(values[:, :k])
        where.append(order[:, 0])
    values = root(torch.cat(best), outputs)
    return Match(torch.cat(where), values[:, 0], values[:, 1] if k == 2 else None)


def nearest_other(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """RMSE from each image to its closest other. ValueError: fewer than two images."""
    if len(images) < 2:
        raise ValueError(f"{len(images)} image(s): nearest others need two")
    return root(squared_other(images), images)


def squared_other(images: UInt8[Tensor, "n c h w"], k: int = 1) -> Float[Tensor, " n"]:
    """Sum of squared 8-bit differences of each to its k-th nearest other, of more than k."""
    found = []
    for start, rows in squared_rows(images, images):
        rows[:, start:].fill_diagonal_(torch.inf)
        found.append(rows.kthvalue(k, dim=1).values)
    return torch.cat(found)


def psnr(rmse: Float[Tensor, "*s"]) -> Float[Tensor, "*s"]:
    """-20 log10(rmse) in dB; infinite where the images are equal."""
    return -20 * torch.log10(rmse)


def root(squared: Float[Tensor, "*k"], images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, "*k"]:
    """RMSE in [0, 1] from the sum of squared 8-bit differences between images of this shape."""
    numbers = images.shape[1:].numel()
    roots = [math.sqrt(value / numbers) / 255 for value in squared.flatten().tolist()]
    return torch.tensor(roots, dtype=torch.float64).reshape(squared.shape)


def norms(images: UInt8[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Sum of squared 8-bit values of each image, exact."""
    return torch.cat([part.flatten(1).double().square().sum(1) for part in images.split(CHUNK)])


def inner_products(
    a: UInt8[Tensor, "s c h w"], b: UInt8[Tensor, "n c h w"]
) -> Float[Tensor, "s n"]:
    """Sum of products of the 8-bit values of every pair, exact. ValueError: other shapes.

    So few at once that float32 holds their sums exactly too: 1.7 times as fast as float64.
    """
    if a.shape[1:] != b.shape[1:]:
        raise ValueError(f"images of {tuple(a.shape[1:])} against {tuple(b.shape[1:])}")
    assert 4 * a.shape[1:].numel() * 255**2 < 2**53
    products = torch.zeros(len(a), len(b), dtype=torch.float64)
    for rows, some in zip(products.split(CHUNK), a.split(CHUNK), strict=True):
        left = some.flatten(1).float().split(EXACT, 1)
        for block, others in zip(rows.split(CHUNK, 1), b.split(CHUNK), strict=True):
            right = others.flatten(1).float().split(EXACT, 1)
            for one, other in zip(left, right, strict=True):
                block += one @ other.T
    return products


def squares(
    a: UInt8[Tensor, "s c h w"],
    b: UInt8[Tensor, "n c h w"],
    of_b: Float[Tensor, " n"] | None = None,
) -> Float[Tensor, "s n"]:
    """Sum of squared 8-bit differences of every pair, exact: all of `squared_rows`."""
    return torch.cat([rows for _, rows in squared_rows(a, b, of_b)])


def squared_rows(
    a: UInt8[Tensor, "s c h w"],
    b: UInt8[Tensor, "n c h w"],
    of_b: Float[Tensor, " n"] | None = None,
) -> Iterator[tuple[int, Float[Tensor, "rows n"]]]:
    """Sums of squared 8-bit differences of some of `a`, from which on, to all of `b`; exact. Of an
    empty `a` no rows, once.

    of_b: `norms(b)`, where they are known already.
    """
    of_b = norms(b) if of_b is None else of_b
    count = min(CHUNK, max(1, ENTRIES // max(1, len(b))))
    for k, rows in enumerate(a.split(count)):
        yield k * count, norms(rows)[:, None] - 2 * inner_products(rows, b) + of_b[None]
