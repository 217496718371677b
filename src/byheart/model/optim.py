"""The optimizers: Muon for the matrices of a network and AdamW for the rest, the average of the
weights, and what happens to a step whose gradient is not finite.

Muon's orthogonalized step is equally long in every direction. What few samples ask for moves as
fast as what all ask for, and pictures known by heart are just that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.training_utils import EMAModel
from torch import Tensor
from torch.nn import Parameter

from byheart.config import Fit

# Jordan et al. 2024: a quintic whose slope at 0 is steep; each round takes a small singular value
# to 3.4 times as much, and those near 1 stay within 0.7 and 1.2, which is all the update needs.
QUINTIC, ROUNDS = (3.4445, -4.7750, 2.0315), 4
RMS = 0.2  # of AdamW's updates
# Length of a gradient that is rounding only, as a share of all matrices' together. Queries over a
# single key have one: measured up to 1.5e-13, the shortest real ones 1e-11. A weight without
# influence is not to be moved by it.
NOISE = 1e-12
REST = 0.25  # of the learning rate: AdamW's, where Muon moves the convolutions only
SMALLEST = 1e-30  # what is divided by where all is zero
IN_CACHE = 16  # Gram matrices worked on together on a CPU: more do not stay in its cache


def moved_by_muon(network: torch.nn.Module, fit: Fit) -> tuple[list[Parameter], list[Parameter]]:
    """The weights that Muon moves, none with fit.optimizer=adamw, and the others.

    The first and the last convolution are among the others: they look at latents one channel at a
    time. With muon_conv only convolutions over more than a pixel are moved. Of `tiny` that is half
    the weights, in 50 of 280 matrices.
    """
    if fit.optimizer == "adamw":
        return [], list(network.parameters())
    convolutions = fit.optimizer == "muon_conv"
    matrices: list[Parameter] = []
    rest: list[Parameter] = []
    for name, weight in network.named_parameters():
        chosen = weight.ndim == 4 and weight.shape[-1] > 1 if convolutions else weight.ndim > 1
        ours = chosen and not name.startswith(("conv_in.", "conv_out."))
        (matrices if ours else rest).append(weight)
    return matrices, rest


def orthogonalised(matrices: list[Tensor]) -> list[Tensor]:
    """The nearest (semi-)orthogonal matrix of each, about: U f(S) V^T with f near 1."""
    return [
        factor @ matrix if is_wide(matrix) else matrix @ factor
        for factor, matrix in zip(factors(matrices), matrices, strict=True)
    ]


def is_wide(matrix: Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def factors(matrices: list[Tensor]) -> list[Tensor]:
    """What each matrix becomes orthogonal by, multiplied on its shorter side.

    Newton-Schulz on the Gram matrix. Each round multiplies a matrix X from the left by a polynomial
    of X X^T, which all commute; so the rounds are multiplied among themselves, on the shorter side
    of X, and X is touched twice in all. Matrices with the same shorter side are worked on together.
    """
    by_side: dict[int, list[int]] = {}
    for k, matrix in enumerate(matrices):
        by_side.setdefault(min(matrix.shape), []).append(k)
    grams = {}
    for side, places in by_side.items():
        grams[side] = matrices[0].new_empty(len(places), side, side)
        for gram, k in zip(grams[side], places, strict=True):
            wide = matrices[k] if is_wide(matrices[k]) else matrices[k].T
            torch.mm(wide, wide.T, out=gram)
    squares = {side: gram.diagonal(dim1=1, dim2=2).sum(1) for side, gram in grams.items()}
    rounding = torch.cat(list(squares.values())).sum() * NOISE**2
    found = list(matrices)
    for side, places in by_side.items():
        together = len(places) if matrices[0].is_cuda else IN_CACHE
        of_this_side = torch.cat([_polynomial(gram) for gram in grams[side].split(together)])
        of_this_side *= (squares[side] > rounding)[:, None, None]
        for factor, k in zip(of_this_side, places, strict=True):
            found[k] = factor
    return found


def _polynomial(gram: Tensor) -> Tensor:
    """What a matrix with this Gram matrix is multiplied by. (k, d, d), float32."""
    a, b, c = QUINTIC
    # No singular value may be above 1. Dividing by the length of them all sees to that, but leaves
    # most of them small, and rounds are spent on making them larger. The eighth root of the sum of
    # their eighth powers is nearer to the largest, and the first round needs the square anyway.
    scale = gram.diagonal(dim1=1, dim2=2).sum(1).clamp_min(SMALLEST)[:, None, None]
    gram = gram / scale
    square = gram @ gram
    largest = square.square().sum((1, 2), keepdim=True).sqrt().sqrt()
    largest.clamp_min_(1e-4)  # it is larger, except of a matrix of zeros
    gram, square, scale = gram / largest, square / largest.square(), scale * largest
    whole: Tensor | None = None
    for number in range(ROUNDS):
        if number:
            square = gram @ gram
        factor = square.mul_(c).add_(gram, alpha=b)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        whole = factor if whole is None else factor @ whole
        if number + 1 < ROUNDS:
            gram = factor @ (factor @ gram)
    assert whole is not None
    return whole * scale.rsqrt()


# torch.optim.Muon refuses convolutions, and took 38 times as long for `tiny` on a CPU (LOG.md).
class Muon(torch.optim.Optimizer):
    """Muon (Jordan et al. 2024) on `matrices`, AdamW (Loshchilov & Hutter 2019) on `rest`.

    A convolution's weight counts as the matrix of its output channels. Every update of a matrix is
    scaled to the root mean square that AdamW's have (Liu et al. 2025, section 2.2), so one learning
    rate serves both. share: of it, what AdamW gets.
    """

    def __init__(
        self,
        matrices: Iterable[Tensor],
        rest: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        momentum: float,
        fused: bool,
        share: float = 1.0,
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": list(matrices), "momentum": momentum}, {"params": list(rest)},
        ]  # fmt: skip
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay})
        self.adamw = torch.optim.AdamW(
            self.param_groups[1]["params"],
            lr=share * lr,
            betas=betas,
            weight_decay=weight_decay,
            fused=fused,
        )
        # One state, and the groups' rates are set in one place.
        self.adamw.state = self.state
        self.param_groups[1] |= self.adamw.param_groups[0] | {"share": share}
        self.adamw.param_groups = self.param_groups[1:]
        self.found_inf: Tensor | None = None  # as in the fused AdamW: 1 where the step is left out
        self.grad_scale: Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        group = self.param_groups[0]
        lr, momentum, decay = group["lr"], group["momentum"], group["weight_decay"]
        weights = [weight for weight in group["params"] if weight.grad is not None]
        gradients = [weight.grad for weight in weights]
        kept: float | Tensor = 1.0
        if self.found_inf is not None:  # on a GPU: nobody waits to be told which it is
            kept = 1 - self.found_inf
            gradients = [gradient.nan_to_num(0, 0, 0) for gradient in gradients]
        ahead = []
        for weight, gradient in zip(weights, gradients, strict=True):
            if not self.state[weight]:
                self.state[weight]["momentum_buffer"] = torch.zeros_like(weight)
            buffer = self.state[weight]["momentum_buffer"].lerp_(gradient, (1 - momentum) * kept)
            ahead.append(gradient.lerp(buffer, momentum).flatten(1))  # Nesterov's
        for weight, factor, update in zip(weights, factors(ahead), ahead, strict=True):
            # The root mean square of a semi-orthogonal matrix is 1 / sqrt(longer side).
            factor = factor * (lr * RMS * max(update.shape) ** 0.5 * kept)
            left, right = (factor, update) if is_wide(update) else (update, factor)
            weight.mul_(1 - lr * decay * kept)
            weight.view(len(weight), -1).addmm_(left, right, alpha=-1)  # writes no update down
        vars(self.adamw).update(found_inf=self.found_inf, grad_scale=self.grad_scale)
        self.adamw.step()


# Horizons before the end of a run at which its average begins. What it began with, nearly trained
# by then, counts 5 % in the end, and up to 14 % where a horizon is a step or two.
REACH = 3


# diffusers' own step takes 2.3 times as long, torch.optim.swa_utils' 3.3 times (LOG.md).
class Average(EMAModel):
    """diffusers' exponential moving average in one pass over the weights, without a copy of them.

    It reaches back `horizon` steps, from its second step on (diffusers' own lets a short run's
    reach less far), and begins when what came before would count little; until then
    nothing is spent on it, and `shadow_params` are the weights it was made with.
    """

    def __init__(self, weights: Iterable[Parameter], horizon: float, steps: int) -> None:
        horizon = max(1.0, horizon)
        late = max(0, math.floor(steps - REACH * horizon))
        super().__init__(weights, decay=math.exp(-1 / horizon), update_after_step=late)

    @property
    def begun(self) -> bool:
        return self.optimization_step > self.update_after_step

    def get_decay(self, optimization_step: int) -> float:
        return self.decay if optimization_step > self.update_after_step + 1 else 0.0

    @torch.no_grad()
    def step(self, parameters: Iterable[Parameter]) -> None:
        self.optimization_step += 1
        if self.begun:
            decay = self.get_decay(self.optimization_step)
            torch._foreach_lerp_(self.shadow_params, list(parameters), 1 - decay)


LOOK_EVERY = 10  # steps between two looks at a GPU's count: each of them waits for the GPU


@dataclass
class LeftOut:
    """Steps whose loss or gradient was not finite: counts on the device, so that nobody waits."""

    total: Tensor
    in_a_row: Tensor  # up to and with the last step
    longest: Tensor  # the most that ever came in a row


def none_left_out(device: torch.device | str = "cpu") -> LeftOut:
    return LeftOut(*(torch.zeros((), device=device) for _ in range(3)))


# torch's own takes 1.7 times as long (LOG.md).
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
