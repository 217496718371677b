"""The ideal denoiser: the posterior mean by hand and by brute force, and where sampling leads."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler
from support.training import SHAPE, compose
from torch import Tensor

from byheart.config import Config
from byheart.data.codec import PatchCodec
from byheart.model import ideal as oracle
from byheart.model.ideal import IdealDenoiser, posterior_mean
from byheart.model.objective import build_schedule
from byheart.model.sample import Conditions, sample

CODEC = PatchCodec(2)
CPU = torch.device("cpu")


def normal(*shape: int, seed: int = 0) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=draws, dtype=torch.float64)


def flat(*values: float) -> Tensor:
    """One point for each value, all of its 4 numbers alike."""
    return torch.tensor(values, dtype=torch.float64)[:, None, None, None].expand(-1, 1, 2, 2)


def per_row(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def by_brute_force(x: Tensor, alpha: float, sigma: float, points: Tensor) -> Tensor:
    """One row, one difference after another, in numpy's long double."""
    row, all_points = x.numpy().astype(np.longdouble), points.numpy().astype(np.longdouble)
    logs = [-((row - alpha * p) ** 2).sum() / (2 * np.longdouble(sigma) ** 2) for p in all_points]
    weights = [np.exp(one - max(logs)) for one in logs]
    mean = sum(w * p for w, p in zip(weights, all_points, strict=True)) / sum(weights)
    return torch.from_numpy(np.asarray(mean, dtype=np.float64))


# ------------------------------------------------------------------------------ the posterior mean


def test_between_two_points_the_weights_are_a_logistic() -> None:
    # |x - p|² = 4 (0.3)² and 4 (0.7)², sigma = 1: log odds (1.96 - 0.36) / 2 = 0.8.
    mean = posterior_mean(flat(0.3), per_row(1.0), per_row(1.0), flat(0.0, 1.0))
    assert torch.allclose(mean, flat(1 / (1 + math.exp(0.8))), rtol=0, atol=1e-15)
    # Half the signal: against 0 and 0.5, (4 · 0.04 - 4 · 0.09) / 2 = -0.1.
    mean = posterior_mean(flat(0.3), per_row(0.5), per_row(1.0), flat(0.0, 1.0))
    assert torch.allclose(mean, flat(1 / (1 + math.exp(-0.1))), rtol=0, atol=1e-15)


@pytest.mark.parametrize("n", [1, 2, 30])
def test_it_is_what_brute_force_gives(n: int) -> None:
    points = normal(n, 3, 4, 4)
    alphas = [0.999, 0.9, 0.5, 0.1, 0.01, 1e-4, 3.0]
    sigmas = [0.03, 0.4, 0.8, 0.99, 1.0, 1.0, 0.5]  # need not be a pair of a schedule
    noisy = torch.stack([
        a * points[k % n] + s * normal(3, 4, 4, seed=k + 1)
        for k, (a, s) in enumerate(zip(alphas, sigmas, strict=True))
    ])  # fmt: skip
    means = posterior_mean(noisy, per_row(*alphas), per_row(*sigmas), points)
    for x, a, s, mean in zip(noisy, alphas, sigmas, means, strict=True):
        assert torch.allclose(mean, by_brute_force(x, a, s, points), rtol=1e-11, atol=1e-12)


def test_small_noise_between_near_points_leaves_the_digits_that_count() -> None:
    # Four numbers of 2^-22 apart: D² = 2^-42, 2 sigma² = 2^-43. A quarter of the way from the
    # first, the log odds are (9 - 1) / 16 · 2. All of it is exact in float64, but |x|² = 4 is not
    # to be told from |p|²: their difference of 2^-43 has ten bits left.
    points, x = flat(1.0, 1 + 2.0**-22), flat(1 + 2.0**-24)
    mean = posterior_mean(x, per_row(1.0), per_row(2.0**-22), points)
    second = (mean - 1) * 2**22
    assert torch.allclose(second, flat(1 / (1 + math.e)), rtol=0, atol=1e-8)


