"""One output per (prompt, noise seed), whatever else is in the batch and on how many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from diffusers import DDIMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from byheart.config import Sample
from byheart.model.objective import build_sampler
from byheart.model.seeds import Stream, generator

Denoiser = Callable[..., tuple[Tensor]]  # a UNet, or anything that is called like one


def initial_noise(seed: int, noise: int, shape: tuple[int, ...]) -> Float[Tensor, "c h w"]:
    """The initial latent of noise seed `noise`. Drawn on the CPU: the same on every device."""
    draws = generator("cpu", seed, Stream.OUTPUT, noise)
    return torch.randn(shape, generator=draws)


@dataclass(frozen=True)
class Conditions:
    """What all outputs of a run share: the schedule, the prompts' vectors, a latent's shape."""

    schedule: DDIMScheduler
    prompts: Float[Tensor, "p l d"]  # row 0 is the empty prompt
    shape: tuple[int, int, int]


def sample(
    unet: Denoiser,
    given: Conditions,
    prompt_of: Int[Tensor, " s"],
    noise_of: Int[Tensor, " s"],
    seed: int,
    config: Sample,
    device: torch.device,
    advance: Callable[[int], object] = lambda outputs: None,
) -> Float[Tensor, "s c h w"]:
    """Latents of the outputs, on the CPU: prompt row `prompt_of[k]` from noise seed `noise_of[k]`.

    Both samplers are deterministic given the initial noise (DDIM with eta = 0). With guidance g > 1
    the prediction is empty + g (prompt - empty) (Ho & Salimans 2022, eq. 6).
    `advance` is told how many outputs were finished.
    """
    done = []
    for start in range(0, len(prompt_of), config.batch):
        rows = slice(start, start + config.batch)
        sampler = build_sampler(given.schedule, config.sampler)
        sampler.set_timesteps(config.steps, device=device)
        noises = [initial_noise(seed, int(k), given.shape) for k in noise_of[rows]]
        x = torch.stack(noises).to(device) * sampler.init_noise_sigma
        prompt = given.prompts[prompt_of[rows]].to(device)
        empty = given.prompts[:1].to(device).expand_as(prompt)
        with torch.inference_mode():
            for t in sampler.timesteps:
                prediction = unet(x, t, prompt, return_dict=False)[0]
                if config.guidance > 1:
                    free = unet(x, t, empty, return_dict=False)[0]
                    prediction = free + config.guidance * (prediction - free)
                step = sampler.step(prediction.float(), t, x)
                x = step.prev_sample
            if isinstance(sampler, DDIMScheduler) and sampler.config.set_alpha_to_one:
                # Where `steps` does not divide the noise levels, diffusers' last step would stop
                # at the lowest of them: 0.015 RMSE of noise with 7 steps.
                x = step.pred_original_sample
        done.append(x.cpu())
        advance(len(x))
    return torch.cat(done) if done else torch.empty(0, *given.shape)


def sample_shared(
    unet: Denoiser,
    given: Conditions,
    prompt_of: Int[Tensor, " s"],
    noise_of: Int[Tensor, " s"],
    seed: int,
    config: Sample,
    accelerator: Accelerator,
    advance: Callable[[int], object] = lambda outputs: None,
) -> Float[Tensor, "s c h w"]:
    """`sample`, the outputs dealt out among the processes; all of them, in order, on each."""
    total, world = len(prompt_of), accelerator.num_processes
    # Every world-size-th output, so that all processes finish together.
    mine = torch.arange(total)[accelerator.process_index :: world]
    with accelerator.autocast():
        latents = sample(
            unet, given, prompt_of[mine], noise_of[mine], seed, config, accelerator.device, advance
        )
    if world == 1:
        return latents
    longest = -(-total // world)
    padded = torch.zeros(longest, *given.shape)
    padded[: len(latents)] = latents
    everyone = accelerator.gather(padded.to(accelerator.device)).cpu()
    # Output k was made by process k % world as its (k // world)-th.
    in_order = everyone.view(world, longest, *given.shape).transpose(0, 1).flatten(0, 1)
    return in_order[:total].contiguous()
