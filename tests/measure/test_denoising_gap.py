"""The denoising gap: errors known by hand, the same noise for all, None where nothing is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from byheart.measure.denoising_gap import Level, gap, spread_levels
from byheart.model.ideal import IdealDenoiser

PROMPT = torch.arange(6.0).reshape(2, 3)
SHAPE = (2, 4, 4)


def schedule(prediction: str = "sample", exact: bool = True) -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
        rescale_betas_zero_snr=exact, prediction_type=prediction, clip_sample=False,
    )  # fmt: skip


def flat(*values: float) -> Tensor:
    """One latent for each value, all of its numbers alike."""
    return torch.tensor(values)[:, None, None, None].expand(-1, *SHAPE).clone()


def normal(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


class Zero:
    """A denoiser that always says 0 and notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor, prompt: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert torch.is_inference_mode_enabled() and not return_dict
        self.asked.append((x.clone(), t.clone(), prompt.clone()))
        return (torch.zeros_like(x),)


def run(denoiser: Any, train: Tensor, held_out: Tensor, **given: Any) -> list[Level]:
    plan = given.get("schedule", schedule())
    return gap(
        denoiser,
        given.get("ideal", IdealDenoiser(plan, train)),
        plan, train, held_out, PROMPT,
        given.get("levels", [0, 500, 998]),
        given.get("draws", 8), given.get("seed", 0), given.get("batch", 3),
    )  # fmt: skip


# ------------------------------------------------------------------------------------- the levels


@pytest.mark.parametrize("exact", [True, False])
def test_eight_levels_go_evenly_from_nearly_clean_to_nearly_pure_noise(exact: bool) -> None:
    plan = schedule(exact=exact)
    chosen = spread_levels(plan)
    assert len(chosen) == 8 and chosen[0] == 0 and chosen[-1] == 999
    noise = (1 - plan.alphas_cumprod.double()[chosen]).sqrt()
    assert float(noise[0]) < 0.03 and float(noise[-1]) > 0.997
    steps = noise.diff()
    assert torch.allclose(steps, steps.mean().expand(7), rtol=0.02)


# -------------------------------------------------------------------------------- known errors


def test_who_always_says_zero_errs_by_the_square_of_the_image() -> None:
    # Six draws over three images: each twice. Seven over two: four times the first.
    for level in run(Zero(), flat(1.0, 2.0, 4.0), flat(3.0), draws=6):
        assert level.train == pytest.approx((1 + 4 + 16) / 3) and level.held_out == 9.0
    for level in run(Zero(), flat(1.0, 3.0), flat(0.0, 2.0), draws=7):
        assert level.train == pytest.approx((4 * 1 + 3 * 9) / 7)
        assert level.held_out == pytest.approx(3 * 4 / 7)
    # Three draws over six images: every second one.
    images = flat(*(2.0**k for k in range(6)))
    for level in run(Zero(), images, images.flip(0), draws=3):
        assert level.train == pytest.approx((1 + 16 + 256) / 3)
        assert level.held_out == pytest.approx((1024 + 64 + 4) / 3)


def test_of_one_image_the_ideal_knows_it_and_nothing_else() -> None:
    train, held_out = normal(1), normal(5, seed=1)
    for level in run(Zero(), train, held_out, draws=10, levels=None):
        apart = (held_out.double() - train.double()).square().mean()
        assert level.ideal_train == 0.0
        assert level.ideal_held_out == pytest.approx(float(apart), rel=1e-12)


def test_a_perfect_memorizer_has_no_distance_to_the_ideal() -> None:
    train, held_out = normal(20), normal(20, seed=1)
    for prediction in ("sample", "v_prediction", "epsilon"):
        plan = schedule(prediction, exact=False)
        levels = run(
            IdealDenoiser(plan, train), train, held_out, schedule=plan, levels=None, draws=20
        )
        for level in levels:
            assert level.train == level.ideal_train and level.held_out == level.ideal_held_out
            # What it has seen comes back while it can tell which; what it has not, never.
            if level.noise_level < 0.5:
                assert level.train < 1e-6
            if level.noise_level < 0.8:
                assert level.held_out > 1 > 1.5 * level.train


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_all_three_ways_of_saying_it_have_the_same_error(prediction: str) -> None:
    said, known = (
        run(Zero(), normal(6), normal(4, seed=1), schedule=schedule(one, exact=False),
            levels=[0, 300, 600, 990])
        for one in (prediction, "sample")
    )  # fmt: skip
    for level, other in zip(said, known, strict=True):
        for name in ("ideal_train", "ideal_held_out"):
            # x_0 from a float32 noise is worth as many digits as there is signal.
            expected = pytest.approx(getattr(other, name), rel=1e-4, abs=1e-10)
            assert getattr(level, name) == expected


