"""Sheets of several pictures are cut where they were put together, and nothing else is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from byheart.data.decode import opened
from byheart.data.sources import photos
from byheart.data.tiles import tiles_of

SIDE = 96


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    found = photos(SIDE)
    return [found.read(k) for k in range(len(found.names))]


def cut(image: Image.Image) -> list[np.ndarray]:
    with opened(image) as picture:
        return [np.array(tile.image.convert("RGB")) for _, tile in tiles_of(picture)]


def sheet(pictures: list[np.ndarray], rows: int, columns: int, gap: int, above: int) -> Image.Image:
    width, height = columns * SIDE + (columns - 1) * gap, rows * SIDE + (rows - 1) * gap + above
    made = Image.new("RGB", (width, height), "white")
    for k in range(rows * columns):
        left, upper = k % columns * (SIDE + gap), k // columns * (SIDE + gap) + above
        made.paste(Image.fromarray(pictures[k % len(pictures)]), (left, upper))
    return made


@pytest.mark.parametrize("rows", [1, 2, 4])
@pytest.mark.parametrize("columns", [2, 3, 4])
@pytest.mark.parametrize(("gap", "above"), [(0, 0), (6, 0), (4, 30)])
def test_every_tile_comes_back_as_it_went_in(
    pictures: list[np.ndarray], rows: int, columns: int, gap: int, above: int
) -> None:
    found = cut(sheet(pictures, rows, columns, gap, above))
    assert len(found) == rows * columns
    for k, tile in enumerate(found):
        assert np.abs(tile.astype(int) - pictures[k % len(pictures)]).max() == 0


@pytest.mark.parametrize("quality", [None, 75, 30])
def test_one_picture_stays_one(pictures: list[np.ndarray], quality: int | None) -> None:
    """A photograph, one in large pixels, and one that JPEG has cut into its own blocks."""
    for pixels in pictures:
        for image in (
            Image.fromarray(pixels),
            Image.fromarray(pixels).resize((16, 16)).resize((SIDE, SIDE), Image.Resampling.NEAREST),
        ):
            if quality is not None:
                file = io.BytesIO()
                image.save(file, "JPEG", quality=quality)
                image = Image.open(file)
            assert cut(image) == []


def test_two_alike_things_on_one_ground_are_one_drawing() -> None:
    drawing = Image.new("RGB", (200, 120), "white")
    for left in (30, 110):
        drawing.paste("red", (left, 20, left + 60, 100))
    assert cut(drawing) == []
