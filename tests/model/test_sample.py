"""One output per prompt and noise seed, whatever else is asked and by however many processes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from support.training import SHAPE, Process, compose, narrow
from torch import Tensor

from byheart.config import Sample
from byheart.model.objective import build_schedule
from byheart.model.rng import Stream, generator
from byheart.model.sample import Conditions, initial_noise, sample, sample_shared
from byheart.model.unet import build_unet

CPU = torch.device("cpu")
# Seven questions: three prompts, some of them with the same noise.
PROMPTS = torch.tensor([0, 1, 2, 1, 0, 2, 1])
NOISES = torch.tensor([0, 0, 0, 1, 2, 2, 3])


@cache
def unet() -> UNet2DConditionModel:
    return build_unet(narrow("unet.zero_init=false").unet, 12, 8, 8, seed=0).eval()


@cache
def conditions() -> Conditions:
    rows = torch.randn(3, 4, 8, generator=torch.Generator().manual_seed(0))
    return Conditions(build_schedule(compose()), rows, SHAPE)


def settings(**changes: Any) -> Sample:
    return replace(Sample(steps=3, sampler="ddim", guidance=1.0, batch=7), **changes)


class Echo:
    """A network that answers with its prompt's mean and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, int, Tensor]] = []

    def __call__(
        self, x: Tensor, t: Tensor, prompt: Tensor, return_dict: bool = True
    ) -> tuple[Tensor]:
        assert not return_dict
        self.asked.append((x.clone(), int(t), prompt.clone()))
        return (prompt.mean((1, 2))[:, None, None, None].expand_as(x).clone(),)


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_an_output_does_not_depend_on_what_else_is_in_the_batch(
    sampler: str, guidance: float
) -> None:
    asked = settings(sampler=sampler, guidance=guidance)
    together = sample(unet(), conditions(), PROMPTS, NOISES, 0, asked, CPU)
    assert together.flatten(1).unique(dim=0).shape[0] == 7  # each question its own answer
    apart = sample(unet(), conditions(), PROMPTS, NOISES, 0, replace(asked, batch=1), CPU)
    assert (apart - together).abs().max() < 1e-5
    order = torch.tensor([5, 2, 6])  # other questions asked, in another order
    some = sample(unet(), conditions(), PROMPTS[order], NOISES[order], 0, asked, CPU)
    assert (some - together[order]).abs().max() < 1e-5


def test_sampling_leaves_no_trace() -> None:
    before = torch.get_rng_state()
    one = sample(unet(), conditions(), PROMPTS, NOISES, 0, settings(), CPU)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(sample(unet(), conditions(), PROMPTS, NOISES, 0, settings(), CPU), one)
    assert one.device == CPU and not one.requires_grad


def test_the_noise_seed_decides_the_initial_noise_whatever_the_prompt() -> None:
    echo = Echo()
    sample(echo, conditions(), PROMPTS, NOISES, 5, settings(), CPU)
    first = echo.asked[0][0]
    for row, noise in zip(first, NOISES, strict=True):
        assert torch.equal(row, initial_noise(5, int(noise), SHAPE))
    assert torch.equal(first[0], first[1]) and not torch.equal(first[0], first[3])


def test_ancestral_sampling_takes_ho_et_als_posterior_and_the_noise_seeds_own_noise() -> None:
    echo, asked = Echo(), settings(sampler="ddpm", steps=4, batch=2)
    sample(echo, conditions(), PROMPTS[:2], torch.tensor([3, 9]), 5, asked, CPU)
    signal = conditions().schedule.alphas_cumprod.double()
    x0 = conditions().prompts[PROMPTS[:2]].mean((1, 2))[:, None, None, None].double()
    draws = {k: generator("cpu", 5, Stream.STEPS, k) for k in (3, 9)}
    for now, after in pairwise(echo.asked):
        a, b = signal[now[1]], signal[after[1]]
        step = a / b  # alpha of one long step, Ho et al. 2020, eq. 7
        mean = b.sqrt() * (1 - step) / (1 - a) * x0
        mean = mean + step.sqrt() * (1 - b) / (1 - a) * now[0].double()
        spread = ((1 - b) / (1 - a) * (1 - step)).sqrt()
        added = torch.stack([torch.randn(SHAPE, generator=draws[k]) for k in (3, 9)])
        assert torch.allclose(after[0].double(), mean + spread * added, atol=1e-5)


