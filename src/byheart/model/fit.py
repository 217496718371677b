"""The training loop: a generator that yields after each optimizer step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils.memory import clear_device_cache
from diffusers import DDIMScheduler, UNet2DConditionModel
from jaxtyping import Float
from torch import Tensor

from byheart.config import Config, Fit
from byheart.model.batch import Batch, draw
from byheart.model.conditioning import Conditioning
from byheart.model.objective import loss
from byheart.model.optim import (
    REST,
    Average,
    LeftOut,
    Muon,
    clip,
    guarded_step,
    moved_by_muon,
    none_left_out,
)
from byheart.model.rng import training_seed
from byheart.runtime.processes import check_room


@dataclass
class State:
    """All that training changes, and all that a checkpoint holds."""

    unet: UNet2DConditionModel
    ema: Average | None
    optimizer: torch.optim.Optimizer
    step: int = 0  # optimizer steps done
    left_out: LeftOut = field(default_factory=none_left_out)  # of them

    @contextmanager
    def using(self, kind: str) -> Iterator[UNet2DConditionModel]:
        """The UNet in eval mode with the last weights (`raw`) or their average (`ema`), which are
        the same until the average has begun."""
        weights = list(self.unet.parameters())
        self.unet.eval()
        assert kind == "raw" or self.ema is not None
        average = self.ema if kind == "ema" and self.ema and self.ema.begun else None
        if average is not None:
            average.store(weights)
            average.copy_to(weights)
        try:
            yield self.unet
        finally:
            if average is not None:
                average.restore(weights)

    def forget_optimizer(self) -> None:
        """Free the moments and gradients: half of the memory, of no use after the last step."""
        self.optimizer.state.clear()
        self.unet.zero_grad(set_to_none=True)


@dataclass(frozen=True)
class Step:
    """One finished optimizer step. What is a tensor stays on the device: nobody waits for it."""

    step: int  # steps done, this one included
    loss: Tensor  # mean over this process's rows
    lr: float
    left_out: Tensor  # steps of the run so far whose gradient was not finite


def start(unet: UNet2DConditionModel, config: Config) -> State:
    """The optimizer and, where asked for, the average of the weights."""
    fit, steps = config.fit, config.steps
    optimizer = optimizer_of(unet, fit)
    ema = None
    if fit.ema > 0:
        # The horizon is a share of the run: a fixed 0.9999 would still hold the untrained
        # network at the end of a short one.
        ema = Average(unet.parameters(), fit.ema * steps, steps)
    device = next(unet.parameters()).device
    return State(unet, ema, optimizer, left_out=none_left_out(device))


def optimizer_of(unet: UNet2DConditionModel, fit: Fit) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or Muon for matrices and AdamW for the rest."""
    given: dict[str, Any] = {
        "lr": fit.lr,
        "betas": (fit.betas[0], fit.betas[1]),
        "weight_decay": fit.weight_decay,
        "fused": next(unet.parameters()).device.type in {"cpu", "cuda"},
    }
    matrices, rest = moved_by_muon(unet, fit)
    if not matrices:
        return torch.optim.AdamW(rest, **given)
    share = REST if fit.optimizer == "muon_conv" else 1.0
    return Muon(matrices, rest, momentum=fit.momentum, share=share, **given)


def learning_rate(fit: Fit, step: int, steps: int) -> float:
    """Linear from 0 over the first `warmup` share, constant, linear to 0 over the last `decay`.

    A function of the step alone, so that resuming and several processes cannot disturb it.
    """
    up = min(1.0, (step + 1) / max(1.0, fit.warmup * steps))
    down = min(1.0, (steps - step) / max(1.0, fit.decay * steps)) if fit.decay > 0 else 1.0
    return fit.lr * up * down


