"""Panels: every point in its place, readable, told apart without colours, the same bytes again."""

from __future__ import annotations

import io
import math
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context, style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from PIL import Image

from byheart.show.plots import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    STYLE,
    YELLOW,
    Panel,
    Point,
    Series,
    _figure,
    _medians,
    drawn,
    plain,
)

SERIES = Series(
    "copied", (Point(1, 1.0, 0.8, 1.0), Point(10, 0.5), Point(100, 0.0, 0.0, 0.3)), BLUE
)
PANEL = Panel("What came out", "training images", "share", (SERIES,), share=True)


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """A figure that matplotlib has doubts about is not a figure."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def made(*panels: Panel, columns: int = 3) -> Any:
    with style.context(["default", STYLE]):
        figure = _figure(panels, columns)
        FigureCanvasAgg(figure).draw()
    return figure


def texts(files: dict[str, bytes]) -> list[str]:
    return ["".join(e.itertext()).strip() for e in ElementTree.fromstring(files["svg"]).iter()
            if e.tag.endswith("}text")]  # fmt: skip


# ------------------------------------------------------------------------------------- the numbers


def test_every_point_interval_and_median_is_where_it_belongs() -> None:
    twice = (Point(1, 0.2, 0.1, 0.4), Point(1, 0.4), Point(10, 0.9, 0.7, 1.0))
    (axis,) = made(Panel("t", "x", "y", (Series("s", twice, BLUE),), share=True)).axes
    line, *rest = axis.lines
    assert line.get_xydata().tolist() == [[1, pytest.approx(0.3)], [10, 0.9]]
    drawn = [point for one in rest for point in one.get_xydata().tolist()]
    assert sorted(drawn) == [[1, 0.2], [1, 0.4], [10, 0.9]]
    segments = [
        s.tolist()
        for c in axis.collections if isinstance(c, LineCollection)
        for s in c.get_segments()
    ]  # fmt: skip
    assert sorted(segments) == [[[1, 0.1], [1, 0.4]], [[10, 0.7], [10, 1.0]]]


def test_runs_that_agree_stand_beside_each_other() -> None:
    """Three seeds with the same result are three marks, and the middle of them is their place."""
    points = (*[Point(1, 0.5)] * 3, Point(10, 0.5))
    panel = Panel("t", "x", "y", (Series("s", points, BLUE), Series("r", points, BLUE)), share=True)
    (axis,) = made(panel).axes
    marks = sorted(
        line.get_transform().transform(point)[0]
        for line in axis.lines if line.get_linestyle() == "None"
        for point in line.get_xydata()
    )  # fmt: skip
    first = marks[:6]  # two series, three seeds each
    assert len(marks) == 8 and min(b - a for a, b in pairwise(first)) > 0.5
    middle = axis.transData.transform((1, 0.5))[0]
    assert sum(first) / 6 == pytest.approx(middle, abs=1e-6)


def test_the_line_goes_through_the_median_and_breaks_where_it_is_censored() -> None:
    def of(*ys: float, censored: int = 0) -> dict[float, float]:
        known = [Point(1, y) for y in ys]
        return _medians([*known, *[Point(1, 99, censored=True)] * censored])

    assert of(3, 1, 2) == {1: 2} and of(4, 1, 2, 3) == {1: 2.5}
    assert of(1, 2, censored=1) == {1: 2}  # the third lies above, wherever
    assert of(1, censored=1) == of(censored=2) == {}
    assert list(_medians([Point(10, 1), Point(1, 2)])) == [1, 10]


def test_what_is_censored_has_an_arrow_and_no_interval() -> None:
    points = (Point(1, 50), Point(10, 200, 1, 300, censored=True))
    (axis,) = made(Panel("t", "x", "steps", (Series("s", points, BLUE),), log_y=True)).axes
    arrows = [line for line in axis.lines if "arrow" in str(line.get_marker())]
    assert [a.get_xydata().tolist() for a in arrows] == [[[10, 200]]]
    assert all(not len(c.get_segments()) for c in axis.collections)


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("least", [0.0, 50.0, 199.0])
def test_an_arrow_is_not_cut_off(log_y: bool, least: float) -> None:
    points = (Point(1, least), Point(10, 200, censored=True), Point(100, 20, censored=True))
    (axis,) = made(Panel("t", "x", "steps", (Series("s", points, BLUE),), log_y=log_y)).axes
    (arrows,) = [line for line in axis.lines if "arrow" in str(line.get_marker())]
    places = arrows.get_transform().transform(arrows.get_xydata())
    half = arrows.get_markersize() / 2 * axis.figure.dpi / 72
    assert places[:, 1].max() + half <= axis.bbox.y1


def test_series_at_the_same_place_stand_side_by_side() -> None:
    series = tuple(Series(name, (Point(1, 1.0), Point(10, 0.0)), BLUE) for name in "abc")
    (axis,) = made(Panel("t", "x", "y", series, share=True)).axes
    points = [
        line for line in axis.lines if line.get_linestyle() == "None" and len(line.get_xdata())
    ]
    at = [float(line.get_transform().transform((1, 1))[0]) for line in points]
    assert np.diff(at) == pytest.approx([4 * 100 / 72] * 2)  # four points apart, whatever the axis
    assert np.mean(at) == pytest.approx(axis.transData.transform((1, 1))[0])


@pytest.mark.parametrize("log_y", [False, True])
def test_all_that_is_drawn_lies_inside(log_y: bool) -> None:
    points = (Point(1, 20.0, 3.0, 90.0), Point(1000, 0.5, 0.4, 0.6), Point(3, 0.0))
    (axis,) = made(Panel("t", "x", "y", (Series("s", points, BLUE),), log_y=log_y)).axes
    (left, right), (bottom, top) = axis.get_xlim(), axis.get_ylim()
    assert left < 1 and right > 1000 and bottom < 0 and top > 90
    heights = [axis.transData.transform((1, y))[1] for y in (0.0, 0.4, 20.0, 90.0)]
    assert heights == sorted(heights) and all(map(math.isfinite, heights))


@pytest.mark.parametrize("y", [0.0, 1e-7, 3.0, 3024.0, 5e8])
@pytest.mark.parametrize(("log_x", "log_y"), [(True, True), (True, False), (False, False)])
def test_a_single_point_has_axes_too(y: float, log_x: bool, log_y: bool) -> None:
    panel = Panel("t", "x", "y", (Series("s", (Point(7, y),), BLUE),), log_x, log_y)
    (axis,) = made(panel).axes
    assert axis.get_ylim()[0] < y < axis.get_ylim()[1] or y == 0
    low, high = axis.get_ylim()
    assert len([t for t in axis.get_yticks() if low <= t <= high]) >= (1 if y == 0 else 2)
    if log_x:
        assert axis.get_xticks().tolist() == [7]


# ------------------------------------------------------------------------------------- readability


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1, "1"), (1000, "1,000"), (2e6, "2 M"), (3e9, "3 G"), (0.001, "0.001"),
     (1e-5, "1e-5"), (2.5e-7, "2.5e-7"), (0.3, "0.3"), (-0.5, "-0.5")],
)  # fmt: skip
def test_a_tick_is_a_plain_number(value: float, text: str) -> None:
    assert plain(value) == text


def test_the_sizes_themselves_are_the_ticks() -> None:
    (axis,) = made(PANEL).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1", "10", "100"]
    many = tuple(Point(x, 0.5) for x in (1, 10, 11, 12, 1000))
    (axis,) = made(Panel("t", "x", "y", (Series("s", many, BLUE),))).axes
    assert axis.get_xticks().tolist() == [1, 10, 1000]  # those between would overlap


@pytest.mark.parametrize(
    ("ticks", "turned"),
    [(("1", "2", "4", "8"), False), (("one caption for all", "own captions", "none"), False),
     (("tiny", "small", "sd15", "…/pretraining/n100-s0/model"), True),
     (tuple(f"{k / 10}" for k in range(10)), True)],
)  # fmt: skip
def test_named_places_are_evenly_spaced_and_apart(ticks: tuple[str, ...], turned: bool) -> None:
    series = Series("s", tuple(Point(k, 0.5) for k in range(len(ticks))), BLUE)
    panel = Panel("t", "what varies", "y", (series,), log_x=False, share=True, ticks=ticks)
    figure = made(panel, panel)
    renderer = figure.canvas.get_renderer()
    for axis in figure.axes:
        assert axis.get_xticks().tolist() == list(range(len(ticks)))
        labels = [t for t in axis.get_xticklabels() if t.get_text()]
        assert len(labels) == len(ticks) and all(t.get_fontsize() >= 14 for t in labels)
        assert {t.get_rotation() for t in labels} == {90.0 if turned else 0.0}
        boxes = [t.get_window_extent(renderer) for t in labels]
        for k, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[:k])
            assert box.y0 >= 0 and box.x1 <= figure.bbox.x1


def test_many_series_stay_within_the_axis() -> None:
    ends = (Point(1, 1.0), Point(100, 0.0))
    series = tuple(Series(f"s{k}", ends, BLUE) for k in range(30))
    (axis,) = made(Panel("t", "x", "y", series, share=True)).axes
    for line in axis.lines:
        if len(line.get_xdata()):
            places = line.get_transform().transform(line.get_xydata())[:, 0]
            assert axis.bbox.x0 < places.min() and places.max() < axis.bbox.x1


def test_a_dollar_is_a_dollar() -> None:
    words = "a caption of $5 and \\frac{ or $6"
    series = Series(words, (Point(0, 0.5), Point(1, 0.2)), BLUE)
    panel = Panel(words, "x", "y", (series,), log_x=False, ticks=("$a$", "_$b$"))
    found = texts(drawn([panel]))
    assert found.count(words) == 2 and {"$a$", "_$b$"} <= set(found)


def hard() -> list[Panel]:
    """Panels with much text: long labels, titles, numbers and a zero on a logarithmic axis."""
    points = (Point(1, 0.0), Point(3, 3e-6), Point(1000, 4e5))
    names = [f"captions of mode {k}, under the training captions" for k in range(5)]
    series = tuple(Series(name, points, BLUE) for name in names)
    title = "A title of many words, which would not fit over its panel in a single line"
    one = Panel(title, "training images", "change / distance of two pictures", series, log_y=True)
    steps = tuple(Point(x, 0.5) for x in (2.66666667, 8, 25.33333, 160, 480))
    two = Panel("b", "looks", "share", (Series("n = 1", steps, ORANGE),), share=True)
    return [one, two, one, two]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_text_is_large_inside_the_figure_and_apart(count: int) -> None:
    figure = made(*hard()[:count])
    renderer, whole = figure.canvas.get_renderer(), figure.bbox
    for axis in figure.axes:
        if not axis.get_visible():
            continue
        shown = [axis.title, axis.xaxis.label, axis.yaxis.label]
        for labels in (axis.get_xticklabels(), axis.get_yticklabels()):
            boxes = [t.get_window_extent(renderer) for t in labels if t.get_text()]
            shown += [t for t in labels if t.get_text()]
            for k, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[:k])
        beside = axis.yaxis.label.get_window_extent(renderer)
        assert beside.height <= axis.bbox.height  # else it runs into the row above
        for text in shown:
            box = text.get_window_extent(renderer)
            assert text.get_fontsize() >= 14, text
            assert "$" not in text.get_text()  # no small print of powers
            assert box.x0 >= whole.x0 and box.x1 <= whole.x1, text
            assert box.y0 >= whole.y0 and box.y1 <= whole.y1, text
    (legend,) = figure.legends
    box = legend.get_window_extent(renderer)
    assert box.x0 >= 0 and box.x1 <= whole.x1 and box.y0 >= 0
    assert all(text.get_fontsize() >= 14 for text in legend.get_texts())
    for axis in figure.axes:
        if axis.get_visible():
            assert not axis.get_tightbbox(renderer).overlaps(box)


def test_the_legend_shows_marker_and_line_of_each_name_once() -> None:
    one = Series("a", (Point(1, 0.1),), BLUE, "s", "--", filled=False)
    two = Series("b", (Point(1, 0.2),), ORANGE, "^", ":")
    empty = Series("c", (), GREEN)
    (legend,) = made(Panel("p", "x", "y", (one, two, empty)), Panel("q", "x", "y", (one,))).legends
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b"]
    looks = [(h.get_marker(), h.get_linestyle(), h.get_color()) for h in legend.legend_handles]
    assert looks == [("s", "--", BLUE), ("^", ":", ORANGE)]
    assert legend.legend_handles[0].get_markerfacecolor() == "white"


def _seen_by(colour: str, matrix: np.ndarray) -> np.ndarray:
    rgb = np.array([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    seen = np.clip(matrix @ linear, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


# Machado, Oliveira & Fernandes 2009, severity 1.0: protanopia, deuteranopia.
PROTAN = np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]])  # fmt: skip
DEUTAN = np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                   [-0.011820, 0.042940, 0.968881]])  # fmt: skip


@pytest.mark.parametrize("matrix", [np.eye(3), PROTAN, DEUTAN], ids=["all", "protan", "deutan"])
def test_the_colours_are_told_apart_by_readers_who_see_them_differently(matrix: np.ndarray) -> None:
    seen = [_seen_by(c, matrix) for c in (ORANGE, BLUE, GREEN, YELLOW, PURPLE, GREY)]
    apart = [float(np.abs(a - b).max()) for k, a in enumerate(seen) for b in seen[:k]]
    assert min(apart) > 0.08


# ----------------------------------------------------------------------------------- the same again


def test_the_same_numbers_give_the_same_bytes_on_anyones_settings() -> None:
    first = drawn([PANEL, PANEL])
    with rc_context({"font.size": 40, "axes.facecolor": "red", "savefig.dpi": 20}):
        assert drawn([PANEL, PANEL]) == first
    other = Series("copied", (*SERIES.points[:2], Point(100, 0.1)), BLUE)
    assert drawn([PANEL, Panel("p", "x", "y", (other,))])["svg"] != first["svg"]
    text = first["svg"].decode()
    assert "<dc:date>" not in text and "<script" not in text
    image = Image.open(io.BytesIO(first["png"]))
    assert image.width == 1120 and "Software" not in image.info


def test_words_of_a_panel_are_text_and_escaped() -> None:
    hostile = '<script>alert(1)</script> & "x"'
    files = drawn([Panel(hostile, "x", "y", (Series("a < b", SERIES.points, BLUE),))])
    assert b"<script" not in files["svg"]
    assert hostile in texts(files) and "a < b" in texts(files)


def test_panels_stand_in_rows_of_so_many_columns() -> None:
    places = [axis.get_subplotspec() for axis in made(*[PANEL] * 4, columns=2).axes]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    five = made(*[PANEL] * 5)
    assert [axis.get_visible() for axis in five.axes] == [True] * 5 + [False]
