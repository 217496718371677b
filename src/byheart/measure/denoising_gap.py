"""The denoising gap: how much better the network cleans what it has seen than what it has not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from byheart.model.ideal import image_of, signal_and_noise
from byheart.model.rng import Stream, generator

LEVELS = 8

Denoiser = Callable[..., tuple[Tensor]]  # a UNet, or anything that is called like one


@dataclass(frozen=True)
class Level:
    """Mean squared error of x_0 in latent units (per number of a latent) at one noise level.

    Of the network and of the ideal denoiser of the training set, on the same inputs. None where
    there is no image, or where the answer says nothing about x_0.
    """

    timestep: int
    noise_level: float  # sqrt(1 - alphas_cumprod[t]): 0 clean, 1 pure noise
    train: float | None
    held_out: float | None
    ideal_train: float | None
    ideal_held_out: float | None


def spread_levels(schedule: Any) -> list[int]:
    """Timesteps whose noise levels are evenly spaced from the schedule's lowest to its highest:
    LEVELS, or fewer where two would be the same."""
    levels = (1 - schedule.alphas_cumprod.cpu().double()).sqrt()
    wanted = torch.linspace(float(levels.min()), float(levels.max()), LEVELS, dtype=torch.float64)
    return (levels[None] - wanted[:, None]).abs().argmin(dim=1).unique().tolist()


def gap(
    denoiser: Denoiser,
    ideal: Denoiser,
    schedule: Any,
    train: Float[Tensor, "n c h w"],
    held_out: Float[Tensor, "m c h w"],
    prompt: Float[Tensor, "l d"],
    levels: Sequence[int] | None,
    draws: int,
    seed: int,
    batch: int,
) -> list[Level]:
    """The error at fixed noise levels and with fixed noise, on both sets, beside the ideal's.

    draws: noisy images of each set and level; the images are spread evenly over them (of one image
        `draws` noises, of 1,000 images every (1000 / draws)-th). Draw k has the same noise for the
        network and the ideal, for training and held-out images, whatever else is measured.
    levels: timesteps, in the order of the answer; None: `spread_levels`.
    batch: rows the denoiser sees at once; no influence but rounding.

    Runs on the device of `train`; the caller puts the network into eval mode.
    """
    chosen = spread_levels(schedule) if levels is None else list(levels)
    _, sigmas = signal_and_noise(schedule, torch.tensor(chosen), len(chosen))
    answers = []
    for t, noise_level in zip(chosen, sigmas.tolist(), strict=True):
        # On the CPU: the same on every device.
        own = [generator("cpu", seed, Stream.DENOISING, t, draw) for draw in range(draws)]
        noise = torch.stack([torch.randn(train.shape[1:], generator=each) for each in own])
        errors = [
            _error(who, schedule, images.to(train.device), prompt, t, noise, batch)
            for who in (denoiser, ideal)
            for images in (train, held_out)
        ]
        answers.append(Level(t, noise_level, *errors))
    return answers


def _error(
    denoiser: Denoiser,
    schedule: Any,
    images: Float[Tensor, "n c h w"],
    prompt: Float[Tensor, "l d"],
    t: int,
    noise: Float[Tensor, "r c h w"],
    batch: int,
) -> float | None:
    """Mean over the draws and the numbers of a latent of (x_0 - prediction)²."""
    if len(images) == 0:
        return None
    alpha, sigma = (float(one) for one in signal_and_noise(schedule, t, 1))
    total = 0.0
    for rows in torch.arange(len(noise)).split(batch):
        x0 = images[(rows * len(images) // len(noise)).to(images.device)]
        steps = torch.full((len(rows),), t, dtype=torch.long, device=x0.device)
        with torch.inference_mode():
            noisy = schedule.add_noise(x0, noise[rows].to(x0), steps)
            words = prompt.to(x0.device).expand(len(rows), *prompt.shape)
            answer = denoiser(noisy, steps, words, return_dict=False)[0]
        kind = schedule.config.prediction_type
        said = image_of(noisy.cpu().double(), answer.cpu().double(), alpha, sigma, kind)
        if said is None:
            return None
        # Row by row, so that the sum does not depend on the batch.
        for error in (said - x0.cpu().double()).square().flatten(1).mean(dim=1).tolist():
            total += error
    return total / len(noise)
