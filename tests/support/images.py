"""Pictures to measure: even ones, whose distances are known, and noise."""

from __future__ import annotations

import torch
from torch import Tensor


def grey(*values: int, side: int = 4) -> Tensor:
    """One even image for each value: distances between them are differences / 255."""
    images = torch.tensor(values, dtype=torch.uint8)[:, None, None, None]
    return images.expand(-1, 3, side, side).clone()


def noise(count: int, seed: int = 0, side: int = 8, low: int = 0, high: int = 256) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, side, side), generator=draws, dtype=torch.uint8)
