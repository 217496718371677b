"""Points with intervals on axes that can be read from the back of a room. No torch here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Okabe & Ito 2008: told apart by readers who see colours differently.
ORANGE, BLUE, GREEN, YELLOW, PURPLE, GREY = (
    "#d55e00", "#0072b2", "#009e73", "#e69f00", "#cc79a7", "#767680",
)  # fmt: skip
KIND_COLOURS = {"copied": ORANGE, "blend": YELLOW, "broken": GREY, "novel": BLUE}


@dataclass(frozen=True)
class Point:
    x: float
    y: float
    low: float | None = None
    high: float | None = None
    censored: bool = False  # the true value lies above: drawn as an arrow


@dataclass(frozen=True)
class Series:
    """Points of one colour; the line goes through their median at each x."""

    label: str
    points: tuple[Point, ...]
    colour: str
    marker: str = "o"
    line: str = "-"
    filled: bool = True


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    series: tuple[Series, ...]
    log_x: bool = True
    log_y: bool = False
    share: bool = False  # y runs from 0 to 1


def figure(panels: Sequence[Panel], columns: int = 3, height: float = 4.2) -> Any:
    """The panels side by side, one legend for all that is named alike. A matplotlib Figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    drawn, axes = pyplot.subplots(
        down, across, figsize=(5.6 * across if across > 1 else 8.4, height * down), squeeze=False
    )
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    named: dict[str, Any] = {}
    for axis, panel in zip(axes.flat, panels, strict=False):
        _draw(axis, panel)
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
    rows = 0
    if named:
        width = drawn.get_figwidth()
        # A letter is about 0.12 inch wide, the line before a label half an inch.
        across = max(1, int(width / (0.12 * max(map(len, named)) + 0.8)))
        rows = -(-len(named) // across)
        drawn.legend(
            named.values(), named.keys(), loc="lower center", ncols=across, frameon=False,
            bbox_to_anchor=(0.5, 0.0),
        )  # fmt: skip
    drawn.tight_layout(rect=(0, (0.3 * rows + 0.1) / drawn.get_figheight(), 1, 1))
    return drawn


STYLE = {
    "svg.hashsalt": "byheart", "svg.fonttype": "none", "font.size": 15, "axes.titlesize": 16,
    "axes.labelsize": 15, "legend.fontsize": 14, "axes.spines.top": False,
    "axes.spines.right": False, "figure.dpi": 100,
}  # fmt: skip


def drawn(panels: Sequence[Panel], columns: int = 3) -> dict[str, bytes]:
    """The figure as SVG and PNG; the same numbers give the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        made = figure(panels, columns)
        files = {}
        for kind, metadata in (
            ("svg", {"Date": None, "Creator": None}),
            ("png", {"Software": None}),
        ):
            buffer = io.BytesIO()
            made.savefig(buffer, format=kind, metadata=metadata)
            files[kind] = buffer.getvalue()
        pyplot.close(made)
    return files


def _draw(axis: Any, panel: Panel) -> None:
    for number, series in enumerate(panel.series):
        _draw_series(axis, series, number, panel.log_x)
    if panel.log_x:
        axis.set_xscale("log")
        _whole_ticks(axis, sorted({p.x for s in panel.series for p in s.points}))
    if panel.log_y:
        axis.set_yscale("log")
    if panel.share:
        axis.set_ylim(-0.04, 1.04)
        axis.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axis.set_title(panel.title)
    axis.set_xlabel(panel.x)
    axis.set_ylabel(panel.y)
    axis.grid(axis="y", color="#e5e5ea", linewidth=0.8)


def _whole_ticks(axis: Any, xs: list[float]) -> None:
    """1, 10, 100 instead of powers of ten; the values themselves where they are few."""
    from matplotlib.ticker import FuncFormatter, NullLocator

    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.10g}"))
    if 0 < len(xs) <= 6:
        axis.set_xticks(xs)
        axis.xaxis.set_minor_locator(NullLocator())
    else:
        axis.xaxis.set_minor_formatter(FuncFormatter(lambda x, _: ""))


def _draw_series(axis: Any, series: Series, number: int, log_x: bool) -> None:
    if not series.points:
        return
    shown = [p for p in series.points if not p.censored]
    # A little aside, so that intervals of two series do not hide each other.
    aside = [p.x * 1.04**number if log_x else p.x for p in shown]
    face = series.colour if series.filled else "white"
    style: dict[str, Any] = {
        "color": series.colour,
        "marker": series.marker,
        "markerfacecolor": face,
    }
    below = [max(0.0, p.y - p.low) if p.low is not None else 0.0 for p in shown]
    above = [max(0.0, p.high - p.y) if p.high is not None else 0.0 for p in shown]
    if shown and (any(below) or any(above)):
        axis.errorbar(aside, [p.y for p in shown], [below, above], linestyle="none",
                      markersize=0, elinewidth=1.4, color=series.colour, alpha=0.7)  # fmt: skip
    if shown:
        axis.plot(aside, [p.y for p in shown], linestyle="none", markersize=7, **style)
    by_x: dict[float, list[float]] = {}
    for point in shown:
        by_x.setdefault(point.x, []).append(point.y)
    xs = sorted(by_x)
    middle = [sorted(by_x[x])[len(by_x[x]) // 2] for x in xs]
    style["markersize"] = 0 if len(xs) > 1 else 7
    axis.plot([x * 1.04**number if log_x else x for x in xs], middle, linestyle=series.line,
              linewidth=2, label=series.label, **style)  # fmt: skip
    arrows = [p for p in series.points if p.censored]
    if arrows:
        axis.plot([p.x for p in arrows], [p.y for p in arrows], linestyle="none", marker="^",
                  markersize=10, color=series.colour)  # fmt: skip