def test_initial_noises_are_standard_normal_and_unrelated() -> None:
    noises = torch.stack([initial_noise(0, k, SHAPE) for k in range(30)]).flatten(1)
    others = torch.stack([initial_noise(1, k, SHAPE) for k in range(30)]).flatten(1)
    assert abs(float(noises.mean())) < 5 / noises.numel() ** 0.5
    assert float(noises.std()) == pytest.approx(1, rel=0.02)
    apart = torch.corrcoef(torch.cat([noises, others])).fill_diagonal_(0)
    assert float(apart.abs().max()) < 6 / noises.shape[1] ** 0.5


@pytest.mark.parametrize("guidance", [1.0, 1.5, 7.5])
def test_guidance_goes_on_from_the_empty_prompt(guidance: float) -> None:
    means = torch.tensor([0.25, 1.0, -0.5])
    given = replace(conditions(), prompts=means[:, None, None].expand(3, 4, 8))
    echo = Echo()
    made = sample(echo, given, PROMPTS, NOISES, 0, settings(guidance=guidance), CPU)
    # Ho & Salimans 2022, eq. 6. A network that says x_0 has the last word on the exact schedule.
    expected = means[0] + guidance * (means[PROMPTS] - means[0])
    assert torch.allclose(made, expected[:, None, None, None].expand_as(made), atol=1e-5)
    assert len(echo.asked) == (3 if guidance == 1 else 6)  # no guidance costs no second pass
    if guidance > 1:
        (x, t, _), (again, same_t, free) = echo.asked[:2]
        assert torch.equal(x, again) and t == same_t
        assert torch.equal(free, given.prompts[:1].expand_as(free))


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_sampling_begins_at_the_last_timestep_and_goes_down(sampler: str) -> None:
    echo = Echo()
    sample(echo, conditions(), PROMPTS, NOISES, 0, settings(sampler=sampler, steps=8), CPU)
    assert [t for _, t, _ in echo.asked] == [999, 874, 749, 624, 499, 374, 249, 124]


@pytest.mark.parametrize("sampler", ["ddpm", "ddim"])
def test_who_watches_sees_what_the_sampler_expects_to_end_at(sampler: str) -> None:
    seen: list[Tensor] = []
    given: list[Tensor] = []

    def watch(noisy: Tensor, guess: Tensor) -> None:
        given.append(noisy.clone())
        seen.append(guess.clone())

    asked = (unet(), conditions(), PROMPTS, NOISES, 0, settings(sampler=sampler, batch=4), CPU)
    made = sample(*asked, watch=watch)
    noises = [initial_noise(0, int(k), conditions().shape) for k in NOISES]
    assert torch.equal(torch.cat([given[0], given[3]]), torch.stack(noises))
    assert [len(guess) for guess in seen] == [4, 4, 4, 3, 3, 3]
    assert torch.equal(torch.cat([seen[2], seen[5]]), made)  # after the last step it is there
    assert not torch.equal(seen[0], seen[2]) and torch.equal(sample(*asked), made)


@pytest.mark.parametrize("world", [1, 2, 3, 8, 11])
@pytest.mark.parametrize("total", [1, 2, 7])
def test_any_number_of_processes_gives_the_same_outputs_in_the_same_order(
    world: int, total: int
) -> None:
    prompts, noises = PROMPTS[:total], NOISES[:total]
    asked = settings(batch=2, guidance=2.0)
    whole = sample(Echo(), conditions(), prompts, noises, 0, asked, CPU)

    def made_by(index: int, of_all: list[Tensor] | None = None) -> tuple[Tensor, list[Tensor]]:
        one = Process(index, world, of_all)
        return sample_shared(Echo(), conditions(), prompts, noises, 0, asked, one), one.given

    handed_in = [given[0] for _, given in map(made_by, range(world)) if given]
    for index in range(world):
        made, _ = made_by(index, handed_in)
        assert torch.allclose(made, whole, atol=1e-6)
