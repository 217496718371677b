"""Curves of the page as inline SVG: small, without a script, told apart without colours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from byheart.lesson.html import safe
from byheart.show.plots import BLUE as ACCENT
from byheart.show.plots import GREY as FAINT
from byheart.show.plots import INK
from byheart.show.plots import ORANGE as COPY

WIDTH, HEIGHT = 720, 384
LEFT, RIGHT, TOP, BOTTOM = 88, 16, 40, 62
COLOURS = (COPY, ACCENT, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")  # Okabe & Ito
DASHES = ("", "7 4", "2 4", "9 3 2 3")


@dataclass(frozen=True)
class Axis:
    """From values to pixels across."""

    words: str
    low: float
    high: float
    log: bool = False
    ticks: tuple[float, ...] = ()

    def at(self, x: float) -> float:
        low, high, value = self.low, self.high, x
        if self.log:
            low, high, value = math.log10(low), math.log10(high), math.log10(max(x, self.low))
        share = 0.5 if high == low else (value - low) / (high - low)
        return LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28)


def up(share: float) -> float:
    """Of a share from 0 to 1, in pixels down."""
    return TOP + 8 + (1 - share) * (HEIGHT - TOP - BOTTOM - 16)


def log_axis(words: str, values: Sequence[float]) -> Axis:
    """Over these values, above 0; ticks at powers of ten, or at the values where they are few."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low / 2, high * 2
    few = sorted(set(values))
    powers = [10.0**k for k in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)]
    ticks = few if len(few) <= 6 else [p for p in powers if low <= p <= high]
    return Axis(words, low, high, True, tuple(ticks))


def line(axis: Axis, points: Sequence[tuple[float, float]], look: int, width: float = 2.5) -> str:
    path = " ".join(f"{axis.at(x):.1f},{up(y):.1f}" for x, y in points)
    dash = DASHES[look % len(DASHES)]
    return (
        f'<polyline points="{path}" fill="none" stroke="{COLOURS[look % len(COLOURS)]}" '
        f'stroke-width="{width}"{f" stroke-dasharray={chr(34)}{dash}{chr(34)}" if dash else ""}/>'
    )


def upright(axis: Axis, x: float, words: str, colour: str = FAINT, row: int = 0) -> str:
    """A vertical line with words beside it. row: how far down they stand."""
    at = axis.at(x)
    right = at < WIDTH * 0.6
    return (
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="{colour}" '
        f'stroke-width="2" stroke-dasharray="5 4"/><text x="{at + (6 if right else -6):.1f}" '
        f'y="{TOP + 30 + 32 * row}" text-anchor="{"start" if right else "end"}" class="tag" '
        f'style="--tag: {colour}">{safe(words)}</text>'
    )


def whisker(axis: Axis, x: float, low: float, high: float, look: int) -> str:
    """The ends of an interval."""
    at, colour = axis.at(x), COLOURS[look % len(COLOURS)]
    return (
        f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{up(low):.1f}" y2="{up(high):.1f}" '
        f'stroke="{colour}" stroke-width="2" opacity=".55"/>'
    )


def dot(axis: Axis, x: float, y: float, look: int, filled: bool = True) -> str:
    """A circle or, for every other series, a square."""
    colour, at, high = COLOURS[look % len(COLOURS)], axis.at(x), up(y)
    paint = f'fill="{colour if filled else "#fff"}" stroke="{colour}" stroke-width="2.5"'
    if look % 2:
        return f'<rect x="{at - 7:.1f}" y="{high - 7:.1f}" width="14" height="14" {paint}/>'
    return f'<circle cx="{at:.1f}" cy="{high:.1f}" r="8" {paint}/>'


def frame(axis: Axis, y_words: str, inside: str, words: str) -> str:
    """The whole SVG with its axes. words: the alternative text."""
    lines = []
    for k in range(5):
        y = up(k / 4)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e5ea"/>'
            f'<text x="{LEFT - 8}" y="{y + 5:.1f}" text-anchor="end">{25 * k} %</text>'
        )
    for tick in axis.ticks:
        lines.append(
            f'<text x="{axis.at(tick):.1f}" y="{HEIGHT - BOTTOM + 24}" text-anchor="middle">'
            f"{tick:,.6g}</text>"
        )
    middle = (LEFT + WIDTH - RIGHT) / 2
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{safe(words)}" style="color: {INK}">{"".join(lines)}'
        f'<text x="{middle}" y="{HEIGHT - 8}" text-anchor="middle" class="word">'
        f"{safe(axis.words)}</text>"
        f'<text x="12" y="24" class="word">{safe(y_words)}</text>{inside}</svg>'
    )


def legend(names: Sequence[str]) -> str:
    """What belongs to which colour and dash, below a chart."""
    items = []
    for look, name in enumerate(names):
        colour, dash = COLOURS[look % len(COLOURS)], DASHES[look % len(DASHES)]
        items.append(
            '<li><svg width="44" height="14" aria-hidden="true"><line x1="2" x2="42" y1="7" '
            f'y2="7" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/></svg>'
            f"{safe(name)}</li>"
        )
    return f'<ul class="legend">{"".join(items)}</ul>'


def falling(points: Sequence[tuple[float, float]], words: str) -> str:
    """A loss over its steps, the loss on a logarithmic scale. points: two or more, above 0."""
    height, axis = 170, Axis("", points[0][0], points[-1][0])
    logs = [math.log10(y) for _, y in points]
    low, high = min(logs), max(max(logs), min(logs) + 0.1)
    path = " ".join(
        f"{axis.at(x):.1f},{14 + (high - log) / (high - low) * (height - 52):.1f}"
        for (x, _), log in zip(points, logs, strict=True)
    )
    step, last = points[-1]
    ends = (
        f'<text x="{LEFT}" y="20" text-anchor="end">{10**high:.2g}</text>'
        f'<text x="{LEFT}" y="{height - 34}" text-anchor="end">{10**low:.2g}</text>'
        f'<text x="{axis.at(step):.1f}" y="{height - 8}" text-anchor="end">step {step:,.0f}: '
        f"training loss {last:.2g}</text>"
    )
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{safe(words)}">'
        f'<polyline points="{path}" fill="none" stroke="{ACCENT}" stroke-width="2.5"/>{ends}</svg>'
    )
