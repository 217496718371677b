"""The training set and the held-out set: which pictures, in which order, with which captions.

Training sets are nested: the one for n is the first n of one seeded order, so that along the curve
each point adds pictures and takes none away. The held-out set is the end of the same order, the
same for every n.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from byheart.data.avatars import avatars
from byheart.data.folder import folder, hub
from byheart.data.sources import Pictures, emoji, photos

if TYPE_CHECKING:
    from byheart.config import Images

BLOCK = 512  # pictures compared at once with all others: 40 MB for 10,000 of them
TILE = 4  # pixels, side of the tiles that near-duplicates are first compared by


@dataclass(frozen=True)
class ImageSet:
    """What the rest of the program sees of a source: 8-bit sRGB squares and what belongs to them.

    names, captions: one for each picture, in the pictures' order.
    attribution: what must stand wherever the pictures are shown; '' where nothing must.
    unreadable: "name: reason" of what could not be read and was skipped.
    passed_over: "name: why" of what is no picture.
    notes: what is to be said of the source before work begins, and on the page.
    near_duplicates: "dropped ~ kept" of what was left out as all but the same picture; by caption
    where no two pictures share one, else by name.
    content_hash: SHA-256 of the training set's pixels and captions, hexadecimal.
    """

    train: UInt8[Tensor, "n 3 s s"]
    held_out: UInt8[Tensor, "h 3 s s"]
    train_captions: tuple[str, ...]
    held_out_captions: tuple[str, ...]
    train_names: tuple[str, ...]
    held_out_names: tuple[str, ...]
    source: str
    attribution: str
    unreadable: tuple[str, ...]
    near_duplicates: tuple[str, ...]
    content_hash: str
    passed_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hashes(self) -> dict[str, str]:
        """Of both sets what `content_hash` is of one."""
        return {
            "train": self.content_hash,
            "held_out": content_hash(self.held_out, self.held_out_captions),
        }


def load_images(config: Images, n_images: int, cache: Path, split: str = "none") -> ImageSet:
    """The first n_images of the source's seeded order, and its last `held_out`.

    Near-duplicates leave first, then all that is left is put into one order. None of it depends on
    `images.size`. split: only every other image, beginning with the first (a) or the second (b),
    so that two models can learn disjoint sets of one source.

    ValueError: n_images above what is left, or a source that cannot be read.
    """
    if config.source == "avatars":
        pictures, available = _avatars(config, n_images, cache, split)
        order = list(range(len(pictures.names)))
        duplicates: list[tuple[int, int]] = []
    else:
        pictures = _read(config, cache)
        order, duplicates = drop_near_duplicates(pictures.small, config.near_duplicate)
        random.Random(config.seed).shuffle(order)
        held_out = _held_out(config, len(order))
        available = len(order) - held_out
        if n_images > available:
            raise ValueError(
                _too_many(config, n_images, len(pictures.names), len(duplicates), held_out)
            )
    start, step = {"none": (0, 1), "a": (0, 2), "b": (1, 2)}[split]
    half = order[start:available:step]
    if n_images > len(half):
        raise ValueError(
            f"n_images={n_images} but split={split} leaves {len(half)} of {available} pictures: "
            f"type n_images={available // 2} or less"
        )
    train, rest = half[:n_images], order[available:]
    pixels = _stack(pictures, train, config.size)
    captions = tuple(pictures.captions[i] for i in train)
    told_apart = len(set(pictures.captions)) == len(pictures.captions)
    labels = pictures.captions if told_apart else pictures.names
    return ImageSet(
        train=pixels,
        held_out=_stack(pictures, rest, config.size),
        train_captions=captions,
        held_out_captions=tuple(pictures.captions[i] for i in rest),
        train_names=tuple(pictures.names[i] for i in train),
        held_out_names=tuple(pictures.names[i] for i in rest),
        source=config.source,
        attribution=pictures.attribution,
        unreadable=pictures.unreadable,
        near_duplicates=tuple(f"{labels[gone]} ~ {labels[stays]}" for gone, stays in duplicates),
        content_hash=content_hash(pixels, captions),
        passed_over=pictures.passed_over,
        notes=pictures.notes,
    )


def _avatars(config: Images, n_images: int, cache: Path, split: str) -> tuple[Pictures, int]:
    """Of a family that need not be listed to its end only what is asked for, and how many of them
    may be trained on; the rest is held out."""
    assert config.style is not None
    if config.held_out != int(config.held_out):
        raise ValueError(
            f"images.held_out={config.held_out}: a family of avatars has no end to take a share "
            "of: type a whole number"
        )
    available = n_images if split == "none" else 2 * n_images
    held_out = int(config.held_out)
    made = avatars(config.style, config.size, config.seed, available, held_out, cache)
    return made, available


def _read(config: Images, cache: Path) -> Pictures:
    match config.source:
        case "emoji":
            return emoji(config.size, cache)
        case "photos":
            return photos(config.size)
        case "folder":
            assert config.path is not None
            return folder(config.path, config.size, config.unreadable)
    assert config.repo is not None
    return hub(config.repo, config.size, config.unreadable)


def _held_out(config: Images, total: int) -> int:
    """How many of `total` pictures are held out: below 1 a fraction, from 1 on a number."""
    asked = config.held_out
    # Through the decimal as it was typed: 0.29 of 100 pictures are 29, though 0.29 * 100 < 29.
    count = int(asked) if asked >= 1 else math.floor(Fraction(str(asked)) * total)
    return min(count, total)


def _too_many(config: Images, asked: int, total: int, duplicates: int, held_out: int) -> str:
    left_out = [f"{duplicates} of them near-duplicates"] if duplicates else []
    left_out += [f"{held_out} of them held out"] if held_out else []
    available = total - duplicates - held_out
    cures = [f"n_images={available} or less"] if available else []
    if held_out and asked <= total - duplicates:
        cures += ["images.held_out=0"]
    has = ", ".join([f"images={config.source} has {total} pictures", *left_out])
    return f"n_images={asked} but {has}: type {', or '.join(cures) or 'a smaller images.held_out'}"


def _stack(pictures: Pictures, order: list[int], size: int) -> UInt8[Tensor, "k 3 s s"]:
    stack = torch.empty((len(order), 3, size, size), dtype=torch.uint8)
    for row, index in zip(stack, order, strict=True):
        row.copy_(torch.from_numpy(pictures.read(index)).permute(2, 0, 1))
    return stack


def content_hash(images: UInt8[Tensor, "n 3 s s"], captions: tuple[str, ...]) -> str:
    """SHA-256 over shape, captions and pixels, as 64 hexadecimal digits."""
    # JSON keeps ("ab", "c") and ("a", "bc") apart.
    digest = hashlib.sha256(json.dumps([list(images.shape), captions]).encode())
    digest.update(images.contiguous().numpy().tobytes())
    return digest.hexdigest()


def drop_near_duplicates(
    images: UInt8[np.ndarray, "k s s 3"], threshold: float
) -> tuple[list[int], list[tuple[int, int]]]:
    """Which images stay, and which go with the image each of them is closest to.

    One by one in the given order, an image goes if its RMSE in [0, 1] to one that stays is below
    the threshold; 0 keeps all. s is a multiple of TILE.

    Sums over tiles bound the distance from below, (Σd)² <= TILE²·Σd², and are TILE² times cheaper
    to compare; only the few pairs they cannot part are compared pixel by pixel. All of it is whole
    numbers, which float64 holds exactly, so that no machine judges a pair differently.
    """
    k, s = images.shape[:2]
    limit = (255 * threshold) ** 2 * s * s * 3
    tiles = images.reshape(k, s // TILE, TILE, s // TILE, TILE, 3).sum((2, 4), dtype=np.float64)
    coarse = tiles.reshape(k, -1)
    squares = (coarse**2).sum(1)
    stays = np.zeros(k, dtype=bool)
    gone: list[tuple[int, int]] = []
    for start in range(0, k, BLOCK):
        block = slice(start, start + BLOCK)
        bounds = squares[block, None] + squares - 2 * coarse[block] @ coarse.T
        for index, bound in enumerate(bounds / TILE**2, start):
            near = np.flatnonzero(stays & (bound < limit))
            apart = (np.subtract(images[index], images[other], dtype=np.int64) for other in near)
            distances = [int((one**2).sum()) for one in apart]
            if distances and min(distances) < limit:
                gone.append((index, int(near[np.argmin(distances)])))
            else:
                stays[index] = True
    return np.flatnonzero(stays).tolist(), gone
