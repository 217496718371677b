"""A folder of pictures of any sizes as one stack, for comparing folders with each other.

The rule for sizes: of every picture, turned upright, the largest centred square, on white where it
is transparent, reduced (or enlarged) to size x size pixels. So a picture and its resized or
re-saved copy become the same square, and what lies outside the square is not compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from byheart.data.folder import folder
from byheart.data.images import drop_near_duplicates
from byheart.data.sources import PHOTOS, SMALL, Pictures, photos

NEAR_DUPLICATE = 0.05  # RMSE in [0, 1] at 64 x 64 below which two pictures are called one


@dataclass(frozen=True)
class Album:
    """Pictures by relative path, in the order of their names.

    captions: '' where nobody wrote one; a file's name is none.
    group: for each picture the place of the one it is a near-duplicate of; its own where of none.
    unreadable: "name: reason" of what counts nowhere.
    bad_captions: what is wrong with captions that cannot be read.
    passed_over: "name: why" of what is no picture. notes: what is to be said of the folder.
    """

    where: str
    pixels: UInt8[Tensor, "n 3 s s"]
    names: tuple[str, ...]
    captions: tuple[str, ...]
    group: tuple[int, ...]
    unreadable: tuple[str, ...]
    bad_captions: tuple[str, ...] = ()
    passed_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @property
    def line(self) -> str:
        """What was found there, before work begins."""
        what = f"{self.where}: {len(self):,} picture{'s' * (len(self) != 1)}"
        lost = f"{len(self.unreadable):,} unreadable"
        said = [words.removeprefix(f"{self.where}: ") for words in self.notes]
        return "; ".join([what, *[lost] * bool(self.unreadable), *said])

    @property
    def distinct(self) -> list[int]:
        """Places of the pictures without the near-duplicates of earlier ones."""
        return sorted(set(self.group))

    def only(self, kept: list[int]) -> Album:
        """The pictures at these places; each its own group."""
        return Album(
            self.where,
            self.pixels[torch.tensor(kept, dtype=torch.long)],
            tuple(self.names[k] for k in kept),
            tuple(self.captions[k] for k in kept),
            tuple(range(len(kept))),
            self.unreadable,
            self.bad_captions,
            self.passed_over,
            self.notes,
        )


def open_album(path: str | Path, size: int, setting: str) -> Album:
    """All pictures below a folder. What cannot be read is left out and listed, captions too.

    setting: what the user typed the path behind, such as --train.
    ValueError: no folder, no pictures in it, none that can be read.
    """
    bad: list[str] = []
    pictures = folder(str(path), size, "skip", setting, bad)
    return _album(str(path), pictures, size, pictures.captions, tuple(bad))


def photographs(size: int) -> Album:
    """The embedded photographs: a reference for who has none."""
    pictures = photos(size)
    return _album("embedded photographs", pictures, size, ("",) * len(PHOTOS))


def _album(
    where: str,
    pictures: Pictures,
    size: int,
    captions: tuple[str, ...],
    bad_captions: tuple[str, ...] = (),
) -> Album:
    count = len(pictures.names)
    pixels = torch.empty((count, 3, size, size), dtype=torch.uint8)
    for index, row in enumerate(pixels):
        square = pictures.small[index] if size == SMALL else pictures.read(index)
        row.copy_(torch.from_numpy(np.array(square)).permute(2, 0, 1))
    _, gone = drop_near_duplicates(pictures.small, NEAR_DUPLICATE)
    group = list(range(count))
    for dropped, kept in gone:
        group[dropped] = kept
    return Album(
        where, pixels, pictures.names, captions, tuple(group), pictures.unreadable, bad_captions,
        pictures.passed_over, pictures.notes,
    )  # fmt: skip
