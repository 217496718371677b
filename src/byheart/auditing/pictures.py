"""A folder of pictures of any sizes as one stack, for comparing folders with each other.

The rule for sizes: of every picture, turned upright, the largest centred square, on white where it
is transparent, reduced (or enlarged) to size x size pixels. So a picture and its resized or
re-saved copy become the same square. What else of the picture somebody may train on is kept as its
views, in grey and small.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from byheart.auditing.views import View, Views, gathered, squares_only, views_of
from byheart.data.decode import Picture, resize
from byheart.data.folder import folder
from byheart.data.images import drop_near_duplicates
from byheart.data.sources import SMALL, photos
from byheart.data.tiles import sheets_named, tiles_of

NEAR_DUPLICATE = 0.05  # RMSE in [0, 1] at 64 x 64 below which two pictures are called one

Square = UInt8[np.ndarray, "s s 3"]
Read = Callable[[int, int], Square]


@dataclass(frozen=True)
class Album:
    """Pictures by relative path, in the order of their names.

    captions: '' where nobody wrote one; a file's name is none.
    group: for each picture the place of the one it is a near-duplicate of; its own where of none.
    unreadable: "name: reason" of what counts nowhere.
    bad_captions: what is wrong with captions that cannot be read.
    passed_over: "name: why" of what is no picture. notes: what is to be said of the folder.
    views: what else of each a model may have learned, where it differs.
    read: the picture at a place as a square of another side; None where a file holds several.
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
    views: Views = field(default_factory=lambda: gathered([]))
    read: Read | None = None

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

    @property
    def squares(self) -> dict[str, Square]:
        """By name, as they are compared."""
        return dict(zip(self.names, self.pixels.permute(0, 2, 3, 1).numpy(), strict=True))

    def only(self, kept: list[int]) -> Album:
        """The pictures at these places; each its own group."""
        read = self.read
        return replace(
            self,
            pixels=self.pixels[torch.tensor(kept, dtype=torch.long)],
            names=tuple(self.names[k] for k in kept),
            captions=tuple(self.captions[k] for k in kept),
            group=tuple(range(len(kept))),
            views=self.views.only(kept),
            read=None if read is None else lambda place, side: read(kept[place], side),
        )


def channels_first(square: Square) -> UInt8[Tensor, "3 s s"]:
    return torch.from_numpy(np.ascontiguousarray(square)).permute(2, 0, 1).contiguous()


def picture(image: UInt8[Tensor, "3 h w"]) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


Tiles = Literal["pictures", "views", "one"]


def open_album(path: str | Path, size: int, setting: str, tiles_are: Tiles = "views") -> Album:
    """All pictures below a folder. What cannot be read is left out and listed, captions too.

    setting: what the user typed the path behind, such as --train. tiles_are: of a sheet of equal
    tiles each is a picture, or a view of the one that the sheet is, or nothing by itself.
    ValueError: no folder, no pictures in it, none that can be read.
    """
    bad: list[str] = []
    squares: list[UInt8[Tensor, "3 s s"]] = []
    views: list[list[View]] = []
    sheets: dict[str, int] = {}

    def read(name: str, picture: Picture) -> list[tuple[str, UInt8[np.ndarray, "64 64 3"]]]:
        tiles = tiles_of(picture) if tiles_are != "one" else []
        if tiles:
            sheets[name] = len(tiles)
        parts, within = [(name, picture)], tiles
        if tiles and tiles_are == "pictures":
            parts, within = [(f"{name} {place}", tile) for place, tile in tiles], []
        centres = [part.rgb(part.centre) for _, part in parts]
        views.extend(
            views_of(part, centre, within) for (_, part), centre in zip(parts, centres, strict=True)
        )
        squares.extend(channels_first(resize(centre, size)) for centre in centres)
        small = (resize(centre, SMALL) for centre in centres)
        return [(part, square) for (part, _), square in zip(parts, small, strict=True)]

    pictures = folder(str(path), size, "skip", setting, bad, read)
    notes = pictures.notes
    if sheets:
        what = (
            "sheets cut into their tiles, each of which counts (--whole takes them as they are)"
            if tiles_are == "pictures"
            else "sheets of tiles, each one picture, of which every tile is looked for too"
        )
        notes += (f"{path}: {what}: {sheets_named(sheets)}",)
    group = list(range(len(squares)))
    for dropped, kept in drop_near_duplicates(pictures.small, NEAR_DUPLICATE)[1]:
        group[dropped] = kept
    return Album(
        str(path), torch.stack(squares), pictures.names, pictures.captions, tuple(group),
        pictures.unreadable, tuple(bad), pictures.passed_over, notes, gathered(views),
        None if sheets and tiles_are == "pictures" else pictures.read,
    )  # fmt: skip


def photographs(size: int) -> Album:
    """The embedded photographs: a reference for who has none."""
    pictures = photos(size)
    count = len(pictures.names)
    pixels = torch.stack([channels_first(pictures.read(k)) for k in range(count)])
    return Album(
        "embedded photographs", pixels, pictures.names, ("",) * count, tuple(range(count)), (),
        views=squares_only(pixels), read=pictures.read,
    )  # fmt: skip