@pytest.mark.parametrize("sigma", [0.3, 1e-2, 1e-4, 1e-6, 1e-8])
def test_among_near_duplicates_it_is_what_brute_force_gives(sigma: float) -> None:
    # Groups of five that the noise hides from each other. The groups it does not, though they are
    # nearer to each other than x_t is to any: the weights between them are exp(-120) and less.
    groups = normal(1, 3, 16, 16) + 0.5 * sigma * normal(4, 3, 16, 16, seed=1)
    points = groups.repeat_interleave(5, dim=0)
    points = points + 0.03 * sigma * normal(20, 3, 16, 16, seed=2)
    noisy = 0.9 * points[:8] + sigma * normal(8, 3, 16, 16, seed=3)
    means = posterior_mean(noisy, per_row(*[0.9] * 8), per_row(*[sigma] * 8), points)
    for x, mean in zip(noisy, means, strict=True):
        brute = by_brute_force(x, 0.9, sigma, points)
        assert float((mean - brute).norm()) < 1e-7 * sigma + 1e-14  # a bit of |x| is 6e-15
        assert all(float((mean - p).norm()) > 0.1 * sigma for p in points)  # a true mixture


def test_far_from_all_points_the_nearest_wins_without_overflow() -> None:
    noisy = torch.cat([flat(1e6), flat(-1e30)])
    mean = posterior_mean(noisy, per_row(1.0, 1.0), per_row(1e-3, 1e-8), flat(0.0, 1.0, -1.0))
    assert torch.equal(mean[0], flat(1.0)[0]) and torch.isfinite(mean).all()


def test_without_noise_it_is_the_nearest_point_and_without_signal_the_mean() -> None:
    points = flat(0.0, 1.0, 5.0)
    nearest = posterior_mean(
        flat(0.4, 0.6, 4.0, 0.5), per_row(*[1.0] * 4), per_row(*[0.0] * 4), points
    )
    assert torch.equal(nearest, flat(0.0, 1.0, 5.0, 0.5))  # between two, their middle
    tiny = posterior_mean(flat(0.4), per_row(1.0), per_row(1e-200), points)
    assert torch.equal(tiny, flat(0.0))
    mean = posterior_mean(flat(3.0, 0.0), per_row(0.0, 0.0), per_row(1.0, 0.0), points)
    assert torch.allclose(mean, flat(2.0, 2.0), rtol=0, atol=1e-15)
    faint = posterior_mean(flat(3.0), per_row(1e-30), per_row(1.0), points)
    assert torch.allclose(faint, flat(2.0), rtol=0, atol=1e-15)


def test_of_one_point_it_is_that_point_to_the_last_bit() -> None:
    point = normal(1, 3, 4, 4)
    alphas, sigmas = per_row(1.0, 0.7, 0.0, 1.0), per_row(0.0, 0.7, 1.0, 0.01)
    means = posterior_mean(normal(4, 3, 4, 4, seed=1), alphas, sigmas, point)
    assert torch.equal(means, point.expand_as(means))
    single = posterior_mean(normal(4, 3, 4, 4).float(), alphas, sigmas, point)
    assert single.dtype == torch.float32 and torch.equal(single, point.float().expand_as(single))


def test_what_is_not_allowed_might_as_well_not_be_there() -> None:
    points, noisy = normal(6, 3, 4, 4), normal(4, 3, 4, 4, seed=1)
    alphas, sigmas = per_row(0.8, 0.8, 0.0, 1.0), per_row(0.9, 0.9, 1.0, 0.0)
    allowed = torch.zeros(4, 6, dtype=torch.bool)
    groups = [[0, 1, 2, 3, 4, 5], [1, 4], [2, 3, 5], [5]]
    for row, group in enumerate(groups):
        allowed[row, group] = True
    means = posterior_mean(noisy, alphas, sigmas, points, allowed)
    for row, group in enumerate(groups):
        one = slice(row, row + 1)
        alone = posterior_mean(noisy[one], alphas[one], sigmas[one], points[group])
        assert torch.allclose(means[one], alone, rtol=0, atol=1e-14)


