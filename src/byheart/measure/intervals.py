"""A rate with its count and its interval. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Rate:
    """`hits` of `count`, with the 95 % Wilson interval. All None where nothing was counted."""

    hits: int
    count: int
    rate: float | None
    low: float | None
    high: float | None


# scipy.stats.binomtest gives the same numbers, after a second for importing scipy.stats.
def wilson(hits: int, count: int) -> Rate:
    """Wilson's score interval (Wilson 1927): honest at 0 and at 1, unlike rate ± z·s.

    ValueError: hits outside 0 … count.
    """
    if not 0 <= hits <= count:
        raise ValueError(f"{hits} hits of {count}")
    if count == 0:
        return Rate(0, 0, None, None, None)
    p, z2 = hits / count, Z95**2
    middle = (p + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * sqrt(p * (1 - p) / count + z2 / (4 * count**2))
    # At the ends the formula is exact but for rounding: say 0 and 1, not 1e-17.
    low = 0.0 if hits == 0 else middle - half
    high = 1.0 if hits == count else middle + half
    return Rate(hits, count, p, low, high)
