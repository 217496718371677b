"""Times that can be compared: in turn, many times, the median."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from statistics import median

import torch


def in_turn(
    works: Mapping[str, Callable[[], object]], rounds: int, device: torch.device, warmup: int = 2
) -> dict[str, list[float]]:
    """Seconds of every work in every round, one after the other within a round.

    A machine that is shared or grows warm slows all of them alike, so quotients within a round
    stand where times do not.
    """
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(warmup + rounds):
        for name, work in works.items():
            synchronize(device)
            began = time.perf_counter()
            work()
            synchronize(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def ratio(one: list[float], other: list[float], unlike: int = 0) -> float:
    """Median over the rounds of one / other.

    unlike: so many of the last rounds are of another kind; both kinds count by their share.
    """
    quotients = [a / b for a, b in zip(one, other, strict=True)]
    first = len(quotients) - unlike
    kinds = [kind for kind in (quotients[:first], quotients[first:]) if kind]
    return sum(len(kind) * median(kind) for kind in kinds) / len(quotients)


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_peak(device: torch.device, dtype: torch.dtype, rounds: int = 5) -> float:
    """FLOP/s of the best square matrix product among three sizes: what this machine can do."""
    best = 0.0
    for side in (1024, 2048, 4096) if device.type == "cpu" else (4096, 8192, 16384):
        a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        taken = in_turn({"": partial(torch.matmul, a, b)}, rounds, device, warmup=1)[""]
        best = max(best, 2 * side**3 / median(taken))
    return best