@pytest.mark.parametrize("chunk", [1, 3, 7])
def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    points, noisy = normal(9, 3, 4, 4), normal(7, 3, 4, 4, seed=1)
    alphas, sigmas = torch.linspace(0, 1, 7).double(), torch.linspace(1, 0, 7).double()
    allowed = normal(7, 9, seed=2) > -1
    whole = posterior_mean(noisy, alphas, sigmas, points, allowed)
    monkeypatch.setattr(oracle, "CHUNK", chunk)
    parts = posterior_mean(noisy, alphas, sigmas, points, allowed)
    assert torch.allclose(parts, whole, rtol=0, atol=1e-14)


# --------------------------------------------------------------------------- called like a UNet


def schedules(prediction: str) -> list[Any]:
    settings = {"beta_schedule": "scaled_linear", "prediction_type": prediction}
    return [
        DDIMScheduler(rescale_betas_zero_snr=True, **settings),
        DPMSolverMultistepScheduler(**settings),
        EulerDiscreteScheduler(**settings),
    ]


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_its_three_answers_are_one(kind: int) -> None:
    points, x = normal(5, 3, 4, 4), normal(4, 3, 4, 4, seed=1)
    t = torch.tensor([0, 300, 700, 998])
    x0, noise, v = (
        IdealDenoiser(schedules(prediction)[kind], points)(x, t, None, return_dict=False)[0]
        for prediction in ("sample", "epsilon", "v_prediction")
    )
    kept = schedules("sample")[kind].alphas_cumprod.double()[t][:, None, None, None]
    alpha, sigma = kept.sqrt(), (1 - kept).sqrt()
    for row in range(4):
        brute = by_brute_force(x[row], float(alpha[row]), float(sigma[row]), points)
        assert torch.allclose(x0[row], brute, rtol=0, atol=1e-10)
    assert torch.allclose(alpha * x0 + sigma * noise, x, rtol=0, atol=1e-12)
    assert torch.allclose(v, alpha * noise - sigma * x0, rtol=0, atol=1e-12)


def test_in_pure_noise_it_knows_the_noise_and_of_the_image_the_mean() -> None:
    points, x = normal(5, 3, 4, 4), normal(2, 3, 4, 4, seed=1)
    answers = {
        prediction: IdealDenoiser(schedules(prediction)[0], points)(x, 999, None)[0]
        for prediction in ("sample", "epsilon", "v_prediction")
    }
    mean = points.mean(0).expand_as(x)
    assert torch.equal(answers["epsilon"], x)
    assert torch.allclose(answers["sample"], mean, rtol=0, atol=1e-15)
    assert torch.allclose(answers["v_prediction"], -mean, rtol=0, atol=1e-15)


# ------------------------------------------------------------------------------------- its loss


@pytest.mark.parametrize("t", [600, 800, 900])
def test_no_simpler_rule_has_a_lower_loss(t: int) -> None:
    schedule, points = schedules("sample")[0], normal(6, 1, 2, 2)
    x0, noise = points.repeat(500, 1, 1, 1), normal(3000, 1, 2, 2, seed=1)
    noisy = schedule.add_noise(x0, noise, torch.tensor([t] * 3000))
    said = IdealDenoiser(schedule, points)(noisy, t, None)[0]
    kept = float(schedule.alphas_cumprod[t])
    scaled = noisy / math.sqrt(kept)
    nearest = points[(scaled[:, None] - points).square().sum((2, 3, 4)).argmin(dim=1)]
    shrunk = points.mean(0) + kept * (scaled - points.mean(0))
    rivals = [nearest, points.mean(0).expand_as(x0), scaled, shrunk, 1.05 * said, 0.95 * said]
    best = float((said - x0).square().mean())
    assert all(float((rival - x0).square().mean()) > best for rival in rivals)


# ------------------------------------------------------------------------ through our own sampler


