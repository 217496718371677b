"""The noise schedule, and what the network should say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.training import SHAPE, compose
from torch import Tensor

from byheart.model.ideal import IdealDenoiser
from byheart.model.objective import build_sampler, build_schedule, loss, target

# --------------------------------------------------------------------------------- the schedule


def test_sd_is_stable_diffusions_schedule() -> None:
    schedule = build_schedule(compose("schedule=sd"))
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    by_hand = torch.from_numpy(np.cumprod(1 - betas))
    assert torch.allclose(schedule.alphas_cumprod.double(), by_hand, rtol=1e-4)
    last = float(schedule.alphas_cumprod[-1].sqrt())
    assert last == pytest.approx(0.068265, abs=1e-6)  # Lin, 3.1
    assert schedule.final_alpha_cumprod == schedule.alphas_cumprod[0] < 1
    assert schedule.config.prediction_type == "sample" and not schedule.config.clip_sample
    schedule.set_timesteps(50)
    assert (int(schedule.timesteps[0]), int(schedule.timesteps[-1])) == (981, 1)


def rescaled(signal: torch.Tensor) -> torch.Tensor:
    """Lin et al. 2024, algorithm 1: a straight line of the signal, its first value kept."""
    return (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])


def test_exact_is_a_cosine_that_ends_in_pure_noise() -> None:
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


def test_stable_diffusions_own_betas_can_be_made_to_end_in_pure_noise() -> None:
    sd = build_schedule(compose("schedule=sd")).alphas_cumprod.double().sqrt()
    line = build_schedule(compose("schedule=exact", "schedule.beta_schedule=scaled_linear"))
    assert sd[-1] > 0.06
    assert torch.allclose(line.alphas_cumprod.double().sqrt(), rescaled(sd), atol=1e-4)


@pytest.mark.parametrize(
    ("steps", "settings", "timestep"),
    [
        (61, ["schedule.spacing=trailing"], -1),  # diffusers rounds an end to be left out to 0
        (4, ["schedule.spacing=leading", "schedule.steps_offset=400"], 1150),
    ],
)
def test_a_sampler_asks_for_no_timestep_that_the_schedule_lacks(
    steps: int, settings: list[str], timestep: int
) -> None:
    schedule = build_schedule(compose(*settings))
    for name in ("ddpm", "ddim"):
        assert len(build_sampler(schedule, name, steps - 2).timesteps) == steps - 2
        with pytest.raises(ValueError, match=f"timestep {timestep} of them.* 0 to 999"):
            build_sampler(schedule, name, steps)


# ----------------------------------------------------------------------------- targets and loss


@pytest.mark.parametrize("kind", ["exact", "sd"])
def test_targets_are_the_papers_formulas(kind: str) -> None:
    draws = torch.Generator().manual_seed(0)
    x0, noise = torch.randn(2, 5, 4, 3, 3, generator=draws, dtype=torch.float64)
    t = torch.tensor([0, 1, 420, 998, 999])
    schedule = build_schedule(compose(f"schedule={kind}"))
    a = schedule.alphas_cumprod.double()[t][:, None, None, None]
    by_hand = {
        "sample": x0,
        "epsilon": noise,
        "v_prediction": a.sqrt() * noise - (1 - a).sqrt() * x0,
    }
    for prediction, expected in by_hand.items():
        schedule.register_to_config(prediction_type=prediction)
        assert torch.allclose(target(schedule, x0, noise, t), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("prediction", ["sample", "v_prediction", "epsilon"])
def test_who_knows_the_picture_has_no_loss_and_who_errs_by_a_half_has_a_quarter(
    prediction: str,
) -> None:
    schedule = build_schedule(compose("schedule=sd", f"fit.prediction={prediction}"))
    draws = torch.Generator().manual_seed(0)
    x0 = torch.randn(1, *SHAPE, generator=draws)
    noise = torch.randn(6, *SHAPE, generator=draws)
    t, prompt = torch.tensor([0, 1, 100, 500, 998, 999]), torch.zeros(6, 1, 1)
    images = x0.expand_as(noise)
    knows = IdealDenoiser(schedule, x0)
    perfect = loss(knows, schedule, images, noise, t, prompt)
    assert float(perfect) == 0 if prediction == "sample" else float(perfect) < 1e-9

    def errs(*given: Any, **options: Any) -> tuple[Tensor]:
        return (knows(*given, **options)[0] + 0.5,)

    wrong = loss(errs, schedule, images, noise, t, prompt)
    assert float(wrong) == pytest.approx(0.25, rel=1e-4)
