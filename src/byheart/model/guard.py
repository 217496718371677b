"""Numbers gone bad: a step without a finite gradient is left out, and too many in a row end it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from byheart.config import Fit

LOOK_EVERY = 10  # steps between two looks at a GPU's count: each of them waits for the GPU


@dataclass
class LeftOut:
    """Steps whose loss or gradient was not finite: counts on the device, so that nobody waits."""

    total: Tensor
    in_a_row: Tensor  # up to and with the last step
    longest: Tensor  # the most that ever came in a row


def none_left_out(device: torch.device | str = "cpu") -> LeftOut:
    return LeftOut(*(torch.zeros((), device=device) for _ in range(3)))


def clip(weights: list[torch.nn.Parameter], most: float) -> Tensor:
    """The length of the gradient, which is then shortened to `most`. As torch's
    `clip_grad_norm_`, but where nobody has to wait for the length a short one costs no more."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    # As torch's `get_total_norm`, which first sorts them by device and type.
    norm = torch.stack(torch._foreach_norm(gradients)).norm()
    if norm.device.type != "cpu" or norm > most:
        torch.nn.utils.clip_grads_with_norm_(weights, most, norm)
    return norm


def guarded_step(
    optimizer: torch.optim.Optimizer,
    bad: Tensor,
    left_out: LeftOut,
    fit: Fit,
    number: int,
    last: bool,
) -> None:
    """The optimizer's step number `number` (from 1), unless the loss or the gradient's length was
    not finite (`bad`, the same on every process).

    ValueError: that was so for `fit.non_finite` steps in a row.
    """
    skipped = bad.float()
    left_out.total = left_out.total + skipped
    left_out.in_a_row = (left_out.in_a_row + 1) * skipped
    left_out.longest = left_out.longest.maximum(left_out.in_a_row)
    on_gpu = bad.device.type == "cuda"
    if on_gpu:
        # The fused optimizer asks the GPU whether to step, as it does for a gradient scaler.
        optimizer.grad_scale, optimizer.found_inf = None, skipped  # type: ignore[attr-defined]
        optimizer.step()
    elif not bad:
        optimizer.step()
    if (not on_gpu or last or number % LOOK_EVERY == 0) and (left_out.longest >= fit.non_finite):
        row = int(left_out.longest)
        where = f"up to step {number}" if on_gpu else f"from step {number - row + 1} on"
        raise ValueError(
            f"loss or gradient were not finite in {row} steps in a row, {where}: type a smaller "
            f"fit.lr than {fit.lr}, or fit.precision=fp32, with run=<new name>; what was saved "
            "before is kept"
        )
