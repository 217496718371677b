"""Points with intervals on axes that can be read from the back of a room. No torch here."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isfinite
from statistics import median
from typing import Any

from byheart.show.axes import LETTERS, headroom, horizontal, verbatim, vertical

# Okabe & Ito 2008: told apart by readers who see colours differently.
ORANGE, BLUE, GREEN, YELLOW, PURPLE, GREY = (
    "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#767680",
)  # fmt: skip
WIDTH, HEIGHT = 5.6, 4.2  # inches of one of several panels
Line = str | tuple[int, tuple[int, ...]]  # as matplotlib takes it
ALONE = 8.4  # inches of the width of a single panel
ASIDE = 4.0  # points between two series at the same x, so that no interval hides another
SEEDS_APART = 2.5  # at most so many between runs that differ in their seed only
SPREAD = 40.0  # points between the first and the last of many
STYLE = {
    "svg.hashsalt": "byheart", "svg.fonttype": "none", "font.size": 15, "axes.titlesize": 16,
    "axes.labelsize": 15, "legend.fontsize": 14, "axes.spines.top": False,
    "axes.spines.right": False, "figure.dpi": 100,
}  # fmt: skip
METADATA = {"svg": {"Date": None, "Creator": None}, "png": {"Software": None}}


@dataclass(frozen=True)
class Point:
    """A value with the ends of its interval, in the units of its panel's axes."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    censored: bool = False  # the true value lies above: drawn as an arrow


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


def drawn(
    panels: Sequence[Panel], kinds: Sequence[str] = ("svg", "png"), columns: int = 3
) -> dict[str, bytes]:
    """The panels, `columns` side by side over one legend, as "svg", "png" or both.

    The same numbers give the same bytes. A label means the same look in every panel.
    """
    from matplotlib import style

    files = {}
    # Whatever a matplotlibrc says: the figure is the same on everyone's machine.
    with style.context(["default", STYLE]):
        made = _figure(panels, columns)
        for kind in kinds:
            buffer = io.BytesIO()
            made.savefig(buffer, format=kind, metadata=METADATA[kind])
            files[kind] = buffer.getvalue()
    return files


def _figure(panels: Sequence[Panel], columns: int) -> Any:
    from matplotlib.figure import Figure

    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    made = Figure(figsize=(WIDTH * across if across > 1 else ALONE, HEIGHT * down))
    axes = made.subplots(down, across, squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, panel)
        letters = 40 if across > 1 else 60
        axis.set_title(verbatim(textwrap.fill(panel.title, letters)))
    shown = {s.label: s for panel in panels for s in panel.series if s.points}
    legend = _legend(made, list(shown.values()))
    height = HEIGHT * down + legend
    made.set_figheight(height)
    made.tight_layout(rect=(0, legend / height, 1, 1))
    return made


def _legend(figure: Any, shown: Sequence[Series]) -> float:
    """A legend at the foot, in as many columns as fit. Returns its height in inches."""
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], linestyle=s.line, linewidth=2, **_look(s)) for s in shown]
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
        vertical(axis, [y for p in every for y in (p.low, p.y, p.high) if y is not None],
                 panel.log_y)  # fmt: skip
    if arrows := [p.y for p in every if p.censored]:
        headroom(axis, arrows)
    axis.set_xlabel(textwrap.fill(panel.x, LETTERS))
    axis.set_ylabel(textwrap.fill(panel.y, 24))
    axis.grid(axis="y", color="#e5e5ea", linewidth=0.8)
    # Along a linear axis without names run curves, apart as they are.
    aside = min(ASIDE, SPREAD / len(shown)) if panel.log_x or panel.ticks else 0.0
    for number, series in enumerate(shown):
        middle = aside * (number - (len(shown) - 1) / 2)
        _draw_line(axis, series, middle)
        for apart, points in _told_apart(series.points, min(SEEDS_APART, aside)):
            _draw_points(axis, replace(series, points=points), middle + apart)


def _told_apart(points: Sequence[Point], step: float) -> list[tuple[float, tuple[Point, ...]]]:
    """Points of one x each beside the other, `step` printer's points apart, by how far aside."""
    by_x: dict[float, list[Point]] = {}
    for point in points:
        by_x.setdefault(point.x, []).append(point)
    found: dict[float, list[Point]] = {}
    for alike in by_x.values():
        for k, point in enumerate(alike):
            found.setdefault(step * (k - (len(alike) - 1) / 2), []).append(point)
    return [(apart, tuple(mine)) for apart, mine in sorted(found.items())]


def _draw_line(axis: Any, series: Series, aside: float) -> None:
    """The line through the medians; aside: printer's points to the right of the true place."""
    from matplotlib.transforms import ScaledTranslation

    shift = ScaledTranslation(aside / 72, 0, axis.figure.dpi_scale_trans)
    middle = _medians(series.points)
    axis.plot(list(middle), list(middle.values()), linestyle=series.line, linewidth=2,
              color=series.colour, transform=axis.transData + shift)  # fmt: skip


def _draw_points(axis: Any, series: Series, aside: float) -> None:
    from matplotlib.transforms import ScaledTranslation

    shift = ScaledTranslation(aside / 72, 0, axis.figure.dpi_scale_trans)
    place = {"transform": axis.transData + shift}
    known = [p for p in series.points if not p.censored]
    between = [p for p in known if p.low is not None and p.high is not None]
    axis.vlines([p.x for p in between], [p.low for p in between], [p.high for p in between],
                colors=series.colour, linewidth=1.4, alpha=0.7, **place)  # fmt: skip
    axis.plot([p.x for p in known], [p.y for p in known], linestyle="none", **_look(series),
              **place)  # fmt: skip
    arrows = [p for p in series.points if p.censored]
    above = axis.transData + ScaledTranslation(aside / 72, 15 / 72, axis.figure.dpi_scale_trans)
    for look, where in (
        (_look(series), axis.transData + shift),
        ({"marker": r"$\uparrow$", "markersize": 16, "color": series.colour}, above),
    ):
        axis.plot([p.x for p in arrows], [p.y for p in arrows], linestyle="none", transform=where,
                  **look)  # fmt: skip


def _look(series: Series) -> dict[str, Any]:
    return {
        "color": series.colour, "marker": series.marker, "markersize": 7, "markeredgewidth": 1.6,
        "markerfacecolor": series.colour if series.filled else "white",
    }  # fmt: skip


def _medians(points: Sequence[Point]) -> dict[float, float]:
    """The median y at each x, in order; an x whose median is censored is left out."""
    by_x: dict[float, list[float]] = {}
    for point in points:
        by_x.setdefault(point.x, []).append(inf if point.censored else point.y)
    return {x: y for x in sorted(by_x) if isfinite(y := median(by_x[x]))}
