"""Points with intervals on axes that can be read from the back of a room. No torch here."""

from __future__ import annotations

import io
import textwrap
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf, isfinite, log10, sqrt
from statistics import median
from typing import Any

# Okabe & Ito 2008: told apart by readers who see colours differently.
ORANGE, BLUE, GREEN, YELLOW, PURPLE, GREY = (
    "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#6b6b75",
)  # fmt: skip
WORDS = {ORANGE: "#a84a00"}  # of a colour too light to read on white (contrast below 4.5)
INK, PAPER, GROUND = "#1d1d1f", "#ffffff", "#e9e9ee"  # of pages and contact sheets
LETTERS = 36  # that fit below one panel, side by side
BELOW_ARROWS = 0.84  # of an axis; above it there is room for an arrow


def horizontal(axis: Any, xs: Sequence[float], log: bool, ticks: Sequence[str] = ()) -> None:
    """Limits, and on a logarithmic axis 1, 10, 100: the values themselves where they are few.

    ticks: names of the places 0, 1, 2, … instead.
    """
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
    _ticked(axis.xaxis, places)


def _named(axis: Any, ticks: Sequence[str]) -> None:
    """Each name in the lines that its share of the axis has room for; many of them upright."""
    axis.set_xlim(-0.5, len(ticks) - 0.5)
    room = LETTERS // len(ticks) - 1
    upright = max(len(word) for name in ticks for word in name.split()) > room
    names = [textwrap.shorten(n, 24) if upright else textwrap.fill(n, room) for n in ticks]
    axis.set_xticks(range(len(ticks)), map(verbatim, names), rotation=90 if upright else 0)


def _ticked(axis: Any, places: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    axis.set_ticks(places)
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: plain(value))


def vertical(axis: Any, ys: Sequence[float], log: bool) -> None:
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
    _ticked(axis.yaxis, ticks)


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
            return f"{value / size:,.10g}{letter}".replace("-", "−")
    if value == 0 or abs(value) >= 1e-4:
        return f"{value:,.10g}".replace("-", "−")
    mantissa, exponent = f"{value:.10e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"


