"""Before it starts: how long a run will take and how much memory it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from diffusers import UNet2DConditionModel
from torch import Tensor

from byheart.config import Config, total_steps
from byheart.model.sample import Conditions
from byheart.model.unet import parameters

# Bytes a second through the optimizer, measured low: an expectation should rather be too long.
TRAFFIC = {"cpu": 8e9, "cuda": 1e12, "mps": 1e11}


@dataclass(frozen=True)
class Expectation:
    """Seconds and bytes a run is expected to take."""

    train: float
    sample: float
    memory: int  # weights, gradients, both AdamW moments and the average; activations come on top

    def __str__(self) -> str:
        return (
            f"about {duration(self.train)} of training, {duration(self.sample)} of sampling, "
            f"{self.memory / 2**30:.1f} GiB of memory for weights and optimizer"
        )


def duration(seconds: float) -> str:
    """12 s, 3.5 min, 2.1 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def expect(
    unet: UNet2DConditionModel,
    given: Conditions,
    outputs: int,
    config: Config,
    accelerator: Accelerator,
) -> Expectation:
    """Time a pass of training and one of sampling; nothing learns from them."""
    device = accelerator.device
    rows = max(1, config.fit.batch // (accelerator.num_processes * config.fit.accumulate))
    seconds = _timed(lambda: _learn(unet, rows, given, accelerator), device)
    if seconds < 2:  # the first pass also chooses kernels; where that matters, time a second
        seconds = _timed(lambda: _learn(unet, rows, given, accelerator), device)
    count = parameters(unet)
    tensors = 7 + (3 if config.fit.ema > 0 else 0)  # AdamW reads and writes 7 per weight, EMA 3
    optimizer = count * 4 * tensors / TRAFFIC.get(device.type, TRAFFIC["cpu"])
    per_step = seconds * config.fit.accumulate + optimizer
    kinds = 2 if config.fit.ema > 0 else 1
    calls = kinds * config.sample.steps * (2 if config.sample.guidance > 1 else 1)
    mine = -(-outputs // accelerator.num_processes)
    together = min(mine, config.sample.batch)
    with torch.inference_mode():
        answer = _timed(lambda: _forward(unet, together, given, accelerator), device)
    return Expectation(
        train=total_steps(config) * per_step,
        sample=calls * -(-mine // together) * answer,
        memory=count * 4 * (4 + (1 if config.fit.ema > 0 else 0)),
    )


def _timed(work: Callable[[], object], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _learn(
    unet: UNet2DConditionModel, rows: int, given: Conditions, accelerator: Accelerator
) -> None:
    _forward(unet, rows, given, accelerator).square().mean().backward()
    unet.zero_grad(set_to_none=True)


def _forward(
    unet: UNet2DConditionModel, rows: int, given: Conditions, accelerator: Accelerator
) -> Tensor:
    device = accelerator.device
    x = torch.zeros(rows, *given.shape, device=device)
    prompt = torch.zeros(rows, *given.prompts.shape[1:], device=device)
    t = torch.zeros(rows, dtype=torch.long, device=device)
    with accelerator.autocast():
        return unet(x, t, prompt, return_dict=False)[0].float()