def pictures(n: int) -> Tensor:
    draws = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, 3, 16, 16), generator=draws, dtype=torch.uint8)


def made(config: Config, points: Tensor, outputs: int, **changes: Any) -> Tensor:
    """Latents that the ideal denoiser leads to, one noise each."""
    schedule = build_schedule(config)
    given = Conditions(schedule, torch.zeros(1, 1, 1), SHAPE)
    return sample(
        IdealDenoiser(schedule, points), given, torch.zeros(outputs, dtype=torch.long),
        torch.arange(outputs), 0, replace(config.sample, **changes), CPU,
    )  # fmt: skip


def which(latents: Tensor, images: Tensor) -> list[int]:
    """The image each output is, byte for byte; -1 where it is none."""
    equal = (CODEC.decode(latents)[:, None] == images).flatten(2).all(dim=2)
    assert (equal.sum(dim=1) <= 1).all()
    return torch.where(equal.any(dim=1), equal.long().argmax(dim=1), -1).tolist()


def away(made: Tensor, points: Tensor) -> Tensor:
    """RMSE in [0, 1] to the closest training point."""
    apart = (made.double()[:, None] - points.double()).square().mean((2, 3, 4)).sqrt() / 2
    return apart.min(dim=1).values


WAYS = [(prediction, *way) for prediction in ("sample", "v_prediction") for way in (
    ("ddpm", 8), ("ddpm", 16), ("ddpm", 28), ("ddim", 7), ("ddim", 8), ("ddim", 20), ("ddim", 28),
    ("dpm++", 8), ("dpm++", 20),
)]  # fmt: skip


@pytest.mark.parametrize(("prediction", "sampler", "steps"), WAYS)
def test_of_one_image_every_output_is_that_image_to_the_byte(
    prediction: str, sampler: str, steps: int
) -> None:
    config = compose("schedule=exact", f"fit.prediction={prediction}")
    images = pictures(1)
    outputs = made(config, CODEC.encode(images), 64, sampler=sampler, steps=steps)
    assert which(outputs, images) == [0] * 64


@pytest.mark.parametrize(("prediction", "sampler", "steps"), WAYS)
def test_of_a_hundred_images_every_output_is_one_and_all_are_met_as_dice_meet_them(
    prediction: str, sampler: str, steps: int
) -> None:
    n, outputs = 100, 300
    config = compose("schedule=exact", f"fit.prediction={prediction}")
    images = pictures(n)
    met = which(made(config, CODEC.encode(images), outputs, sampler=sampler, steps=steps), images)
    assert -1 not in met
    # Empty cells after throwing `outputs` balls into n: mean and variance are known.
    one, two = (1 - 1 / n) ** outputs, (1 - 2 / n) ** outputs
    mean = n * one
    deviation = math.sqrt(n * one + n * (n - 1) * two - mean**2)
    assert abs(n - len(set(met)) - mean) < 3 * deviation
    counts = np.bincount(met, minlength=n)
    chi2 = float(((counts - outputs / n) ** 2).sum() / (outputs / n))
    assert abs(chi2 - (n - 1)) < 4 * math.sqrt(2 * (n - 1))


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
@pytest.mark.parametrize("n", [1, 100])
def test_predicting_the_noise_it_lands_where_the_schedule_lets_it(n: int, sampler: str) -> None:
    config = compose("schedule=sd", "schedule.set_alpha_to_one=true", "fit.prediction=epsilon")
    points = CODEC.encode(pictures(n))
    assert float(away(made(config, points, 12, sampler=sampler, steps=20), points).max()) < 0.002


@pytest.mark.parametrize("prediction", ["sample", "v_prediction", "epsilon"])
@pytest.mark.parametrize("steps", [8, 20, 50])
def test_on_stable_diffusions_schedule_ddim_leaves_a_floor_even_the_perfect_memorizer_cannot_pass(
    prediction: str, steps: int
) -> None:
    config = compose("schedule=sd", f"fit.prediction={prediction}")
    points = CODEC.encode(pictures(1))
    rmse = away(made(config, points, 12, sampler="ddim", steps=steps), points)
    # The last step stops at the lowest noise level, sqrt(0.00085) of noise in [-1, 1].
    assert float(rmse.min()) > 0.01 and float(rmse.max()) < 0.02
    assert float(rmse.mean()) == pytest.approx(0.00085**0.5 / 2, rel=0.1)


