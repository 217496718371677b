"""Randomness as an argument: one independent generator for every purpose, seed and step."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Stream(IntEnum):
    """Purposes that draw. A number is never given a new meaning: results would change."""

    WEIGHTS = 0
    ORDER = 1
    BATCH = 2
    OUTPUT = 3
    RANDOM_CAPTION = 4
    DENOISING = 5
    STEPS = 6
    CYCLES = 7


def seed_of(seed: int, stream: Stream, *index: int) -> int:
    """63 bits from (seed, purpose, index); neighbours are unrelated (numpy's SeedSequence)."""
    state = np.random.SeedSequence([seed, int(stream), *index]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def training_seed(seed: int, split: str) -> int:
    """Of weights, order, batches and random captions. The two halves of a source get networks of
    their own: twins that begin and are shaken alike would agree for that reason alone."""
    if split == "none":
        return seed
    halves = np.random.SeedSequence([seed, {"a": 1, "b": 2}[split]])
    return int(halves.generate_state(1, np.uint64)[0]) >> 1


def generator(
    device: torch.device | str, seed: int, stream: Stream, *index: int
) -> torch.Generator:
    return torch.Generator(device).manual_seed(seed_of(seed, stream, *index))