def fit(
    state: State,
    latents: Float[Tensor, "n c h w"],
    conditioning: Conditioning,
    schedule: DDIMScheduler,
    config: Config,
    accelerator: Accelerator,
) -> Iterator[Step]:
    """Train `state` in place from its step to the end of the budget.

    A step whose loss or gradient is not finite leaves weights and moments as they are; so many as
    `fit.non_finite` in a row end the run. Out of memory, the parts are halved and the step is begun
    again: same global batch, same result but for rounding.

    ValueError: the batch cannot be shared evenly among the processes, a single sample does not fit
    into memory, or the gradient is no longer finite.
    """
    parts = parts_of(config.fit, accelerator)
    steps, seed = config.steps, training_seed(config.seed, config.split)
    timesteps, shape = schedule.config.num_train_timesteps, tuple(latents.shape[1:])
    assert len(shape) == 3
    network = accelerator.prepare_model(state.unet)
    weights = list(state.unet.parameters())
    network.train()
    while state.step < steps:
        batch = draw(
            seed, state.step, config.fit.batch, len(latents), config.images.duplicates, timesteps,
            shape, config.captions.dropout, latents.device,
        )  # fmt: skip
        lr = learning_rate(config.fit, state.step, steps)
        for group in state.optimizer.param_groups:
            group["lr"] = lr * group.get("share", 1.0)

        def error_of(part: slice, batch: Batch = batch) -> Tensor:
            mine = batch.rows(part)
            prompt = conditioning.prompt(batch, seed, state.step, part)
            with accelerator.autocast():
                return loss(network, schedule, latents[mine.image], mine.noise, mine.t, prompt)

        total, parts = _gradient(error_of, parts, network, accelerator)
        norm = clip(weights, config.fit.clip or math.inf)
        bad = ~(norm.isfinite() & total.isfinite())
        if accelerator.num_processes > 1:  # the loss is each process's own
            bad = accelerator.reduce(bad.float(), "sum") > 0
        number = state.step + 1
        guarded_step(state.optimizer, bad, state.left_out, config.fit, number, number == steps)
        state.optimizer.zero_grad(set_to_none=True)
        if state.ema is not None:
            state.ema.step(weights)
        state.step += 1
        yield Step(state.step, total, lr, state.left_out.total)


def _gradient(
    error_of: Callable[[slice], Tensor],
    parts: list[slice],
    network: torch.nn.Module,
    accelerator: Accelerator,
) -> tuple[Tensor, list[slice]]:
    """The mean loss over the parts' rows, its gradient left in the weights, and the parts that
    fitted into memory."""
    rows = sum(part.stop - part.start for part in parts)
    total: Tensor | None = None
    error: Tensor | None = None
    while True:
        try:
            for number, part in enumerate(parts):
                last = number == len(parts) - 1
                with nullcontext() if last else accelerator.no_sync(network):
                    error = error_of(part) * ((part.stop - part.start) / rows)
                    accelerator.backward(error)
                total = error.detach() if total is None else total + error.detach()
            assert total is not None
            return total, parts
        except (RuntimeError, MemoryError) as failure:
            largest = max(part.stop - part.start for part in parts)
            check_room(failure, largest, len(parts), accelerator)
        total = error = None  # they hold on to what the pass had computed
        network.zero_grad(set_to_none=True)
        parts = halved(parts)
        clear_device_cache(garbage_collection=True)


def halved(parts: list[slice]) -> list[slice]:
    """Each part as two; a single sample stays one."""
    found = []
    for part in parts:
        middle = (part.start + part.stop + 1) // 2
        found += [slice(part.start, middle)]
        found += [slice(middle, part.stop)] if middle < part.stop else []
    return found


def parts_of(fit: Fit, accelerator: Accelerator) -> list[slice]:
    """The rows of the global batch this process works on, one slice per accumulation step.

    ValueError: it cannot be shared evenly.
    """
    pieces = accelerator.num_processes * fit.accumulate
    if fit.batch % pieces:
        raise ValueError(
            f"fit.batch={fit.batch} cannot be shared evenly: {accelerator.num_processes} processes "
            f"x fit.accumulate={fit.accumulate}; type fit.batch={-(-fit.batch // pieces) * pieces}"
        )
    rows = fit.batch // pieces
    first = accelerator.process_index * fit.accumulate
    return [slice((first + k) * rows, (first + k + 1) * rows) for k in range(fit.accumulate)]
