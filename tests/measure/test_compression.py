"""Memorized bits: the file found is close enough, and no smaller one that is was overlooked."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from support.images import noise
from torch import Tensor

from byheart.measure.compression import (
    CODECS,
    file_sizes,
    given_back,
    memorized,
    smallest_file,
)
from byheart.measure.copying import Verdicts

BOUNDS = (0.004, 0.01, 0.02, 0.04, 0.08, 0.16, 0.4)


def photo(side: int = 64) -> Tensor:
    picture = Image.fromarray(data.astronaut()).resize((side, side), Image.Resampling.BOX)
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def flat() -> Tensor:
    """A disc in one colour on another, as emoji are."""
    across = torch.arange(64) - 32
    inside = across[:, None] ** 2 + across[None] ** 2 < 600
    colours = torch.tensor([[250, 200, 30], [20, 60, 90]], dtype=torch.uint8)
    return colours[inside.long()].permute(2, 0, 1).contiguous()


IMAGES = {"photo": photo(), "flat": flat(), "noise": noise(1, side=64)[0]}


def decoded_rmse(file: bytes, image: Tensor) -> float:
    """In numpy's floats, apart from the code under test."""
    with Image.open(io.BytesIO(file)) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(float)
    return float(np.sqrt(((pixels - image.permute(1, 2, 0).numpy()) ** 2).mean()) / 255)


@pytest.mark.parametrize("codec", [*CODECS])
@pytest.mark.parametrize("name", [*IMAGES])
def test_the_file_found_is_as_close_and_a_looser_bound_needs_no_more(name: str, codec: str) -> None:
    image, sizes = IMAGES[name], []
    for bound in BOUNDS:
        file = smallest_file(image, bound, codec)
        if file is not None:
            assert decoded_rmse(file, image) <= bound * (1 + 1e-12)
            with Image.open(io.BytesIO(file)) as picture:
                assert picture.format == codec.upper() and picture.size == (64, 64)
        sizes.append(math.inf if file is None else len(file))
    assert sizes == sorted(sizes, reverse=True)
    # The lossless WebP of two flat colours is the smallest there is, at every bound.
    assert sizes[-1] < sizes[0] or (name, codec) == ("flat", "webp")
    assert sizes[-1] < 2000


def saved(image: Tensor, **settings: Any) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(memory, **settings)
    return memory.getvalue()


@pytest.mark.parametrize("name", ["photo", "flat"])
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_no_quality_at_all_gives_a_file_much_smaller(name: str, codec: str) -> None:
    image = IMAGES[name]
    files = [
        saved(image, quality=quality, **settings)
        for settings, ladder in CODECS[codec][0]
        for quality in ladder
    ]
    apart = [decoded_rmse(file, image) for file in files]
    for bound in (0.02, 0.06):
        best = min(len(file) for file, rmse in zip(files, apart, strict=True) if rmse <= bound)
        found = smallest_file(image, bound, codec)
        assert best <= len(found) <= 1.01 * best
        assert found == smallest_file(image, bound, codec)


def test_jpeg_without_colour_conversion_comes_closer_where_nothing_else_does() -> None:
    image = photo()
    best = [saved(image, quality=100, **settings) for settings, _ in CODECS["jpeg"][0]]
    closest = min(decoded_rmse(file, image) for file in best)
    assert smallest_file(image, closest * 0.9, "jpeg") is not None


def test_memorized_bits_are_a_sum_over_images() -> None:
    images, rmse = torch.stack([*IMAGES.values()]), [0.03, 0.02, 0.0]
    codecs = ["jpeg", "webp"]
    sizes = file_sizes(images, torch.tensor(rmse, dtype=torch.float64), codecs)
    found = memorized(images, sizes, codecs)
    files = {
        codec: [smallest_file(image, d, codec) for image, d in zip(images, rmse, strict=True)]
        for codec in codecs
    }
    for codec in codecs:
        assert found[codec].bits == 8 * sum(len(file or b"") for file in files[codec])
    black = smallest_file(torch.zeros_like(images[0]), 1.0, "jpeg") or b""
    assert (found["jpeg"].images, found["jpeg"].out_of_reach) == (2, 1)  # no JPEG is exact noise
    assert found["jpeg"].raw_bits == 2 * 64 * 64 * 3 * 8
    assert found["jpeg"].header_bits == 2 * 8 * len(black) and 250 < len(black) < 350
    assert (found["webp"].images, found["webp"].out_of_reach) == (3, 0)


@pytest.mark.parametrize(("count", "expected"), [(0, (0, 0, 0)), (1, (0, 1, None))])
def test_nothing_given_back_is_no_bits_and_nothing_in_reach_is_unknown(
    count: int, expected: tuple[int, int, int | None]
) -> None:
    images = IMAGES["noise"].expand(count, -1, -1, -1)
    sizes = file_sizes(images, torch.zeros(count, dtype=torch.float64), ["jpeg"])
    found = memorized(images, sizes, ["jpeg"])["jpeg"]
    assert (found.images, found.out_of_reach, found.bits) == expected


def test_an_image_is_as_close_as_the_median_of_its_copies() -> None:
    def verdicts(nearest: list[int], rmse: list[float], copied: list[bool]) -> Verdicts:
        distance, flags = torch.tensor(rmse, dtype=torch.float64), torch.tensor(copied)
        return Verdicts(
            torch.tensor(nearest), distance, distance, distance, distance, flags, flags.long()
        )

    copied = [True] * 5 + [False] * 2
    index, rmse = given_back(
        verdicts([7, 2, 7, 7, 2, 5, 7], [0.3, 0.1, 0.1, 0.2, 0.4, 0.0, 0.0], copied)
    )
    assert index.tolist() == [2, 7]
    assert rmse.tolist() == [0.4, 0.2]  # of 0.1 and 0.4 the larger; of 0.1, 0.2, 0.3 the middle
    index, rmse = given_back(verdicts([1, 1], [0.5, 0.5], [False, False]))
    assert len(index) == len(rmse) == 0
