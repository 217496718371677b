"""Noise schedule and loss. Timesteps and noise come in as arguments; nothing here draws."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler
from jaxtyping import Float, Int
from torch import Tensor

from byheart.config import Config
from byheart.model.unet import pretrained_schedule


def build_schedule(config: Config) -> DDIMScheduler:
    """The run's noise schedule with its prediction type, as a diffusers DDIM scheduler.

    x_t = sqrt(a_t) x_0 + sqrt(1 - a_t) eps (Ho et al. 2020, eq. 4). `schedule=exact` rescales the
    betas to zero terminal signal (Lin et al. 2024, algorithm 1), so that sampling begins where
    training ended and the initial noise cannot leak; `schedule=sd` keeps Stable Diffusion's.
    With `unet.pretrained` the pipeline's own configuration is used unchanged.

    ValueError: the pipeline has no scheduler, or one of another family.
    """
    if config.unet.pretrained:
        own = pretrained_schedule(config.unet.pretrained)
        kept: dict[str, Any] = {k: v for k, v in own.items() if not k.startswith("_")}
        return DDIMScheduler.from_config(kept, clip_sample=False)
    s, prediction = config.schedule, config.fit.prediction
    return DDIMScheduler(
        num_train_timesteps=s.steps,
        beta_start=s.beta_start,
        beta_end=s.beta_end,
        beta_schedule=s.beta_schedule,
        rescale_betas_zero_snr=s.zero_terminal_snr,
        set_alpha_to_one=s.set_alpha_to_one,
        steps_offset=s.steps_offset,
        timestep_spacing=s.spacing,
        prediction_type="sample" if prediction == "auto" else prediction,
        clip_sample=False,
    )


Sampler: TypeAlias = DDPMScheduler | DDIMScheduler | DPMSolverMultistepScheduler


def build_sampler(
    schedule: DDIMScheduler, name: str, steps: int, device: torch.device | str = "cpu"
) -> Sampler:
    """A fresh sampler over the same schedule, with its timesteps: Ho et al. 2020's ancestral one
    (ddpm), DDIM (Song et al. 2021) or DPM-Solver++ (Lu et al. 2022).

    ValueError: timesteps that the schedule lacks, as diffusers' rounding makes of some numbers.
    """
    sampler: Sampler
    if name == "ddpm":
        sampler = DDPMScheduler.from_config(schedule.config, variance_type="fixed_small")
    elif name == "ddim":
        sampler = DDIMScheduler.from_config(schedule.config)
    else:
        sampler = DPMSolverMultistepScheduler.from_config(
            schedule.config,
            algorithm_type="dpmsolver++",
            # End on the data, not on the last training noise level: the floor would show as error.
            final_sigmas_type="zero",
        )
    sampler.set_timesteps(steps, device=device)
    last = len(schedule.alphas_cumprod) - 1
    for t in sampler.timesteps.tolist():
        if not 0 <= t <= last:
            raise ValueError(
                f"{steps} sampling steps: diffusers makes timestep {t} of them, and the schedule "
                f"has 0 to {last}: type another number of steps, or schedule.steps_offset=0"
            )
    return sampler


def target(
    schedule: DDIMScheduler,
    x0: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
) -> Float[Tensor, "b c h w"]:
    """What the network should say: x_0, the noise, or v = sqrt(a) eps - sqrt(1-a) x_0.

    v: Salimans & Ho 2022, appendix D.
    """
    kind = schedule.config.prediction_type
    if kind == "sample":
        return x0
    if kind == "epsilon":
        return noise
    assert kind == "v_prediction", kind
    return schedule.get_velocity(x0, noise, t)


def loss(
    unet: torch.nn.Module,
    schedule: DDIMScheduler,
    x0: Float[Tensor, "b c h w"],
    noise: Float[Tensor, "b c h w"],
    t: Int[Tensor, " b"],
    prompt: Float[Tensor, "b l d"],
) -> Float[Tensor, ""]:
    """Mean squared error of the prediction, all timesteps alike (Ho et al. 2020, eq. 14)."""
    noisy = schedule.add_noise(x0, noise, t)
    prediction = unet(noisy, t, prompt, return_dict=False)[0]
    return (prediction.float() - target(schedule, x0, noise, t)).square().mean()
