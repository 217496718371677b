"""Memorized bits: how large a file must be to come as close to a training image as the model does.

A file's size includes its header, which says nothing about the picture: at 64 × 64 pixels a black
image takes 307 bytes as JPEG (623 with tables that are not optimized), 311 as AVIF and 40 as WebP
(Pillow 13). `header_bits` says how many of the bits are such.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from PIL import Image, features
from torch import Tensor

from byheart.measure.copying import Verdicts

# The ways a codec is tried, by codec: Pillow's settings, the qualities from small to large files.
# A second list is tried only where the first never comes close enough.
Way = tuple[dict[str, Any], Sequence[int]]
JPEG = {"format": "JPEG", "optimize": True}
WEBP = {"format": "WEBP", "method": 4}
# One thread, since AVIF's bytes may depend on how many there are. Measured on emoji at 64 x 64:
# speed 9 takes half the time, but its files are half as large again; speed 6 takes three times as
# long for the same size. 4:2:0 besides 4:4:4 takes twice as long and saves 1 %.
AVIF = {"format": "AVIF", "speed": 8, "max_threads": 1}
CODECS: dict[str, tuple[tuple[Way, ...], tuple[Way, ...]]] = {
    "jpeg": (
        (({**JPEG, "subsampling": "4:2:0"}, range(1, 101)),
         ({**JPEG, "subsampling": "4:4:4"}, range(1, 101))),
        (({**JPEG, "keep_rgb": True}, range(1, 101)),),  # no rounding to YCbCr
    ),
    # Lossy WebP is always 4:2:0; of flat pictures the lossless file is often the smaller.
    "webp": (((WEBP, range(0, 101)), ({**WEBP, "lossless": True}, (75,))), ()),
    "avif": ((({**AVIF, "subsampling": "4:4:4"}, range(0, 101)),), ()),
}  # fmt: skip
# Qualities tried beside the lowest good one that bisection finds; that at -1 it has found too low.
NEIGHBOURS = (-2, 1)


@dataclass(frozen=True)
class Memorized:
    """What a model gives back, in bits of one codec's files."""

    images: int  # training images with such a file
    out_of_reach: int  # those to which no file of this codec comes as close as the model
    bits: int | None  # of all files; None where there are images but no files
    header_bits: int  # of as many files of a black image
    raw_bits: int  # of these images at 8 bits a colour


def given_back(verdicts: Verdicts) -> tuple[Int[Tensor, " g"], Float[Tensor, " g"]]:
    """Training images with at least one copy, and how close their copies are.

    The distance is the median of an image's copies (of an even number the larger of the middle
    two), since that of the best of them would fall with the number of outputs.
    """
    where, rmse = verdicts.nearest[verdicts.copied], verdicts.rmse[verdicts.copied]
    index = where.unique()
    middle = [rmse[where == k].quantile(0.5, interpolation="higher") for k in index]
    return index, torch.stack(middle) if middle else rmse


def file_sizes(
    images: UInt8[Tensor, "g 3 h w"], rmse: Float[Tensor, " g"], codecs: Sequence[str]
) -> Int[Tensor, "g c"]:
    """Bytes of the smallest files that are as close to the images as `rmse` in [0, 1].

    A column for each codec; -1 where it never comes so close. ValueError: as `smallest_file`.
    """

    def of(k: int) -> list[int]:
        found = [smallest_file(images[k], float(rmse[k]), codec) for codec in codecs]
        return [-1 if file is None else len(file) for file in found]

    # Pillow lets go of the interpreter while it encodes: every core has a picture of its own.
    with ThreadPoolExecutor() as threads:
        sizes = [*threads.map(of, range(len(images)))]
    return torch.tensor(sizes, dtype=torch.int64).reshape(len(images), len(codecs))


def memorized(
    images: UInt8[Tensor, "g 3 h w"], sizes: Int[Tensor, "g c"], codecs: Sequence[str]
) -> dict[str, Memorized]:
    """For each codec the bits of all files together.

    images: the training images that the model gives back; sizes: of their files (`file_sizes`).
    """
    found = {}
    for codec, column in zip(codecs, sizes.T.tolist(), strict=True):
        files = [size for size in column if size >= 0]
        black = smallest_file(torch.zeros_like(images[0]), 1.0, codec) if files else b""
        assert black is not None
        found[codec] = Memorized(
            images=len(files),
            out_of_reach=len(column) - len(files),
            bits=8 * sum(files) if files or not column else None,
            header_bits=8 * len(black) * len(files),
            raw_bits=8 * images.shape[1:].numel() * len(files),
        )
    return found


def smallest_file(image: UInt8[Tensor, "3 h w"], rmse: float, codec: str) -> bytes | None:
    """The smallest file at least as close to the image as `rmse` in [0, 1]; of equally small ones
    the first in the order of CODECS. None where no file of the codec comes so close.

    Of every way of the codec the lowest quality that is good enough is sought by bisection; since
    error and size only nearly follow quality, its neighbours are tried as well, and what counts is
    the decoded file. ValueError: a codec that this Pillow lacks.
    """
    if codec != "jpeg" and not features.check(codec):
        raise ValueError(f"this Pillow was built without {codec}: pip install -U pillow")
    pixels = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
    for ways in CODECS[codec]:
        files = [file for way in ways for file in _close_enough(pixels, rmse, *way)]
        if files:
            return min(files, key=len)
    return None


def _close_enough(
    pixels: UInt8[np.ndarray, "h w 3"], rmse: float, settings: dict[str, Any], ladder: Sequence[int]
) -> Iterator[bytes]:
    """Every file that was tried and is within `rmse`: few, the smallest most likely among them."""
    picture = Image.fromarray(pixels)
    tried: dict[int, tuple[bytes, bool]] = {}

    def good(step: int) -> bool:
        if step not in tried:
            memory = io.BytesIO()
            picture.save(memory, quality=ladder[step], **settings)
            tried[step] = memory.getvalue(), _distance(memory, pixels) <= rmse
        return tried[step][1]

    low, high = 0, len(ladder)  # the lowest good step is in low … high; high = none
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if good(middle) else (middle + 1, high)
    for step in (low + neighbour for neighbour in NEIGHBOURS):
        if 0 <= step < len(ladder):
            good(step)
    return (file for file, enough in tried.values() if enough)


def _distance(file: io.BytesIO, pixels: UInt8[np.ndarray, "h w 3"]) -> float:
    """RMSE in [0, 1] between a file's picture and the pixels, rounded as in distance.py."""
    with Image.open(file) as picture:
        decoded = np.asarray(picture.convert("RGB"), dtype=np.int64)
    steps = int(np.square(decoded - pixels).sum())
    return math.sqrt(steps / pixels.size) / 255