WIDTH, HEIGHT = 5.6, 4.2  # inches of one of several panels
Line = str | tuple[int, tuple[int, ...]]  # as matplotlib takes it
TITLE = 0.35  # inches of the line above all panels
ALONE = 8.4  # inches of the width of a single panel
ASIDE = 4.0  # points between two series at the same x, so that no interval hides another
SEEDS_APART = 2.5  # at most so many between runs that differ in their seed only
SPREAD = 40.0  # points between the first and the last of many
STYLE = {
    "svg.hashsalt": "byheart", "pdf.fonttype": 42, "font.size": 15,
    "axes.titlesize": 16, "axes.labelsize": 15, "legend.fontsize": 14, "axes.spines.top": False,
    "axes.spines.right": False, "figure.dpi": 100,
}  # fmt: skip
METADATA = {
    "svg": {"Date": None, "Creator": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
PRINTED = 300  # dots an inch of a PNG


@dataclass(frozen=True)
class Point:
    """A value with the ends of its interval, in the units of its panel's axes."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    censored: bool = False  # the true value lies above: drawn as an arrow
    name: str = ""  # the id of its element in an SVG; '' for none


@dataclass(frozen=True)
class Series:
    """Points of one colour and marker; the line goes through their median at each x.

    Where half of the points at an x or more are censored, there is no median and no line.
    """

    label: str
    points: tuple[Point, ...]
    colour: str
    marker: str = "o"
    line: Line = "-"
    filled: bool = True
    bar: bool = False  # of bars, piled on the series before it; its points have no interval
    hatch: str = ""  # of bars, as matplotlib takes it


@dataclass(frozen=True)
class Panel:
    """One pair of axes. At least one of the series has a point."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = True
    log_y: bool = False  # a y of 0 stands below all others
    share: bool = False  # y runs from 0 to 1
    ticks: tuple[str, ...] = ()  # names of the places 0, 1, 2, … along x, instead of numbers
    marks: tuple[tuple[float, str, str], ...] = ()  # vertical lines: x, words, colour


ONE_AT_A_TIME = threading.Lock()


def drawn(
    panels: Sequence[Panel],
    kinds: Sequence[str] = ("svg", "png"),
    columns: int = 3,
    height: float = HEIGHT,
    title: str = "",
) -> dict[str, bytes]:
    """The panels, `columns` side by side over one legend, as "svg" (letters are outlines, since it
    has no font with it), "png", "pdf", or "text", an SVG for a page, where text stays text.

    The same numbers give the same bytes. A label means the same look in every panel.
    height: of a row of panels, inches. title: above all of them, in small print.
    """
    from matplotlib import rc_context, style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_pdf import FigureCanvasPdf
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    files = {}
    # Whatever a matplotlibrc says: the figure is the same on everyone's machine. Its settings are
    # the process's, and a class of the lesson draws from several threads.
    with ONE_AT_A_TIME, style.context(["default", STYLE]):
        made = _figure(panels, columns, height, title)
        # The same bytes as by `savefig`, which draws twice and takes a third longer (LOG.md).
        for kind in sorted(kinds):  # an SVG or PDF leaves the figure at 72 dots an inch
            buffer, metadata = io.BytesIO(), METADATA.get(kind, METADATA["svg"])
            if kind == "png":
                made.set_dpi(PRINTED)
                FigureCanvasAgg(made).print_png(buffer, metadata=metadata)
            elif kind == "pdf":
                FigureCanvasPdf(made).print_pdf(buffer, metadata=metadata)
            else:
                with rc_context({"svg.fonttype": "none" if kind == "text" else "path"}):
                    FigureCanvasSVG(made).print_svg(buffer, metadata=metadata)
            files[kind] = buffer.getvalue()
    return files


def svg(panel: Panel, height: float = 2.8) -> str:
    """One panel as an SVG element, to stand in a page; nothing where it has no points."""
    if not any(series.points for series in panel.series):
        return ""
    return element(drawn([panel], ["text"], height=height)["text"])


def element(content: bytes) -> str:
    """The element of an SVG file alone, without what stands before it."""
    text = content.decode("utf-8")
    return text[text.index("<svg") :]


def _figure(panels: Sequence[Panel], columns: int, each: float = HEIGHT, title: str = "") -> Any:
    from matplotlib.figure import Figure

    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    made = Figure(figsize=(WIDTH * across if across > 1 else ALONE, each * down))
    axes = made.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, panel)
        letters = 40 if across > 1 else 60
        if panel.title:
            axis.set_title(verbatim(textwrap.fill(panel.title, letters)))
    shown = {s.label: s for panel in panels for s in panel.series if s.points}
    legend = _legend(made, list(shown.values()))
    above = TITLE if title else 0.0
    height = each * down + legend + above
    made.set_figheight(height)
    if title:
        made.text(0.5, 1 - 0.3 * above / height, verbatim(title), ha="center", va="top",
                  color=GREY, fontsize=13)  # fmt: skip
    made.tight_layout(rect=(0, legend / height, 1, 1 - above / height))
    return made


def _legend(figure: Any, shown: Sequence[Series]) -> float:
    """A legend at the foot, in as many columns as fit. Returns its height in inches."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Patch(**_bar_look(s))
        if s.bar
        else Line2D([], [], linestyle=s.line, linewidth=2, **_look(s))
        for s in shown
    ]
    for columns in range(len(shown), 0, -1):
        legend = figure.legend(
            handles, [verbatim(s.label) for s in shown], loc="lower center", ncols=columns,
            frameon=False, handlelength=3, bbox_to_anchor=(0.5, 0),
        )  # fmt: skip
        box = legend.get_window_extent()
        if box.width <= figure.bbox.width or columns == 1:
            break
        legend.remove()
    return float(box.height / figure.dpi)


def _draw(axis: Any, panel: Panel) -> None:
    shown = [series for series in panel.series if series.points]
    every = [point for series in shown for point in series.points]
    horizontal(axis, [p.x for p in every], panel.log_x, panel.ticks)
    if panel.share:
        axis.set_ylim(-0.06, 1.06)
        axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    else:
        ys = [y for p in every for y in (p.low, p.y, p.high) if y is not None]
        vertical(axis, [*ys, *_tops(shown)], panel.log_y)
    if arrows := [p.y for p in every if p.censored]:
        headroom(axis, arrows)
    axis.set_xlabel(textwrap.fill(panel.x, LETTERS))
    axis.set_ylabel(textwrap.fill(panel.y, 24))
    axis.grid(axis="y", color="#e5e5ea", linewidth=0.8)
    axis.set_axisbelow(True)
    for row, (x, words, colour) in enumerate(panel.marks):
        axis.axvline(x, color=colour, linewidth=1.4, linestyle=":")
        axis.annotate(verbatim(words), (x, 1), (4, -34 - 18 * row),
                      color=WORDS.get(colour, colour), fontsize=12,
                      xycoords=("data", "axes fraction"), textcoords="offset points",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})  # fmt: skip
    bars, shown = [s for s in shown if s.bar], [s for s in shown if not s.bar]
    _draw_bars(axis, bars, panel.log_x)
    # Along a linear axis without names run curves, apart as they are.
    aside = min(ASIDE, SPREAD / max(1, len(shown))) if panel.log_x or panel.ticks else 0.0
    for number, series in enumerate(shown):
        # A line without marks stands where it is true.
        middle = aside * (number - (len(shown) - 1) / 2) if series.marker else 0.0
        _draw_series(axis, series, middle, min(SEEDS_APART, aside))


def _tops(shown: Sequence[Series]) -> list[float]:
    """Heights of the piles of bars; of several at one place at least the highest."""
    bars = [point for series in shown if series.bar for point in series.points]
    return [sum(p.y for p in bars if p.x == x) for x in {point.x for point in bars}]


def _draw_bars(axis: Any, piled: Sequence[Series], log: bool) -> None:
    """At each x the series on top of each other; of several runs there, each beside the other."""
    places = sorted({point.x for series in piled for point in series.points})
    where = {x: log10(x) if log else x for x in places}
    gaps = [where[b] - where[a] for a, b in pairwise(places)]
    wide = 0.8 * min(gaps, default=0.5)
    if places:  # the outer ones whole
        ends = [where[places[0]] - 0.6 * wide, where[places[-1]] + 0.6 * wide]
        low, high = (10**end if log else end for end in ends)
        axis.set_xlim(min(low, axis.get_xlim()[0]), max(high, axis.get_xlim()[1]))
    below: dict[tuple[float, int], float] = {}
    counts = {x: max(sum(p.x == x for p in series.points) for series in piled) for x in places}
    for series in piled:
        seen: dict[float, int] = {}
        for point in series.points:
            k = seen[point.x] = seen.get(point.x, -1) + 1
            each = wide / counts[point.x]
            left = where[point.x] - wide / 2 + k * each
            right = left + 0.92 * each
            begin, end = (10**left, 10**right) if log else (left, right)
            bottom = below.get((point.x, k), 0.0)
            below[point.x, k] = bottom + point.y
            axis.bar(begin, point.y, end - begin, bottom, align="edge", **_bar_look(series))


def _bar_look(series: Series) -> dict[str, Any]:
    return {"facecolor": series.colour, "edgecolor": "white", "linewidth": 0.0,
            "hatch": series.hatch}  # fmt: skip


def _by_x(points: Sequence[Point]) -> dict[float, list[Point]]:
    found: dict[float, list[Point]] = {}
    for point in points:
        found.setdefault(point.x, []).append(point)
    return found


def _told_apart(points: Sequence[Point], step: float) -> list[tuple[float, list[Point]]]:
    """Points of one x each beside the other, `step` printer's points apart, by how far aside."""
    found: dict[float, list[Point]] = {}
    for alike in _by_x(points).values():
        for k, point in enumerate(alike):
            found.setdefault(step * (k - (len(alike) - 1) / 2), []).append(point)
    return sorted(found.items())


def _draw_series(axis: Any, series: Series, middle: float, step: float) -> None:
    """The line through the medians, and every point.

    middle: printer's points to the right of the true place; step: between points of one x.
    """
    from matplotlib.transforms import ScaledTranslation

    def moved(right: float, up: float = 0.0) -> Any:
        return axis.transData + ScaledTranslation(right / 72, up / 72, axis.figure.dpi_scale_trans)

    def mark(points: Sequence[Point], where: Any, **look: Any) -> None:
        xs, ys = [p.x for p in points], [p.y for p in points]
        axis.plot(xs, ys, linestyle="none", transform=where, **look)

    medians, look = _medians(series.points), _look(series)
    axis.plot(list(medians), list(medians.values()), linestyle=series.line, linewidth=2,
              color=series.colour, transform=moved(middle))  # fmt: skip
    for apart, points in _told_apart(series.points, step):
        place = moved(middle + apart)
        known = [p for p in points if not p.censored]
        between = [p for p in known if p.low is not None and p.high is not None]
        axis.vlines([p.x for p in between], [p.low for p in between], [p.high for p in between],
                    colors=series.colour, linewidth=1.4, alpha=0.7, transform=place)  # fmt: skip
        mark([p for p in known if not p.name], place, **look)
        for p in known:
            if p.name:
                mark([p], place, gid=p.name, **look)
        arrows = [p for p in points if p.censored]
        mark(arrows, place, **look)
        mark(arrows, moved(middle + apart, up=15), marker=r"$\uparrow$", markersize=16,
             color=series.colour)  # fmt: skip


def _look(series: Series) -> dict[str, Any]:
    return {
        "color": series.colour, "marker": series.marker, "markersize": 7, "markeredgewidth": 1.6,
        "markerfacecolor": series.colour if series.filled else "white",
    }  # fmt: skip


def _medians(points: Sequence[Point]) -> dict[float, float]:
    """The median y at each x, in order; an x whose median is censored is left out."""
    ys = {x: [inf if p.censored else p.y for p in alike] for x, alike in _by_x(points).items()}
    return {x: y for x in sorted(ys) if isfinite(y := median(ys[x]))}
