"""Pictures for people: what the model made is shown pixel by pixel, and the same numbers give the
same bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image
from support.sweep_pictures import places

from byheart.show.pictures import live, png_bytes, sheet


def noise(count: int, side: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize(("side", "factor"), [(8, 8), (48, 2), (100, 1)])
def test_the_sheet_shows_every_output_and_its_nearest_image_pixel_by_pixel(
    side: int, factor: int
) -> None:
    first, second, train = noise(19, side, 0), noise(2, side, 1), noise(3, side, 2)
    chosen = [k % 2 for k in range(19)]
    canvas = sheet([("one", first, train[chosen]), ("two", second, train[[2, 2]])])
    assert canvas.mode == "RGB"
    made = [places(canvas, output) for output in [*first, *second]]
    shown = [places(canvas, image) for image in train]
    assert [len(spots) for spots in made] == [1] * 21
    assert [len(spots) for spots in shown] == [10, 9, 2]
    assert {spot[0] for spots in [*made, *shown] for spot in spots} == {factor}
    for k, index in enumerate([*chosen, 2, 2]):  # each output stands right above its own
        _, row, column = made[k][0]
        below = [y for _, y, x in shown[index] if x == column and y > row]
        assert min(below) - row < 1.5 * side * factor


def test_the_live_view_shows_the_training_image_and_the_outputs() -> None:
    image, outputs = noise(1, 16, 0)[0], noise(4, 16, 1)
    canvas = live(image, outputs, "after 10 steps")
    spots = [places(canvas, picture) for picture in (image, *outputs)]
    assert [len(spot) for spot in spots] == [1] * 5
    columns = [spot[0][2] for spot in spots]
    assert columns == sorted(columns)  # the training image first, then the outputs in order
    assert png_bytes(canvas) != png_bytes(live(image, outputs, "after 20 steps"))


# ------------------------------------------------------------------------------------------ bytes


def test_a_png_repeats_its_bytes_and_gives_its_pixels_back() -> None:
    image = noise(1, 9, 0)[0]
    data = png_bytes(Image.fromarray(image))
    assert data == png_bytes(Image.fromarray(image))
    assert np.asarray(Image.open(io.BytesIO(data))).tolist() == image.tolist()
