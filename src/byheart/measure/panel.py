"""The comparability panel: the field's own measures of copying, each by its own rule.

None of these decides what a copy is here (see copying.py): a reader who comes from one of the
papers finds the number they know. What a paper leaves undefined, at one training image for
example, stays undefined.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product

import imagehash
import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image
from skimage.metrics import structural_similarity
from torch import Tensor

from byheart.measure.copying import STANDARD
from byheart.measure.distance import CHUNK, inner_products, norms, squared_rows, squares
from byheart.measure.distance import nearest as closest

Images = UInt8[Tensor, "_ 3 w w"]

GRID = 4  # tiles a side; Carlini et al. cut 512 px into 4 x 4 tiles of 128
SSIM_WINDOW = 11  # pixels a side; Wang et al. 2004
CORRELATION = 0.95  # Kadkhodaie et al. 2024
HAMMING = 10  # of 64 bits
COSINES = (0.5, 0.6, 0.75)


@dataclass(frozen=True)
class Metric:
    """One published measure of every output against its closest training image by that measure."""

    values: Float[Tensor, " s"]  # nan where this output has no value
    passes: dict[str, Bool[Tensor, " s"]]  # by threshold; nan never passes; {} has no threshold
    source: str


def panel(
    outputs: UInt8[Tensor, "s 3 w w"],
    train: UInt8[Tensor, "n 3 w w"],
    held_out: UInt8[Tensor, "h 3 w w"],
    nearest: Int[Tensor, " s"],
    reference: float,
    embed: Callable[[UInt8[Tensor, "k 3 w w"]], Float[Tensor, "k d"]] | None = None,
) -> dict[str, Metric | None]:
    """The field's measures by name; None where one is undefined for these images.

    nearest: each output's closest training image by RMSE (`Verdicts.nearest`).
    reference: the reference distance, RMSE in [0, 1].
    embed: unit-length descriptors of images, from `load_sscd`; without it "sscd" is None.
    """
    return {
        "ratio": _ratio(outputs, train, reference),
        "correlation": _correlation(outputs, train),
        "ssim": _ssim(outputs, train, nearest),
        "patch_max": _patch_max(outputs, train, held_out),
        "phash": _phash(outputs, train),
        "sscd": None if embed is None else _sscd(embed(outputs), embed(train)),
    }


def _ratio(outputs: Images, train: Images, reference: float) -> Metric | None:
    """l2 distance to the closest / to the second closest training image.

    A near-duplicate would hide every copy of its twin, so the training set is thinned first. None
    where fewer than three images are left.
    """
    kept = train[_apart(train, reference * STANDARD.tolerance)]
    if len(kept) < 3:
        return None
    match = closest(outputs, kept)
    assert match.second is not None
    values = match.rmse / match.second  # images that were kept are apart, so never 0 / 0
    source = "Gu et al. 2023, d1/d2, near-duplicates removed"
    return Metric(values, {"< 1/3": values < 1 / 3}, source)


def _apart(images: Images, distance: float) -> Bool[Tensor, " n"]:
    """Which images stay: one goes if an earlier one that stayed lies within this RMSE of it.

    So their order counts. The training set's is fixed by the seed.
    """
    limit = (distance * 255) ** 2 * images.shape[1:].numel()
    stays = torch.zeros(len(images), dtype=torch.bool)
    for start, rows in squared_rows(images, images):
        for place, near in enumerate(rows <= limit, start):
            stays[place] = not (near & stays).any()
    return stays


def _correlation(outputs: Images, train: Images) -> Metric:
    """Largest normalised correlation, each image centred over all its numbers.

    An image of one value has none: such a training image is passed over, such an output gets nan.
    """
    numbers = outputs.shape[1:].numel()
    train_sums, train_spreads = _moments(train)
    values = []
    for rows in outputs.split(CHUNK):
        sums, spreads = _moments(rows)
        # N Σab - Σa Σb: whole numbers until the division, so 0 / 0 where an image is constant
        covariance = numbers * inner_products(rows, train).long() - sums[:, None] * train_sums
        correlation = covariance / (spreads[:, None] * train_spreads)
        values.append(correlation.nan_to_num(nan=-torch.inf).max(dim=1).values)
    best = torch.cat(values).clamp(max=1)  # a root's rounding may leave 1 + 2e-16
    best[best == -torch.inf] = torch.nan
    source = "Kadkhodaie et al. 2024, correlation, mean removed"
    return Metric(best, {"> 0.95": best > CORRELATION}, source)


def _moments(images: Images) -> tuple[Int[Tensor, " k"], Float[Tensor, " k"]]:
    """Of each image's N numbers: Σx, and sqrt(N Σx² - (Σx)²), N times their standard deviation."""
    numbers = images.shape[1:].numel()
    sums = images.flatten(1).sum(1, dtype=torch.long)
    variances = numbers * norms(images).long() - sums.square()
    roots = [math.sqrt(value) for value in variances.tolist()]
    return sums, torch.tensor(roots, dtype=torch.float64)


