"""What prompts and noises change: a table small enough to do by hand, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.images import grey
from torch import Tensor

from byheart.measure.intervals import wilson
from byheart.measure.prompt_effect import (
    Effect,
    noise_effect,
    prompt_effect,
    same_image,
    spread,
    steering,
)


def pixels(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def bounds(effect: Effect) -> tuple[float, float]:
    return effect.low, effect.high


# ----------------------------------------------------------------------------------------- by hand


def test_two_prompts_and_two_noises_by_hand() -> None:
    # Under the same noise 4 and 3 apart, under the same prompt 20 and 19.
    outputs = torch.stack([grey(10, 30), grey(14, 33)])
    prompts = prompt_effect(outputs, 50 / 255)
    assert prompts.value == pytest.approx(math.sqrt((16 + 9) / 2) / 50, rel=1e-14)
    assert (prompts.prompts, prompts.noises, prompts.pairs) == (2, 2, 2)
    assert bounds(prompts) == pytest.approx((3 / 50, 4 / 50), rel=1e-14)  # one noise twice
    noises = noise_effect(outputs, 50 / 255)
    assert noises.value == pytest.approx(math.sqrt((400 + 361) / 2) / 50, rel=1e-14)
    assert (noises.prompts, noises.noises, noises.pairs) == (2, 2, 2)
    assert bounds(noises) == pytest.approx((19 / 50, 20 / 50), rel=1e-14)


def test_two_prompts_and_two_noises_of_copies_by_hand() -> None:
    nearest = torch.tensor([[0, 1], [0, 1]])
    # The second prompt's second output is near image 1, but no copy of it.
    half = same_image(nearest, torch.tensor([[True, True], [True, False]]))
    assert (half.value, half.prompts, half.noises, half.pairs) == (0.5, 2, 2, 2)
    every = torch.ones(2, 2, dtype=torch.bool)
    assert same_image(nearest, every).value == 1.0
    assert same_image(torch.tensor([[0, 1], [1, 1]]), every).value == 0.5
    assert same_image(torch.tensor([[0, 1], [1, 0]]), every).value == 0.0
    assert same_image(nearest, ~every).value == 0.0


def test_the_spread_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # 30, 70 and 100 apart.
    images = grey(0, 30, 100)
    assert spread(images) == math.sqrt((900 + 4900 + 10000) / 3) / 255
    assert spread(grey(0, 255)) == 1.0
    assert spread(grey(7, 7, 10)) == spread(grey(10, 7, 7)) == math.sqrt(18 / 3) / 255
    monkeypatch.setattr("byheart.measure.prompt_effect.CHUNK", 2)
    assert spread(images) == math.sqrt((900 + 4900 + 10000) / 3) / 255


# ------------------------------------------------------------------------------------- the effects


def by_loop(outputs: Tensor) -> tuple[float, float]:
    """RMS in 8-bit steps: same noise and other prompt, same prompt and other noise."""
    values = outputs.double().flatten(2)
    p, k = values.shape[:2]
    prompts = [
        float((values[a, n] - values[b, n]).square().mean())
        for n in range(k) for a in range(p) for b in range(p) if a < b
    ]  # fmt: skip
    noises = [
        float((values[a, n] - values[a, m]).square().mean())
        for a in range(p) for n in range(k) for m in range(k) if n < m
    ]  # fmt: skip
    return math.sqrt(sum(prompts) / len(prompts)), math.sqrt(sum(noises) / len(noises))


def test_both_effects_are_what_loops_give() -> None:
    outputs = pixels(5, 3, 3, 4, 4)
    prompts, noises = by_loop(outputs)
    effect, other = prompt_effect(outputs, 0.3), noise_effect(outputs, 0.3)
    assert effect.value == pytest.approx(prompts / 255 / 0.3, rel=1e-12) and effect.pairs == 30
    assert other.value == pytest.approx(noises / 255 / 0.3, rel=1e-12) and other.pairs == 15
    low, high = bounds(effect)
    assert low <= prompts / 255 / 0.3 <= high


def test_where_the_noise_decides_the_prompt_has_no_effect_and_the_other_way_round() -> None:
    images = pixels(5, 3, 4, 4)
    unit = spread(images)
    deaf = images[None].expand(3, -1, -1, -1, -1)  # every prompt, the same image per noise
    assert prompt_effect(deaf, unit).value == 0.0 and bounds(prompt_effect(deaf, unit)) == (0, 0)
    # One output per noise, each another of the images: as different as two images are.
    assert noise_effect(deaf, unit).value == pytest.approx(1.0, rel=1e-14)
    obedient = images[:, None].expand(-1, 3, -1, -1, -1)
    assert prompt_effect(obedient, unit).value == pytest.approx(1.0, rel=1e-14)
    assert noise_effect(obedient, unit).value == 0.0


def test_with_one_prompt_there_is_no_prompt_effect_and_with_one_noise_no_noise_effect() -> None:
    outputs = pixels(4, 4, 3, 4, 4)
    assert prompt_effect(outputs[:1], 0.3) == Effect(None, None, None, 1, 4, 0)
    assert noise_effect(outputs[:, :1], 0.3) == Effect(None, None, None, 4, 1, 0)
    assert noise_effect(outputs[:1], 0.3).value is not None
    assert prompt_effect(outputs[:, :0], 0.3) == Effect(None, None, None, 4, 0, 0)


# --------------------------------------------------------------------------- shares with intervals


def test_same_image_counts_pairs_by_hand() -> None:
    # Noise 0: prompts 0, 1, 2 copy image 4, prompt 3 another: 3 of 6 pairs. Noise 1: none copied.
    nearest = torch.tensor([[4, 4], [4, 4], [4, 4], [0, 4]])
    copied = torch.tensor([[True, False]] * 4)
    share = same_image(nearest, copied)
    assert (share.value, share.pairs) == (3 / 12, 12)
    low, high = bounds(share)
    assert low < 0.1 and high > 0.5


@pytest.mark.parametrize("value", [True, False])
def test_what_never_varied_is_as_sure_as_its_separate_pairs(value: bool) -> None:
    zeros = torch.zeros(7, 4, dtype=torch.long)
    share = same_image(zeros, torch.full((7, 4), value))
    # Seven prompts make three pairs that share none, under each of four noises.
    twelve = wilson(12 * value, 12)
    assert (share.value, share.pairs) == (float(value), 84)
    assert bounds(share) == (twelve.low, twelve.high)


def test_between_two_counts_of_separate_pairs_the_interval_covers_both() -> None:
    nearest = torch.arange(100).reshape(5, 20)
    nearest[0, 0] = nearest[1, 0]
    share = same_image(nearest, torch.ones(5, 20, dtype=torch.bool))
    # 1 of 200 pairs, so 0.2 of the 40 that share no output: between none and one.
    assert share.value == 1 / 200
    assert bounds(share) == (wilson(0, 40).low, wilson(1, 40).high)


def test_steering_is_the_share_of_captions_that_were_heard() -> None:
    heard = steering(torch.tensor([[True], [False], [True], [True]]))
    assert (heard.value, heard.prompts, heard.noises, heard.pairs) == (0.75, 4, 1, 4)
    low, high = bounds(heard)
    plain = wilson(3, 4)
    assert low <= plain.low and plain.high <= high
    everyone = steering(torch.ones(100, 1, dtype=torch.bool))
    assert (everyone.low, everyone.high) == (wilson(100, 100).low, 1.0)
    assert steering(torch.zeros(0, 1, dtype=torch.bool)) == Effect(None, None, None, 0, 1, 0)


def test_a_caption_under_many_noises_counts_as_one_caption() -> None:
    half = torch.arange(20)[:, None] % 2 == 0
    low, high = bounds(steering(half.expand(20, 10)))
    plain = wilson(100, 200)
    assert high - low > 2.5 * (plain.high - plain.low)
