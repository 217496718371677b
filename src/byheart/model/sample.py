"""One output per (prompt, noise seed), whatever else is in the batch and on how many processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from diffusers import DDIMScheduler, DDPMScheduler
from jaxtyping import Float, Int
from torch import Tensor

from byheart.config import Sample
from byheart.model.objective import build_sampler
from byheart.model.rng import Stream, generator
from byheart.runtime.processes import out_of_memory

Denoiser = Callable[..., tuple[Tensor]]  # a UNet, or anything that is called like one
Made = TypeVar("Made")


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
    watch: Callable[[Tensor, Tensor], object] = lambda noisy, guess: None,
) -> Float[Tensor, "s c h w"]:
    """Latents of the outputs, on the CPU: prompt row `prompt_of[k]` from noise seed `noise_of[k]`.

    DDIM (eta = 0) and DPM-Solver++ are deterministic given the initial noise. Ancestral sampling
    (DDPM) adds noise in every step, which follows from the noise seed as well: the same for every
    prompt. With guidance g > 1 the prediction is empty + g (prompt - empty) (Ho & Salimans 2022,
    eq. 6).
    `advance` is told how many outputs were finished. Out of memory, half as many are computed
    together: the outputs do not depend on it. `watch` sees at every step the noisy latents
    (b c h w) that the network is given and those that the sampler then expects to end at; with
    DPM-Solver++, which does not say, those it comes to.
    """
    done, first, together = [], 0, config.batch

    def made(most: int) -> Tensor:
        rows = slice(first, first + most)
        return _batch(unet, given, prompt_of[rows], noise_of[rows], seed, config, device, watch)

    while first < len(prompt_of):
        latents, together = as_fits(made, together)
        done.append(latents)
        first += together
        advance(len(latents))
    return torch.cat(done) if done else torch.empty(0, *given.shape)


def as_fits(work: Callable[[int], Made], most: int) -> tuple[Made, int]:
    """`work(most)` and `most`, halved as often as memory does not suffice."""
    while True:
        try:
            return work(most), most
        except (RuntimeError, MemoryError) as failure:
            if not out_of_memory(failure) or most == 1:
                raise
        most //= 2
        clear_device_cache(garbage_collection=True)


def _batch(
    unet: Denoiser,
    given: Conditions,
    prompt_of: Int[Tensor, " b"],
    noise_of: Int[Tensor, " b"],
    seed: int,
    config: Sample,
    device: torch.device,
    watch: Callable[[Tensor, Tensor], object],
) -> Float[Tensor, "b c h w"]:
    """Outputs that are computed together."""
    sampler = build_sampler(given.schedule, config.sampler, config.steps, device)
    noises = [initial_noise(seed, int(k), given.shape) for k in noise_of]
    x = torch.stack(noises).to(device) * sampler.init_noise_sigma
    prompt = given.prompts[prompt_of].to(device)
    empty = given.prompts[:1].to(device).expand_as(prompt)
    adds: dict[str, Any] = {}
    if isinstance(sampler, DDPMScheduler):
        # One for each output: what it is given depends on nobody beside it.
        adds["generator"] = [generator("cpu", seed, Stream.STEPS, int(k)) for k in noise_of]
    with torch.inference_mode():
        for t in sampler.timesteps:
            prediction = unet(x, t, prompt, return_dict=False)[0]
            if config.guidance > 1:
                free = unet(x, t, empty, return_dict=False)[0]
                prediction = free + config.guidance * (prediction - free)
            step = sampler.step(prediction.float(), t, x, **adds)
            watch(x, getattr(step, "pred_original_sample", step.prev_sample))
            x = step.prev_sample
        ends_on_data = isinstance(sampler, DDIMScheduler) and sampler.config.set_alpha_to_one
        if ends_on_data or isinstance(sampler, DDPMScheduler):
            # Where `steps` does not divide the noise levels, diffusers' last step would stop
            # at the lowest of them: 0.015 RMSE of noise with 7 steps.
            x = step.pred_original_sample
    return x.cpu()


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