def test_what_the_network_says_becomes_an_image_as_the_papers_say() -> None:
    # Says 0. As v: x_0 = alpha x_t. As noise: x_0 = x_t / alpha. Noise by hand from what it saw.
    t, draws, image = 600, 5, flat(1.5)
    for prediction in ("v_prediction", "epsilon"):
        plan, says = schedule(prediction), Zero()
        level = run(says, image, flat(), schedule=plan, levels=[t], draws=draws, batch=draws)[0]
        noisy, kept = says.asked[0][0].double(), float(plan.alphas_cumprod[t].double())
        x0 = noisy * math.sqrt(kept) if prediction == "v_prediction" else noisy / math.sqrt(kept)
        assert level.train == pytest.approx(float((x0 - 1.5).square().mean()), rel=1e-12)


def test_the_noise_of_pure_noise_says_nothing_of_the_image() -> None:
    train, held_out = normal(3), normal(3, seed=1)
    plan = schedule("epsilon")
    level, last = run(Zero(), train, held_out, schedule=plan, levels=[998, 999])
    assert last == Level(999, 1.0, None, None, None, None)
    assert level.train is not None and level.ideal_held_out is not None
    # v does: at pure noise it is -x_0, and the ideal says the mean.
    v = run(Zero(), train, held_out, schedule=schedule("v_prediction"), levels=[999], draws=3)[0]
    assert v.train == pytest.approx(float(train.double().square().mean()), rel=1e-12)
    mean = train.double().mean(0)
    assert v.ideal_train == pytest.approx(float((train - mean).square().mean()), rel=1e-5)


def test_without_held_out_images_their_errors_are_unknown() -> None:
    for level in run(Zero(), flat(1.0), flat()):
        assert level.held_out is None and level.ideal_held_out is None
        assert level.train == 1.0 and level.ideal_train == 0.0


# -------------------------------------------------------------------------------- the same noise


def seen(levels: list[int], draws: int = 6, **given: Any) -> Tensor:
    """The noise in every input, by level, which of the four errors, and draw."""
    sets, model, ideal = (normal(4), normal(3, seed=1)), Zero(), Zero()
    run(model, *sets, ideal=ideal, levels=levels, draws=draws, **given)
    kept = schedule().alphas_cumprod[levels].view(-1, 1, 1, 1, 1, 1)
    clean = torch.stack([images[torch.arange(draws) * len(images) // draws] for images in sets])
    asked = [torch.cat([x for x, _, _ in says.asked]) for says in (model, ideal)]
    x = torch.stack([one.view(len(levels), 2, draws, *SHAPE) for one in asked], 1)
    return ((x - kept[:, None].sqrt() * clean) / (1 - kept[:, None]).sqrt()).flatten(1, 2)


def test_model_and_ideal_training_and_held_out_images_get_the_same_noise() -> None:
    found = seen([400, 900])
    assert torch.allclose(found, found[:, :1].expand_as(found), atol=1e-5)
    distinct = found[:, 0].flatten(0, 1)
    alike = torch.corrcoef(distinct.flatten(1)).fill_diagonal_(0)
    assert float(alike.abs().max()) < 0.75  # 32 numbers each
    assert float(distinct.std()) == pytest.approx(1, abs=0.15)
    assert abs(float(distinct.mean())) < 0.2


def test_the_noise_depends_on_seed_level_and_draw_and_on_nothing_else() -> None:
    found = seen([400, 900])
    assert torch.allclose(seen([900, 400]).flip(0), found, atol=1e-5)
    assert torch.allclose(seen([400, 900], batch=100), found, atol=1e-5)
    assert torch.allclose(seen([900], draws=3), found[1:, :, :3], atol=1e-5)
    assert not torch.allclose(seen([400], seed=1), found[:1], atol=0.1)


@pytest.mark.parametrize("batch", [1, 4, 100])
def test_the_batch_bounds_what_is_asked_at_once_and_changes_nothing_else(batch: int) -> None:
    train, held_out = normal(4), normal(3, seed=1)
    whole = run(Zero(), train, held_out, batch=9, draws=9)
    says = Zero()
    assert run(says, train, held_out, batch=batch, draws=9) == whole
    assert max(len(x) for x, _, _ in says.asked) == min(batch, 9)
    for x, t, prompt in says.asked:
        assert t.shape == (len(x),) and t.dtype == torch.long
        assert torch.equal(prompt, PROMPT.expand(len(x), 2, 3))