def _ssim(outputs: Images, train: Images, nearest: Int[Tensor, " s"]) -> Metric | None:
    """Mean SSIM over the three channels. None for images smaller than its window."""
    if outputs.shape[-1] < SSIM_WINDOW:
        return None
    values = [
        structural_similarity(
            output.numpy() / 255,
            match.numpy() / 255,
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
        for output, match in zip(outputs, train[nearest], strict=True)
    ]
    return Metric(torch.tensor(values, dtype=torch.float64), {}, "Wang et al. 2004, SSIM")


def _patch_max(
    outputs: Images,
    train: Images,
    held_out: Images,
) -> Metric | None:
    """Smallest distance to a training image, two images being as far apart as their worst tiles.

    It passes within a third of its own reference: the median over held-out images of the same
    distance to their nearest other. None where that is undefined or 0, or a tile would be empty.
    """
    if len(held_out) < 2 or outputs.shape[-1] < GRID:
        return None
    patch_reference = float(_by_tiles(held_out, held_out, to_others=True).quantile(0.5))
    if patch_reference == 0:
        return None
    values = _by_tiles(outputs, train)
    passes = {"<= 1/3": values / patch_reference <= STANDARD.tolerance}
    return Metric(values, passes, "Carlini et al. 2023, patch-max l2, calibrated")


def _by_tiles(a: Images, b: Images, to_others: bool = False) -> Float[Tensor, " s"]:
    """RMSE in [0, 1] of the worst of 4 x 4 contiguous tiles, from each of `a` to its closest in
    `b`, or, where the two are the same, to its closest other.

    Where 4 does not divide the side, tiles differ by one pixel; each counts by its own size.
    """
    side = a.shape[-1]
    spans = [slice(*ends) for ends in pairwise(side * k // GRID for k in range(GRID + 1))]
    mean_squares = []
    for start in range(0, len(a), CHUNK):
        worst = torch.zeros(len(a[start : start + CHUNK]), len(b), dtype=torch.float64)
        for y, x in product(spans, spans):
            tile, others = a[start : start + CHUNK, :, y, x], b[:, :, y, x]
            torch.maximum(worst, squares(tile, others) / tile.shape[1:].numel(), out=worst)
        if to_others:
            worst[:, start:].fill_diagonal_(torch.inf)
        mean_squares += worst.min(dim=1).values.tolist()
    return torch.tensor([math.sqrt(value) / 255 for value in mean_squares], dtype=torch.float64)


def _phash(outputs: Images, train: Images) -> Metric:
    """Fewest bits in which the 64-bit hashes of output and training image differ."""
    known = _hashes(train)
    closest = [torch.cdist(bits, known, p=0).min(dim=1) for bits in _hashes(outputs).split(CHUNK)]
    values = torch.cat([found.values for found in closest])
    source = "Krawetz 2011, DCT hash by ImageHash; 10 bits after imagededup"
    return Metric(values, {"<= 10": values <= HAMMING}, source)


def _hashes(images: Images) -> Float[Tensor, "k 64"]:
    """0 or 1 for every bit."""
    pictures = (Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images)
    bits = np.stack([imagehash.phash(picture).hash.ravel() for picture in pictures])
    return torch.from_numpy(bits).double()


def _sscd(outputs: Float[Tensor, "s d"], train: Float[Tensor, "n d"]) -> Metric:
    """Largest cosine between the output's descriptor and a training image's."""
    for descriptors in (outputs, train):
        lengths = descriptors.double().norm(dim=1)
        assert ((lengths - 1).abs() < 1e-3).all(), "descriptors are not of length 1"
    # In steps of 2^-24 the sums of products are whole numbers below 2^53: exact in any order.
    steps, others = ((each.double() * 2**24).round() for each in (outputs, train))
    values = steps @ others.T / 2**48
    best = values.max(dim=1).values
    passes = {f"> {cosine}": best > cosine for cosine in COSINES}
    source = "Pizzi et al. 2022, SSCD cosine; 0.5 after Somepalli et al. 2023, 0.75 after SSCD"
    return Metric(best, passes, source)
