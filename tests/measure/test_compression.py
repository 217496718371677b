"""Memorized bits: the file found is close enough, and no smaller one that is was overlooked."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from byheart.measure.compression import (
    CODECS,
    file_sizes,
    given_back,
    memorized,
    smallest,
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


def noise() -> Tensor:
    draws = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, 64, 64), dtype=torch.uint8, generator=draws)


IMAGES = {"photo": photo(), "flat": flat(), "noise": noise()}


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
        assert smallest(image, bound, codec) == (None if file is None else len(file))
        sizes.append(math.inf if file is None else len(file))
    assert sizes == sorted(sizes, reverse=True)
    # The lossless WebP of two flat colours is the smallest there is, at every bound.
    assert sizes[-1] < sizes[0] or (name, codec) == ("flat", "webp")
    assert sizes[-1] < 2000


@pytest.mark.parametrize("name", ["photo", "flat"])
@pytest.mark.parametrize("codec", ["jpeg", "webp"])
def test_no_quality_at_all_gives_a_file_much_smaller(name: str, codec: str) -> None:
    image = IMAGES[name]
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    for bound in (0.02, 0.06):
        best = math.inf
        for settings, ladder in CODECS[codec][0]:
            for quality in ladder:
                memory = io.BytesIO()
                picture.save(memory, quality=quality, **settings)
                if decoded_rmse(memory.getvalue(), image) <= bound:
                    best = min(best, len(memory.getvalue()))
        found = smallest(image, bound, codec)
        assert found is not None and best <= found <= 1.01 * best


def test_jpeg_without_colour_conversion_comes_closer_where_nothing_else_does() -> None:
    image = photo()
    closest = min(
        decoded_rmse(file, image)
        for settings, _ in CODECS["jpeg"][0]
        for file in [_saved(image, quality=100, **settings)]
    )
    assert smallest(image, closest * 0.9, "jpeg") is not None


def _saved(image: Tensor, **settings: object) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(memory, **settings)  # type: ignore[arg-type]
    return memory.getvalue()


def test_files_are_the_same_every_time() -> None:
    for codec in CODECS:
        assert smallest_file(photo(), 0.05, codec) == smallest_file(photo(), 0.05, codec)


def test_memorized_bits_are_a_sum_over_images() -> None:
    images, rmse = torch.stack([photo(), flat(), noise()]), [0.03, 0.02, 0.0]
    codecs = ["jpeg", "webp"]
    sizes = file_sizes(images, torch.tensor(rmse, dtype=torch.float64), codecs)
    found = memorized(images, sizes, codecs)
    jpeg = [smallest(image, d, "jpeg") for image, d in zip(images[:2], rmse, strict=False)]
    black = smallest(torch.zeros_like(images[0]), 1.0, "jpeg")
    assert None not in jpeg and black is not None
    assert found["jpeg"].bits == 8 * sum(size or 0 for size in jpeg)
    assert (found["jpeg"].images, found["jpeg"].out_of_reach) == (2, 1)  # no JPEG is exact noise
    assert found["jpeg"].raw_bits == 2 * 64 * 64 * 3 * 8
    assert found["jpeg"].header_bits == 2 * 8 * black and 250 < black < 350
    webp = [smallest(image, d, "webp") for image, d in zip(images, rmse, strict=True)]
    assert found["webp"].bits == 8 * sum(size or 0 for size in webp)
    assert (found["webp"].images, found["webp"].out_of_reach) == (3, 0)


def test_nothing_given_back_is_no_bits_and_nothing_in_reach_is_unknown() -> None:
    none = torch.zeros(0, dtype=torch.float64)
    empty = torch.zeros((0, 3, 8, 8), dtype=torch.uint8)
    nothing = memorized(empty, file_sizes(empty, none, ["jpeg"]), ["jpeg"])["jpeg"]
    assert (nothing.images, nothing.out_of_reach, nothing.bits) == (0, 0, 0)
    exact = torch.zeros(1, dtype=torch.float64)
    sizes = file_sizes(noise()[None], exact, ["jpeg"])
    beyond = memorized(noise()[None], sizes, ["jpeg"])["jpeg"]
    assert (beyond.images, beyond.out_of_reach, beyond.bits) == (0, 1, None)


def test_an_image_is_as_close_as_the_median_of_its_copies() -> None:
    def verdicts(nearest: list[int], rmse: list[float], copied: list[bool]) -> Verdicts:
        distance, flags = torch.tensor(rmse, dtype=torch.float64), torch.tensor(copied)
        return Verdicts(
            torch.tensor(nearest), distance, distance, distance, distance, flags, flags.long()
        )

    index, rmse = given_back(
        verdicts(
            [7, 2, 7, 7, 2, 5, 7], [0.3, 0.1, 0.1, 0.2, 0.4, 0.0, 0.0], [True] * 5 + [False] * 2
        )
    )
    assert index.tolist() == [2, 7]
    assert rmse.tolist() == [0.4, 0.2]  # of 0.1 and 0.4 the larger; of 0.1, 0.2, 0.3 the middle
    index, rmse = given_back(verdicts([1, 1], [0.5, 0.5], [False, False]))
    assert len(index) == len(rmse) == 0
