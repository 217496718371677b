"""One output per (prompt, noise seed), whatever else is in the batch and on how many processes."""

from __future__ import annotations

from collections.abc import Callable

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


def sample(
    unet: Denoiser,
    schedule: DDIMScheduler,
    prompts: Float[Tensor, "p l d"],
    prompt_of: Int[Tensor, " s"],
    noise_of: Int[Tensor, " s"],
    shape: tuple[int, int, int],
    seed: int,
    config: Sample,
    device: torch.device,
    advance: Callable[[int], object] = lambda outputs: None,
) -> Float[Tensor, "s c h w"]:
    """Latents of the outputs, on the CPU. `prompts[0]` is the empty prompt.

    Both samplers are deterministic given the initial noise (DDIM with eta = 0). With guidance g > 1
    the prediction is empty + g (prompt - empty) (Ho & Salimans 2022, eq. 6).
    `advance` is told how many outputs were finished.
    """
    done = []
    for rows in torch.arange(len(prompt_of)).split(config.batch):
        sampler = build_sampler(schedule, config.sampler)
        sampler.set_timesteps(config.steps, device=device)
        x = torch.stack([initial_noise(seed, int(k), shape) for k in noise_of[rows]]).to(device)
        x = x * sampler.init_noise_sigma
        prompt = prompts[prompt_of[rows]].to(device)
        empty = prompts[:1].to(device).expand_as(prompt)
        with torch.inference_mode():
            for t in sampler.timesteps:
                prediction = unet(x, t, prompt, return_dict=False)[0]
                if config.guidance > 1:
                    free = unet(x, t, empty, return_dict=False)[0]
                    prediction = free + config.guidance * (prediction - free)
                x = sampler.step(prediction.float(), t, x, return_dict=False)[0]
        done.append(x.cpu())
        advance(len(rows))
    return torch.cat(done) if done else torch.empty(0, *shape)


def shared_out(total: int, accelerator: Accelerator) -> Int[Tensor, " mine"]:
    """The outputs this process makes: every world-size-th, so that all finish together."""
    return torch.arange(accelerator.process_index, total, accelerator.num_processes)


def gathered(
    mine: Float[Tensor, "m c h w"], total: int, accelerator: Accelerator
) -> Float[Tensor, "total c h w"]:
    """All processes' outputs in the order `shared_out` dealt them."""
    world = accelerator.num_processes
    if world == 1:
        return mine
    longest = -(-total // world)
    padded = torch.zeros(longest, *mine.shape[1:])
    padded[: len(mine)] = mine
    everyone = accelerator.gather(padded.to(accelerator.device)).cpu()
    # (process, place) -> place * world + process
    order = everyone.view(world, longest, *mine.shape[1:]).transpose(0, 1).flatten(0, 1)
    return order[:total].contiguous()
