"""What real pictures look like in numbers: hand-computed values and what must not matter."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from byheart.measure import kinds as module
from byheart.measure.kinds import natural_ranges, outside, traits


def grey(rows: list[list[int]]) -> Tensor:
    """One image, all three channels alike."""
    return torch.tensor(rows, dtype=torch.uint8).expand(1, 3, -1, -1).clone()


def some(count: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 8, 8), generator=draws, dtype=torch.uint8)


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
        "contrast": 0, "gradient": 0, "sharpness": 0, "grain": 0,
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
    noisy = flat.float() + 4 * torch.randn(flat.shape, generator=draws)
    noisy = noisy.clamp(0, 255).round().to(torch.uint8)
    assert float(traits(flat)["grain"]) == 0 and float(traits(noisy)["grain"]) > 0.7


def test_blurring_lowers_sharpness_and_gradient_and_a_second_time_less() -> None:
    edge = grey([[0] * 16 + [255] * 16] * 32)
    soft = torch.nn.functional.avg_pool2d(edge.float(), 5, 1, 2, count_include_pad=False)
    soft = soft.round().to(torch.uint8)
    sharp, blurred = traits(edge), traits(soft)
    assert blurred["sharpness"] < sharp["sharpness"] / 1.5
    assert blurred["gradient"] < sharp["gradient"]
    assert blurred["sharpness"] >= 1


def test_fading_changes_contrast_and_not_sharpness() -> None:
    image = some(4) // 2 * 2
    full, half = traits(image), traits(image // 2)
    assert torch.allclose(half["contrast"], full["contrast"] / 2)
    assert torch.allclose(half["sharpness"], full["sharpness"])


def test_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    images = some(11)
    whole = traits(images)
    monkeypatch.setattr(module, "CHUNK", 3)
    parts = traits(images)
    for name, value in whole.items():
        assert torch.equal(value, parts[name])


def test_the_ranges_hold_the_central_98_percent() -> None:
    images = some(300)
    ranges = natural_ranges(images)
    assert set(ranges) == {"contrast", "gradient", "sharpness", "grain", "nearest"}
    for name, value in traits(images).items():
        low, high = ranges[name]
        below, above = int((value < low).sum()), int((value > high).sum())
        # Grain is a count of pixels, and may be the same for several images.
        assert (below == above == 3) or (name == "grain" and max(below, above) <= 3)


def test_one_value_outside_is_enough() -> None:
    values = {"a": torch.tensor([0.5, 2.0, 0.5, -1.0]), "b": torch.tensor([0.0, 0.0, 5.0, 9.0])}
    assert outside(values, {"a": (0, 1), "b": (0, 1)}).tolist() == [False, True, True, True]
