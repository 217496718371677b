"""Before it starts: how many threads pay, how long a run will take and how much memory it needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from diffusers import UNet2DConditionModel
from torch import Tensor

from byheart.config import Config
from byheart.model.memory import optimizer_numbers, state_bytes
from byheart.model.optim import moved_by_muon, orthogonalised
from byheart.model.sample import Conditions, as_fits
from byheart.model.unet import parameters
from byheart.runtime.machine import extra_memory, free_disk, free_memory, physical_cores
from byheart.runtime.processes import check_room, from_first, processes_here

# Bytes a second through the optimizer, measured low: an expectation should rather be too long.
TRAFFIC = {"cpu": 8e9, "cuda": 1e12, "mps": 1e11}
PAYS = 0.9  # of the time with half as many threads: what more of them must come down to
LONG = 5.0  # seconds: a pass that takes so long on all cores is of a network that needs them


def choose_threads(
    unet: UNet2DConditionModel, given: Conditions, config: Config, accelerator: Accelerator
) -> None:
    """threads=auto: set torch to as many threads as pay for a pass of training, on every process as
    many. Nothing is learned from it. Elsewhere than on a CPU: all cores, as they are set."""
    if config.threads != "auto" or accelerator.device.type != "cpu":
        return
    rows = _rows_at_once(config, accelerator)
    most = max(1, physical_cores() // processes_here(accelerator))

    def seconds(threads: int) -> float:
        torch.set_num_threads(threads)
        return _timed(partial(_learn, unet, rows, given, accelerator), accelerator.device)

    torch.set_num_threads(from_first(accelerator, lambda: threads_that_pay(seconds, most)))


def threads_that_pay(seconds: Callable[[int], float], most: int) -> int:
    """The least number of threads, of 1, 2, 4, … and `most`, whose double does not pay.

    seconds: what a pass takes with so many. Machines are shared: each is asked twice in turn, and
    the shorter time counts.
    """
    if most == 1 or seconds(most) > LONG:  # the first pass also chooses kernels, and does not count
        return most
    chosen = 1
    while chosen < most:
        more = min(2 * chosen, most)
        fewer_took, more_took = zip(*((seconds(chosen), seconds(more)) for _ in "12"), strict=True)
        if min(more_took) > PAYS * min(fewer_took):
            break
        chosen = more
    return chosen


@dataclass(frozen=True)
class Estimate:
    """Seconds and bytes a run is expected to take, and how many bytes there are."""

    train: float
    sample: float
    memory: int  # weights, gradients, the optimizer's moments and the average
    activations: int = 0  # on top of them, as far as the timed pass shows
    free: int | None = None  # memory of the device; None: nobody knows
    disk: int = 0  # of the checkpoints while another one is being written, and of the model
    free_disk: int | None = None

    def __str__(self) -> str:
        return (
            f"about {duration(self.train)} of training, {duration(self.sample)} of sampling, "
            f"{gib(self.memory)} of memory for weights and optimizer"
        )

    @property
    def advice(self) -> list[str]:
        """What to change where it will hardly fit. Nothing is refused: it is an estimate."""
        said, needed = [], self.memory + self.activations
        if self.free is not None and needed > self.free:
            said.append(
                f"it needs about {gib(needed)} of memory and {gib(self.free)} are free: type "
                "fit.accumulate=<more parts>, fit.gradient_checkpointing=true, fit.ema=0 "
                "evaluate.weights=raw, or a smaller unet=…"
            )
        if self.free_disk is not None and self.disk > self.free_disk:
            said.append(
                f"it needs about {gib(self.disk)} of disk and {gib(self.free_disk)} are free: "
                "type checkpoint.keep=1, or root=<a folder on another disk>"
            )
        return said


def gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def duration(seconds: float) -> str:
    """12 s, 3.5 min, 2.1 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def estimate(
    unet: UNet2DConditionModel,
    given: Conditions,
    outputs: int,
    config: Config,
    accelerator: Accelerator,
    path: Path,
) -> Estimate:
    """Time a pass of training and one of sampling; nothing learns from them.

    path: where the run will be written, if only its parents are there yet.
    ValueError: a single sample does not fit into memory, or among several processes a part.
    """
    device = accelerator.device
    free = free_memory(device)  # beside the weights, which are there already
    rows, parts, seconds, activations = _fitting(unet, given, config, accelerator)
    if seconds < 2:  # the first pass also chooses kernels; where that matters, time a second
        seconds = _timed(lambda: _learn(unet, rows, given, accelerator), device)
    count = parameters(unet)
    tensors = 7 + (3 if config.fit.ema > 0 else 0)  # AdamW reads and writes 7 per weight, EMA 3
    optimizer = count * 4 * tensors / TRAFFIC.get(device.type, TRAFFIC["cpu"])
    if matrices := [weight.detach().flatten(1) for weight in moved_by_muon(unet, config.fit)[0]]:
        optimizer += _timed(lambda: orthogonalised(matrices), device)
    per_step = seconds * parts + optimizer
    kinds = 2 if config.fit.ema > 0 else 1  # of weights that are kept
    saved = count * kinds + optimizer_numbers(unet, config.fit)
    each = config.sample.steps * (2 if config.sample.guidance > 1 else 1)
    mine = -(-outputs // accelerator.num_processes)

    def answering(rows: int) -> float:
        with torch.inference_mode():
            return _timed(partial(_forward, unet, rows, given, accelerator), device)

    answer, together = as_fits(answering, min(mine, config.sample.batch))
    return Estimate(
        train=config.steps * per_step,
        sample=len(config.evaluate.measured) * each * -(-mine // together) * answer,
        memory=state_bytes(unet, config.fit),
        activations=activations,
        free=None if free is None else free + count * 4,
        disk=4 * (saved * (config.checkpoint.keep + 1) + count),
        free_disk=free_disk(path),
    )


def _rows_at_once(config: Config, accelerator: Accelerator) -> int:
    """Samples that a process is to work through at once."""
    return max(1, config.fit.batch // (accelerator.num_processes * config.fit.accumulate))


def _fitting(
    unet: UNet2DConditionModel, given: Conditions, config: Config, accelerator: Accelerator
) -> tuple[int, int, float, int]:
    """Samples worked through at once, in how many parts, seconds and extra bytes of one part.

    Where the configured part does not fit into memory, the largest half of a half that does.
    """
    device = accelerator.device
    rows, parts = _rows_at_once(config, accelerator), config.fit.accumulate
    while True:
        try:
            with extra_memory(device) as extra:
                seconds = _timed(partial(_learn, unet, rows, given, accelerator), device)
            return rows, parts, seconds, extra()
        except (RuntimeError, MemoryError) as failure:
            check_room(failure, rows, parts, accelerator)
        rows, parts = -(-rows // 2), 2 * parts
        unet.zero_grad(set_to_none=True)
        clear_device_cache(garbage_collection=True)


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
