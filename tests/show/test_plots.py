"""Figures: nothing is lost in drawing, nothing hostile gets in, and the same bytes come out."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.colors import to_hex

from byheart.show.charts import denoising_of, loss, tolerance_of
from byheart.show.plots import BLUE, GREY, ORANGE, Panel, Point, Series, _figure, drawn, plain, svg

LINE = Series("copies", tuple(Point(n, 1 / n, 0.5 / n, 1.0) for n in (1, 10, 100)), ORANGE)


def panel(*series: Series, **changes: object) -> Panel:
    made = Panel("Title", "training images", "share", series or (LINE,), share=True)
    return replace(made, **changes)  # type: ignore[arg-type]


def points(made: Panel) -> list[tuple[float, float]]:
    """Every point that matplotlib draws with a marker, in the units of the axes."""
    (axis,) = _figure([made], 1).axes
    found = []
    for line in axis.lines:
        if line.get_marker() not in ("None", None, ""):
            found += list(zip(map(float, line.get_xdata()), map(float, line.get_ydata()),
                              strict=True))  # fmt: skip
    return found


def words(text: str) -> str:
    return " ".join(" ".join(ElementTree.fromstring(text).itertext()).split())


@pytest.mark.parametrize("named", ["", "mark-0"])
def test_every_point_has_its_marker_and_every_interval_its_line(named: str) -> None:
    series = replace(LINE, points=tuple(replace(p, name=named) for p in LINE.points))
    assert sorted(points(panel(series))) == [(p.x, p.y) for p in LINE.points]
    (axis,) = _figure([panel(series)], 1).axes
    (ends,) = [c.get_segments() for c in axis.collections if len(c.get_segments())]
    assert [(e[0][1], e[1][1]) for e in ends] == [(p.low, p.high) for p in LINE.points]
    assert (f'id="{named}"' in svg(panel(series))) == bool(named)


def test_the_line_goes_through_the_medians() -> None:
    runs = tuple(Point(x, y) for x, y in ((1, 0.9), (1, 0.7), (1, 0.8), (10, 0.1)))
    (axis,) = _figure([panel(Series("a", runs, BLUE))], 1).axes
    (line,) = [one for one in axis.lines if one.get_linestyle() != "None"]
    assert [*line.get_xdata()] == [1, 10] and [*line.get_ydata()] == [0.8, 0.1]


def test_bars_pile_up_run_by_run_and_never_overlap() -> None:
    shares = {"copied": (0.5, 1.0, 0.25), "broken": (0.5, 0.0, 0.5), "novel": (0.0, 0.0, 0.25)}
    piled = [
        Series(label, tuple(Point(x, y) for x, y in zip((1, 1, 10), ys, strict=True)), GREY,
               bar=True, hatch="//" if label == "broken" else "")
        for label, ys in shares.items()
    ]  # fmt: skip
    (axis,) = _figure([panel(*piled)], 1).axes
    of = [axis.patches[k : k + 3] for k in (0, 3, 6)]  # of each series the bars of the three runs
    for k, run in enumerate(zip(*of, strict=True)):
        assert [bar.get_height() for bar in run] == [ys[k] for ys in shares.values()]
        assert len({(bar.get_x(), bar.get_width()) for bar in run}) == 1
        tops = [bar.get_y() + bar.get_height() for bar in run]
        assert [bar.get_y() for bar in run] == [0, *tops[:-1]] and tops[-1] == 1
    ends = [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in of[0]]
    assert ends[0][0] < 1 < ends[1][1] and ends[0][1] < ends[1][0] < ends[1][1] < ends[2][0]
    assert [bar.get_hatch() for bar in of[1]] == ["//"] * 3


def test_where_half_is_censored_there_is_no_median_and_an_arrow() -> None:
    runs = (Point(1, 5.0), Point(10, 90.0, censored=True))
    (axis,) = _figure([panel(Series("a", runs, BLUE), share=False, log_y=True)], 1).axes
    (line,) = [one for one in axis.lines if one.get_linestyle() != "None"]
    assert [*line.get_xdata()] == [1]
    assert any("uparrow" in str(one.get_marker()) for one in axis.lines)


@pytest.mark.parametrize("value", [0.0, 1e-7, 3.0, 5e8])
@pytest.mark.parametrize("log_y", [True, False])
def test_a_single_point_has_axes_too(value: float, log_y: bool) -> None:
    made = panel(Series("a", (Point(3, value),), BLUE), share=False, log_y=log_y)
    (axis,) = _figure([made], 1).axes
    low, high = axis.get_ylim()
    assert low < value < high and np.isfinite([low, high]).all()
    assert points(made) == [(3, value)]


def test_series_keep_their_colours_and_hollow_ones_are_hollow() -> None:
    made = panel(LINE, Series("chance", (Point(1, 0.1),), GREY, "D", "", filled=False))
    (axis,) = _figure([made], 1).axes
    faces = {to_hex(one.get_markerfacecolor()) for one in axis.lines if one.get_marker() == "D"}
    assert faces == {"#ffffff"}
    assert {to_hex(one.get_color()) for one in axis.lines} == {ORANGE, GREY}


def test_text_is_text_whatever_is_in_it() -> None:
    hostile = "<b>&$x^2$ 'quotes' \"more\" Fähre"
    text = svg(panel(replace(LINE, label=hostile), marks=((2.0, hostile, BLUE),)))
    assert words(text).count(hostile) == 2 and "<b>" not in text


def test_a_file_looks_alike_without_our_fonts() -> None:
    files = drawn([panel()], ["svg", "text", "pdf"])
    outlined, text = (ElementTree.fromstring(files[kind]) for kind in ("svg", "text"))
    names = [{one.tag.rpartition("}")[2] for one in tree.iter()} for tree in (outlined, text)]
    assert "text" not in names[0] and "text" in names[1]
    assert b"/FontFile2" in files["pdf"]


def test_the_same_numbers_give_the_same_bytes_whatever_a_matplotlibrc_says() -> None:
    from matplotlib import rc_context

    first = drawn([panel(), panel()])
    with rc_context({"font.size": 30, "axes.facecolor": "red"}):
        assert drawn([panel(), panel()]) == first
    assert first["png"].startswith(b"\x89PNG") and svg(panel(replace(LINE, points=()))) == ""


def test_threads_that_draw_at_once_draw_the_same() -> None:
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: svg(panel()), range(16)))
    assert found == [svg(panel())] * 16


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.001, "0.001"), (20, "20"), (1000, "1,000"), (2e6, "2 M"), (1e-5, "1e-5")],
)
def test_a_number_is_written_as_people_read_it(value: float, text: str) -> None:
    assert plain(value) == text


def test_what_is_unknown_of_a_run_is_no_point() -> None:
    keys = ("train", "held_out", "ideal_train", "ideal_held_out")
    levels = [{"noise_level": 0.5, **dict.fromkeys(keys, 0.1)},
              {"noise_level": 1.0, **dict.fromkeys(keys, None), "train": 0.2}]  # fmt: skip
    assert [len(s.points) for s in denoising_of(levels).series] == [2, 1, 1, 1]
    curve = [{"tau": 0.5 * k, "copied": 0.1 * k, "chance": None, "chance_within": None}
             for k in range(3)]  # fmt: skip
    assert [len(s.points) for s in tolerance_of(curve).series] == [3, 0, 0]
    assert "the criterion" in words(svg(tolerance_of(curve)))
    (series,) = loss([(1, 0.5), (2, None), (3, 0.1)]).series
    assert [(p.x, p.y) for p in series.points] == [(1, 0.5), (3, 0.1)]
