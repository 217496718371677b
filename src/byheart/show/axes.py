"""Limits and ticks that can be read from the back of a room. No torch here."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import log10, sqrt
from typing import Any

LETTERS = 36  # that fit below one panel, side by side
BELOW_ARROWS = 0.84  # of an axis; above it there is room for an arrow


def horizontal(axis: Any, xs: Sequence[float], log: bool, ticks: Sequence[str] = ()) -> None:
    """Limits, and on a logarithmic axis 1, 10, 100: the values themselves where they are few.

    ticks: names of the places 0, 1, 2, … instead.
    """
    from matplotlib.ticker import NullLocator

    if ticks:
        _named(axis, ticks)
        return
    low, high = min(xs), max(xs)
    if not log:
        margin = 0.04 * (high - low) or 0.5
        axis.set_xlim(low - margin, high + margin)
        return
    margin = max((high / low) ** 0.08, 1.5)
    axis.set_xscale("log")
    axis.set_xlim(low / margin, high * margin)
    if len(set(xs)) <= 6 and all(x == int(x) for x in xs):
        places: list[float] = []
        for x in sorted(set(xs)):
            # A label takes up to an eighth of the axis.
            if not places or log10(x / places[-1]) > log10(high / low * margin**2) / 8:
                places.append(x)
    else:
        places = _log_ticks(low / margin, high * margin)
    axis.set_xticks(places)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(lambda x, _: plain(x))


def _named(axis: Any, ticks: Sequence[str]) -> None:
    """Each name in the lines that its share of the axis has room for; many of them upright."""
    axis.set_xlim(-0.5, len(ticks) - 0.5)
    room = LETTERS // len(ticks) - 1
    upright = max(len(word) for name in ticks for word in name.split()) > room
    names = [textwrap.shorten(n, 24) if upright else textwrap.fill(n, room) for n in ticks]
    axis.set_xticks(range(len(ticks)), map(verbatim, names), rotation=90 if upright else 0)


def vertical(axis: Any, ys: Sequence[float], log: bool) -> None:
    from matplotlib.ticker import NullLocator

    positive = [y for y in ys if y > 0]
    if not log or not positive:
        low, high = min(0.0, *ys), max(ys)
        margin = 0.05 * (high - low) or 0.5
        axis.set_ylim(low - margin, high + margin)
        axis.yaxis.set_major_formatter(lambda y, _: plain(y))
        return
    low, high = min(positive) / 1.5, max(positive) * 1.5
    widen = max(1.0, sqrt(10 * low / high))  # at least a decade: two ticks or more
    low, high = low / widen, high * widen
    ticks = _log_ticks(low, high)
    if min(ys) <= 0:
        # Linear below the least positive value, so that 0 has a place.
        axis.set_yscale("symlog", linthresh=low, linscale=0.3)
        axis.set_ylim(-low / 3, high)
        ticks = [0.0, *ticks]
    else:
        axis.set_yscale("log")
        axis.set_ylim(low, high)
    axis.set_yticks(ticks)
    axis.yaxis.set_minor_locator(NullLocator())
    axis.yaxis.set_major_formatter(lambda y, _: plain(y))


def headroom(axis: Any, ys: Sequence[float]) -> None:
    """Room above the highest of these for its arrow, whatever the scale."""
    scale = axis.yaxis.get_transform()
    low, high, highest = scale.transform([*axis.get_ylim(), max(ys)])
    needed = low + (highest - low) / BELOW_ARROWS
    axis.set_ylim(top=float(scale.inverted().transform([max(high, needed)])[0]))


def _log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten between, or of less than two decades 1, 2, 5, 10, …"""
    from matplotlib.ticker import LogLocator

    locator = LogLocator(subs=(1.0, 2.0, 5.0) if high / low < 100 else (1.0,), numticks=7)
    return [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]


def verbatim(words: str) -> str:
    """For matplotlib, which takes what stands between two dollars for a formula."""
    return words.replace("$", r"\$")


def plain(value: float) -> str:
    """A tick's number without powers of ten in small print: 0.001, 20, 1,000, 2 M; 1e-5."""
    for size, letter in ((1e9, " G"), (1e6, " M")):
        if abs(value) >= size:
            return f"{value / size:,.10g}{letter}"
    if value == 0 or abs(value) >= 1e-4:
        return f"{value:,.10g}"
    mantissa, exponent = f"{value:.10e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
