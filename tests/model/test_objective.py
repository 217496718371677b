"""The noise schedule, what the network should say, and where a perfect memorizer ends up."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from byheart.config import Config
from byheart.data.codec import PatchCodec
from byheart.model.objective import build_schedule, loss, target
from byheart.model.sample import Conditions, sample

Compose = Callable[..., Config]
CODEC = PatchCodec(2)
SHAPE = (12, 8, 8)


def column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


# --------------------------------------------------------------------------------- the schedule


def test_sd_is_stable_diffusions_schedule(compose: Compose) -> None:
    schedule = build_schedule(compose("schedule=sd"))
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    by_hand = torch.from_numpy(np.cumprod(1 - betas))
    assert torch.allclose(schedule.alphas_cumprod.double(), by_hand, rtol=1e-4)
    assert float(schedule.alphas_cumprod[-1].sqrt()) == pytest.approx(
        0.068265, abs=1e-6
    )  # Lin, 3.1
    assert schedule.final_alpha_cumprod == schedule.alphas_cumprod[0] < 1
    assert schedule.config.prediction_type == "sample" and not schedule.config.clip_sample
    schedule.set_timesteps(50)
    assert (int(schedule.timesteps[0]), int(schedule.timesteps[-1])) == (981, 1)


def rescaled(signal: torch.Tensor) -> torch.Tensor:
    """Lin et al. 2024, algorithm 1: a straight line of the signal, its first value kept."""
    return (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])


def test_exact_is_a_cosine_that_ends_in_pure_noise(compose: Compose) -> None:
    exact = build_schedule(compose("schedule=exact"))
    signal = exact.alphas_cumprod.double().sqrt()
    assert signal[-1] == 0 and (signal.diff() < 0).all()
    # Nichol & Dhariwal 2021, eq. 17: s = 0.008, no beta above 0.999.
    t = torch.arange(1001, dtype=torch.float64) / 1000
    cosine = ((t + 0.008) / 1.008 * torch.pi / 2).cos() ** 2
    betas = (1 - cosine[1:] / cosine[:-1]).clamp(max=0.999)
    assert torch.allclose(signal, rescaled((1 - betas).cumprod(0).sqrt()), atol=1e-4)
    assert exact.final_alpha_cumprod == 1
    exact.set_timesteps(8)
    assert exact.timesteps.tolist() == [999, 874, 749, 624, 499, 374, 249, 124]


def test_stable_diffusions_own_betas_can_be_made_to_end_in_pure_noise(compose: Compose) -> None:
    sd = build_schedule(compose("schedule=sd")).alphas_cumprod.double().sqrt()
    line = build_schedule(compose("schedule=exact", "schedule.beta_schedule=scaled_linear"))
    assert sd[-1] > 0.06
    assert torch.allclose(line.alphas_cumprod.double().sqrt(), rescaled(sd), atol=1e-4)


def test_the_noise_cannot_be_asked_for_where_it_says_nothing_about_the_image(
    compose: Compose,
) -> None:
    with pytest.raises(ValueError, match="type schedule=sd"):
        compose("fit.prediction=epsilon", "schedule=exact")


# ----------------------------------------------------------------------------- targets and loss


@pytest.mark.parametrize("kind", ["exact", "sd"])
def test_targets_are_the_papers_formulas(compose: Compose, kind: str) -> None:
    draws = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 4, 3, 3, generator=draws, dtype=torch.float64)
    t = torch.tensor([0, 1, 420, 998, 999])
    schedule = build_schedule(compose(f"schedule={kind}"))
    a = column(schedule.alphas_cumprod.double()[t])
    by_hand = {
        "sample": x0,
        "epsilon": noise,
        "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x0,
    }
    for prediction, expected in by_hand.items():
        schedule.register_to_config(prediction_type=prediction)
        assert torch.allclose(target(schedule, x0, noise, t), expected, rtol=0, atol=1e-12)


class Knows(torch.nn.Module):
    """The right answer for a training set of one picture, from x_t and t alone; plus an error."""

    def __init__(self, schedule: DDIMScheduler, x0: Tensor, error: float = 0.0) -> None:
        super().__init__()
        self.schedule, self.x0, self.error = schedule, x0, error

    def forward(self, x: Tensor, t: Tensor, prompt: Tensor, return_dict: bool) -> tuple[Tensor]:
        a = column(self.schedule.alphas_cumprod.to(x.dtype)[t])
        noise = (x - a.sqrt() * self.x0) / (1 - a).sqrt()
        answers = {
            "sample": self.x0.expand_as(x),
            "epsilon": noise,
            "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * self.x0,
        }
        return (answers[self.schedule.config.prediction_type] + self.error,)


@pytest.mark.parametrize("prediction", ["sample", "v_prediction", "epsilon"])
def test_who_knows_the_picture_has_no_loss_and_who_errs_by_a_half_has_a_quarter(
    compose: Compose, prediction: str
) -> None:
    schedule = build_schedule(compose("schedule=sd", f"fit.prediction={prediction}"))
    draws = torch.Generator().manual_seed(0)
    x0 = torch.randn(1, *SHAPE, generator=draws)
    noise = torch.randn(6, *SHAPE, generator=draws)
    t, prompt = torch.tensor([0, 1, 100, 500, 998, 999]), torch.zeros(6, 1, 1)
    images = x0.expand_as(noise)
    perfect = loss(Knows(schedule, x0), schedule, images, noise, t, prompt)
    assert float(perfect) == 0 if prediction == "sample" else float(perfect) < 1e-9
    wrong = loss(Knows(schedule, x0, error=0.5), schedule, images, noise, t, prompt)
    assert float(wrong) == pytest.approx(0.25, rel=1e-4)


# ---------------------------------------------------------------------- the ideal denoiser lands


class Ideal:
    """E[x_0 | x_t] over a finite training set, in float64, called like a UNet.

    x_t given x_0 = p is Gaussian about sqrt(a) p with variance 1 - a, every p equally likely.
    """

    def __init__(self, schedule: DDIMScheduler, points: Tensor) -> None:
        self.schedule, self.points = schedule, points.double()

    def __call__(
        self, x: Tensor, t: Tensor, prompt: Tensor, return_dict: bool = False
    ) -> tuple[Tensor]:
        a = self.schedule.alphas_cumprod.double()[t]
        noisy = x.double()
        apart = (noisy[:, None] - a.sqrt() * self.points).square().sum((2, 3, 4))
        likelihood = torch.softmax(-apart / (2 * (1 - a)), dim=1)
        x0 = torch.einsum("sn,nchw->schw", likelihood, self.points)
        noise = (noisy - a.sqrt() * x0) / (1 - a).sqrt()
        answers = {
            "sample": x0,
            "epsilon": noise,
            "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x0,
        }
        return (answers[self.schedule.config.prediction_type].float(),)


def pictures(n: int) -> Tensor:
    draws = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, 3, 16, 16), generator=draws, dtype=torch.uint8)


def outputs(config: Config, images: Tensor, count: int = 12) -> tuple[Tensor, Tensor]:
    """Latents sampled with the ideal denoiser, and the training latents."""
    schedule, points = build_schedule(config), CODEC.encode(images)
    given = Conditions(schedule, torch.zeros(1, 1, 1), SHAPE)
    first = torch.zeros(count, dtype=torch.long)
    noises = torch.arange(count)
    ideal = Ideal(schedule, points)
    made = sample(ideal, given, first, noises, 0, config.sample, torch.device("cpu"))
    return made, points


def nearest(made: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """RMSE in [0, 1] to the closest training point, and which one it is."""
    apart = (made.double()[:, None] - points.double()).square().mean((2, 3, 4)).sqrt() / 2
    return apart.min(dim=1)


@pytest.mark.parametrize(
    ("prediction", "n", "way"),
    product(
        ["sample", "v_prediction"],
        [1, 10, 100],
        [
            ("ddpm", 8),
            ("ddpm", 28),
            ("ddim", 8),
            ("ddim", 20),
            ("ddim", 7),
            ("ddim", 28),
            ("dpm++", 8),
            ("dpm++", 20),
        ],
    ),
)
def test_the_perfect_memorizer_lands_on_training_points(
    compose: Compose, prediction: str, n: int, way: tuple[str, int]
) -> None:
    config = compose(
        "schedule=exact", f"fit.prediction={prediction}",
        f"sample.sampler={way[0]}", f"sample.steps={way[1]}",
    )  # fmt: skip
    images = pictures(n)
    made, points = outputs(config, images)
    rmse, index = nearest(made, points)
    assert float(rmse.max()) < 0.002
    assert torch.equal(CODEC.decode(made), images[index])  # to the byte
    assert len(index.unique()) >= min(n, 4)  # not one of them for all noises


@pytest.mark.parametrize("sampler", ["ddim", "dpm++"])
@pytest.mark.parametrize("n", [1, 10, 100])
def test_predicting_the_noise_it_lands_where_the_schedule_lets_it(
    compose: Compose, n: int, sampler: str
) -> None:
    config = compose(
        "schedule=sd", "schedule.set_alpha_to_one=true", "fit.prediction=epsilon",
        f"sample.sampler={sampler}", "sample.steps=20",
    )  # fmt: skip
    made, points = outputs(config, pictures(n))
    assert float(nearest(made, points)[0].max()) < 0.002


@pytest.mark.parametrize("prediction", ["sample", "v_prediction", "epsilon"])
@pytest.mark.parametrize("steps", [8, 20, 50])
def test_on_stable_diffusions_schedule_ddim_leaves_a_floor_even_the_perfect_memorizer_cannot_pass(
    compose: Compose, prediction: str, steps: int
) -> None:
    config = compose(
        "schedule=sd", f"fit.prediction={prediction}", "sample.sampler=ddim",
        f"sample.steps={steps}",
    )  # fmt: skip
    made, points = outputs(config, pictures(1))
    rmse = nearest(made, points)[0]
    # The last step stops at the lowest noise level, sqrt(0.00085) of noise in [-1, 1].
    assert float(rmse.min()) > 0.01 and float(rmse.max()) < 0.02
    assert float(rmse.mean()) == pytest.approx(0.00085**0.5 / 2, rel=0.1)


def test_one_step_on_the_exact_schedule_gives_the_mean_of_the_training_set(
    compose: Compose,
) -> None:
    made, points = outputs(compose("schedule=exact", "sample.steps=1"), pictures(10))
    assert torch.allclose(made, points.mean(0).expand_as(made), atol=1e-6)
