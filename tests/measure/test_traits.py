"""What real pictures look like in numbers: hand-computed values and what must not matter."""

from __future__ import annotations

import math

import pytest
import torch
from support.images import noise
from torch import Tensor

from byheart.measure import kinds as module
from byheart.measure.alterations import noisy
from byheart.measure.kinds import from_mean, natural_looks, natural_places, traits


def grey(rows: list[list[int]]) -> Tensor:
    """One image, all three channels alike."""
    return torch.tensor(rows, dtype=torch.uint8).expand(1, 3, -1, -1).clone()


def test_a_step_edge_by_hand() -> None:
    image = grey([[0, 0, 255, 255]] * 4)
    found = traits(image)
    # Half the pixels are 0.5 below the mean, half above.
    assert float(found["contrast"]) == pytest.approx(0.5, abs=1e-15)
    # Of 12 differences across and 12 down a channel, 4 are 1.
    assert float(found["gradient"]) == pytest.approx(math.sqrt(4 / 24), abs=1e-15)
    # The blur makes of 0 0 1 1 the row 0 1/4 3/4 1: squares 1/16 + 1/4 + 1/16 instead of 1.
    assert float(found["sharpness"]) == pytest.approx(1 / 0.375, abs=1e-12)


def test_contrast_is_about_each_channels_own_mean() -> None:
    image = torch.stack([torch.full((4, 4), v, dtype=torch.uint8) for v in (0, 128, 255)])[None]
    assert float(traits(image)["contrast"]) == 0


def test_an_even_image_has_no_contrast_no_gradient_and_no_sharpness() -> None:
    found = traits(grey([[7, 7], [7, 7]]))
    assert {name: float(value) for name, value in found.items()} == {
        "contrast": 0, "gradient": 0, "sharpness": 0, "grain": 0, "speckle": 0,
    }  # fmt: skip


def test_grain_is_what_is_neither_even_nor_an_edge() -> None:
    image = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    assert float(traits(image)["grain"]) == 0
    image[0, 1, 2, 2] = 108  # one pixel of one colour, 8 steps apart
    # It differs by 3/4 of that, its four neighbours by 1/8; diagonal ones by 1/16, half a step.
    assert float(traits(image)["grain"]) == 5 / 64
    image[0, 1, 2, 2] = 228  # an edge: 96 steps; its neighbours 16, diagonal ones 8
    assert float(traits(image)["grain"]) == 4 / 64
    flat = grey([[0] * 8 + [255] * 8] * 16)
    draws = torch.Generator().manual_seed(0)
    assert float(traits(flat)["grain"]) == 0
    assert float(traits(noisy(flat, 4 / 255, draws))["grain"]) > 0.7


def test_fading_changes_contrast_and_not_sharpness() -> None:
    image = noise(4) // 2 * 2
    full, half = traits(image), traits(image // 2)
    assert torch.allclose(half["contrast"], full["contrast"] / 2)
    assert torch.allclose(half["sharpness"], full["sharpness"])


def test_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(11)
    whole = traits(images)
    monkeypatch.setattr(module, "CHUNK", 3)
    parts = traits(images)
    for name, value in whole.items():
        assert torch.equal(value, parts[name])


def test_speckle_is_the_middle_one_of_what_a_loop_gives() -> None:
    for image in noise(6, side=5):
        least = [
            min(
                int((image[:, y, x].int() - image[:, v, u].int()).abs().max())
                for v in range(max(0, y - 1), min(5, y + 2))
                for u in range(max(0, x - 1), min(5, x + 2))
                if (v, u) != (y, x)
            )
            for y in range(5)
            for x in range(5)
        ]
        assert float(traits(image[None])["speckle"]) == sorted(least)[12] / 255


def test_speckle_is_no_edge_and_grows_with_the_noise() -> None:
    checks = grey([[0, 255] * 8, [255, 0] * 8] * 8)  # every pixel has a diagonal neighbour alike
    assert float(traits(checks)["speckle"]) == 0
    lone = torch.full((1, 3, 8, 8), 100, dtype=torch.uint8)
    lone[0, 1, ::2, ::2] = 130  # a fourth of the pixels are alone, by 30 steps of one colour
    assert float(traits(lone)["speckle"]) == 0
    drawing = grey([[0] * 8 + [200] * 8] * 16)
    draws = torch.Generator().manual_seed(0)
    levels = []
    for sigma in (5, 10, 20):
        levels.append(float(traits(noisy(drawing, sigma / 255, draws))["speckle"]))
    assert 0 < levels[0] < levels[1] < levels[2]


def test_the_mean_lies_nearer_to_the_mean_than_any_picture() -> None:
    images = noise(50)
    mean = images.double().mean(0)
    apart = from_mean(images, mean)
    by_hand = [(image.double() - mean).square().mean().sqrt() / 255 for image in images]
    assert torch.allclose(apart, torch.stack(by_hand))
    assert float(from_mean(mean.round().to(torch.uint8)[None], mean)) < float(apart.min()) / 50


def test_a_look_holds_the_central_98_percent_and_what_nobody_can_tell_from_it() -> None:
    images = noise(300)
    plain, slightly, *_ = natural_looks(images, 0.01, traits)
    values = traits(images)
    for name, value in values.items():
        low, high = plain[name]
        assert int((value < low).sum()) <= 3 and int((value > high).sum()) <= 3
    draws = torch.Generator().manual_seed(1)
    for name, value in traits(noisy(images, 0.01, draws)).items():
        low, high = slightly[name]
        assert float(((value >= low) & (value <= high)).double().mean()) >= 0.95


def test_who_comes_near_to_a_real_picture_or_lies_far_from_the_mean_is_in_place() -> None:
    images = noise(150)
    places = natural_places(images, 0.01)
    assert places["nearest"][0] == 0 and places["from_mean"][1] == 1
    mean = images.double().mean(0)
    assert float(from_mean(mean.round().to(torch.uint8)[None], mean)) < places["from_mean"][0]
    inside = from_mean(images, mean) >= places["from_mean"][0]
    assert float(inside.double().mean()) >= 0.95


def test_of_a_few_pictures_the_ranges_reach_beyond_all_of_them() -> None:
    images = noise(6)
    values, look = traits(images), natural_looks(images, 0.01, traits)[0]
    for name, (low, high) in look.items():
        if float(values[name].min()) > 0:
            assert low < float(values[name].min()) and high > float(values[name].max())
