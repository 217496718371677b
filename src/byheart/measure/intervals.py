"""A rate with its count and its interval. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite, sqrt
from typing import SupportsFloat

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Rate:
    """`hits` of `count`, with the 95 % Wilson interval. All None where nothing was counted."""

    hits: int
    count: int
    rate: float | None
    low: float | None
    high: float | None


def finite(value: SupportsFloat) -> float | None:
    """The number; None for infinity and nan, which JSON has not."""
    return float(value) if isfinite(value) else None


# scipy.stats.binomtest gives the same numbers, after a second for importing scipy.stats.
def wilson(hits: int, count: int, draws: int | None = None) -> Rate:
    """Wilson's score interval (Wilson 1927): honest at 0 and at 1, unlike rate ± z·s.

    draws: how many of `count` are independent of each other, whose interval it is then; None: all.
    ValueError: hits outside 0 … count.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count}")
    if count == 0:
        return Rate(0, 0, None, None, None)
    p, n, z2 = hits / count, draws or count, Z95**2
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n**2))
    # At the ends the formula is exact but for rounding: say 0 and 1, not 1e-17.
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == count else middle + half
    return Rate(hits, count, p, low, high)
