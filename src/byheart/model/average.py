"""The averaged weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from diffusers.training_utils import EMAModel
from torch.nn import Parameter

# Horizons before the end of a run at which its average begins. What it began with, nearly trained
# by then, counts 5 % in the end, and up to 14 % where a horizon is a step or two.
REACH = 3


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