def test_one_step_on_the_exact_schedule_gives_the_mean_of_the_training_set() -> None:
    points = CODEC.encode(pictures(10))
    latents = made(compose("schedule=exact"), points, 12, steps=1)
    assert torch.allclose(latents, points.mean(0).expand_as(latents), atol=1e-6)


def test_duplicates_draw_as_many_outputs_as_they_are() -> None:
    images = pictures(2)
    points = CODEC.encode(images[[0, 0, 0, 1]])
    met = which(made(compose("schedule=exact"), points, 200, steps=20), images)
    assert met.count(0) + met.count(1) == 200
    assert abs(met.count(0) - 150) < 4 * math.sqrt(200 * 0.75 * 0.25)


# ------------------------------------------------------------------------------------ captions


def words(count: int) -> Tensor:
    """Prompt vectors; row 0 is the empty prompt."""
    rows = normal(count, 4, 8, seed=3).float()
    rows[0] = 0
    return rows


@pytest.mark.parametrize("sampler", ["ddpm", "ddim", "dpm++"])
def test_a_caption_is_answered_with_its_image(sampler: str) -> None:
    config, images = compose("schedule=exact"), pictures(6)
    rows, schedule = words(9), build_schedule(config)
    # Captions 1 to 4; two images share the third, two the fourth. 5 to 8 are unseen.
    ideal = IdealDenoiser(schedule, CODEC.encode(images), rows[[1, 2, 3, 3, 4, 4]])
    given = Conditions(schedule, rows, SHAPE)
    prompts = torch.arange(9).repeat_interleave(20)
    noises = torch.arange(20).repeat(9)
    asked = replace(config.sample, sampler=sampler, steps=20)
    latents = sample(ideal, given, prompts, noises, 0, asked, CPU)
    met = np.array(which(latents, images)).reshape(9, 20)
    assert set(met[1]) == {0} and set(met[2]) == {1}
    assert set(met[3]) == {2, 3} and set(met[4]) == {4, 5}
    for row in (0, 5, 6, 7, 8):
        assert len(set(met[row])) >= 4 and (met[row] == met[0]).all()


def test_under_one_caption_for_all_the_prompt_changes_nothing() -> None:
    points, x, rows = normal(5, 3, 4, 4), normal(4, 3, 4, 4, seed=1), words(3).double()
    schedule = schedules("v_prediction")[0]
    shared = IdealDenoiser(schedule, points, rows[[1] * 5])(x, 500, rows[[0, 1, 2, 1]])[0]
    of_image = torch.tensor([1, 1, 2, 0, 2])
    each = IdealDenoiser(schedule, points, rows[of_image])(x, 500, rows[[0, 1, 2, 1]])[0]
    once = IdealDenoiser(schedule, points, rows, of_image)(x, 500, rows[[0, 1, 2, 1]])[0]
    assert torch.equal(each, once) and not torch.equal(once, shared)
    assert torch.equal(shared, IdealDenoiser(schedule, points)(x, 500, rows[[0, 1, 2, 1]])[0])


def test_a_caption_is_known_by_every_number() -> None:
    points, x, rows = flat(0.0, 1.0), flat(0.4), words(3).double()
    ideal = IdealDenoiser(schedules("sample")[0], points, rows[1:])
    assert torch.equal(ideal(x, 0, rows[2:])[0], flat(1.0))
    almost = rows[2:].clone()
    almost[0, 3, 7] = torch.nextafter(almost[0, 3, 7], torch.tensor(9.0, dtype=torch.float64))
    assert torch.equal(ideal(x, 0, almost)[0], flat(0.0))
