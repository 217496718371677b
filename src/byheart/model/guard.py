"""Numbers gone bad: a step without a finite gradient is left out, and too many in a row end it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from byheart.config import Fit

LOOK_EVERY = 10  # steps between two looks at a GPU's count: each of them waits for the GPU


@dataclass
class LeftOut:
    """Steps whose gradient was not finite: whole numbers on the device, so that nobody waits."""

    total: Tensor
    in_a_row: Tensor  # up to and with the last step


def none_left_out(device: torch.device | str = "cpu") -> LeftOut:
    return LeftOut(torch.zeros((), device=device), torch.zeros((), device=device))


def clip(weights: list[torch.nn.Parameter], most: float) -> Tensor:
    """The length of the gradient, which is then shortened to `most`. As torch's
    `clip_grad_norm_`, but where nobody has to wait for the length a short one costs no more."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if norm.device.type != "cpu" or norm > most:
        torch.nn.utils.clip_grads_with_norm_(weights, most, norm)
    return norm


def guarded_step(
    optimizer: torch.optim.Optimizer, norm: Tensor, left_out: LeftOut, fit: Fit, number: int
) -> None:
    """The optimizer's step number `number` (from 1), unless the gradient's length is not finite.

    The loss need not be asked: where it is not finite, neither is its gradient, and after the
    exchange of gradients every process sees the same.

    ValueError: that was so for `fit.non_finite` steps in a row.
    """
    bad = (~norm.isfinite()).float()
    left_out.total = left_out.total + bad
    left_out.in_a_row = (left_out.in_a_row + 1) * bad
    if bad.device.type == "cpu":
        if not bad:
            optimizer.step()
    else:
        # The fused optimizer asks the GPU whether to step, as it does for a gradient scaler.
        optimizer.grad_scale, optimizer.found_inf = None, bad  # type: ignore[attr-defined]
        optimizer.step()
    if bad.device.type == "cpu" or number % LOOK_EVERY == 0:
        row = int(left_out.in_a_row)
        if row >= fit.non_finite:
            raise ValueError(
                f"the gradient was not finite in {row} steps in a row, from step "
                f"{number - row + 1} on: type a smaller fit.lr than {fit.lr}, or "
                "fit.precision=fp32; the last checkpoint is kept"
            )
