"""Curves: every point where it belongs, no point where there is no number, the same bytes again."""

from __future__ import annotations

import re
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from byheart.show.charts import COPY, FAINT, denoising_svg, loss_svg, tolerance_svg
from byheart.show.figures import ACCENT

SVG = "{http://www.w3.org/2000/svg}"
KEYS = ("train", "held_out", "ideal_train", "ideal_held_out")


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """A curve that matplotlib has doubts about is not a curve."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="(?!Data has no positive values)")
        yield


def words(svg: str) -> str:
    root = ElementTree.fromstring(svg)
    return " ".join(text.strip() for text in root.itertext() if text.strip())


def paths(svg: str, colour: str, width: float) -> list[list[tuple[float, float]]]:
    """The lines of that colour and width, each as its points on the page."""
    found = []
    for path in ElementTree.fromstring(svg).iter(f"{SVG}path"):
        style = path.get("style", "")
        drawn = re.search(r"stroke-width: ([\d.]+)", style)  # not said where it is 1
        if f"stroke: {colour}" in style and width == (float(drawn[1]) if drawn else 1):
            numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d", ""))]
            found.append(list(zip(numbers[::2], numbers[1::2], strict=True)))
    return found


def curve(copied: list[float | None], chance: list[float | None]) -> list[dict[str, Any]]:
    count = len(copied)
    return [
        {"tau": 2 * k / max(1, count - 1), "rmse": 0.1 * k, "copied": copied[k],
         "chance": chance[k], "within": 0.9, "chance_within": chance[k]}
        for k in range(count)
    ]  # fmt: skip


def level(noise: float, *values: float | None) -> dict[str, Any]:
    return {"timestep": 1, "noise_level": noise, **dict(zip(KEYS, values, strict=True))}


CURVE = curve([0.0, 0.25, 0.5, 1.0, 1.0], [0.0, 0.0, 0.0, 0.1, 0.4])
LEVELS = [level(0.1, 0.01, 0.02, 1e-6, 0.1), level(0.9, 0.1, 0.4, 0.001, 0.5)]
ALL = {
    "loss": lambda: loss_svg([1, 2, 3], [1.0, 0.1, 0.01]),
    "tolerance": lambda: tolerance_svg(CURVE),
    "denoising": lambda: denoising_svg(LEVELS),
}


# ------------------------------------------------------------------------------------- the loss


def test_the_loss_falls_on_the_page_as_it_fell() -> None:
    """A logarithmic axis: three equal factors are three equal steps."""
    (line,) = paths(loss_svg([1, 2, 3, 4], [1.0, 0.1, 0.01, 0.001]), ACCENT, 1.6)
    across = [b[0] - a[0] for a, b in pairwise(line)]
    down = [b[1] - a[1] for a, b in pairwise(line)]
    assert across == pytest.approx([across[0]] * 3, rel=1e-4) and across[0] > 0
    assert down == pytest.approx([down[0]] * 3, rel=1e-4) and down[0] > 0  # y goes down the page


def test_the_same_losses_give_the_same_bytes_and_others_do_not() -> None:
    steps, losses = [1, 2, 3, 4], [1.0, 0.5, 0.1, 0.02]
    svg = loss_svg(steps, losses)
    assert svg == loss_svg(steps, losses)
    assert svg != loss_svg(steps, [1.0, 0.5, 0.1, 0.03])


def test_the_curve_is_one_svg_element_that_names_its_axes_and_no_date() -> None:
    svg = loss_svg(range(1, 6), [1.0, 0.5, 0.1, 0.02, 0.01])
    assert svg.startswith("<svg") and "<script" not in svg and "<image" not in svg
    root = ElementTree.fromstring(svg)
    words = " ".join(text.strip() for text in root.itertext() if text.strip())
    assert "optimizer steps" in words and "training loss" in words
    assert "<dc:date" not in svg and "Matplotlib v" not in svg  # the same file tomorrow


def test_a_run_of_one_row_has_a_curve_too() -> None:
    assert ElementTree.fromstring(loss_svg([1], [0.5])) is not None


@pytest.mark.filterwarnings("ignore:Data has no positive values")
@pytest.mark.parametrize("losses", [[0.0, 0.0], [1.0, 0.0], [0.5, float("inf")]])
def test_a_loss_that_has_no_logarithm_spoils_nothing(losses: list[float]) -> None:
    assert "training loss" in words(loss_svg([1, 2], losses))


# ------------------------------------------------------------------------------------- tolerance


def test_the_tolerance_curve_goes_from_none_to_all() -> None:
    svg = tolerance_svg(CURVE)
    line = next(points for points in paths(svg, COPY, 2) if len(points) > 2)
    heights = [y for _, y in line]
    whole = heights[0] - heights[-1]
    assert whole > 50
    # Simplified paths drop a point on a straight line, never an end or a bend.
    shares = {round((heights[0] - y) / whole, 3) for y in heights}
    assert {0.0, 0.25, 0.5, 1.0} >= shares >= {0.0, 0.5, 1.0}
    told = words(svg)
    for label in ("outputs", "unseen real pictures", "whatever else they are near to",
                  "the criterion", "tolerance, in reference distances"):  # fmt: skip
        assert label in told, label


def test_the_criterion_stands_at_a_third() -> None:
    svg = tolerance_svg(CURVE)
    line = next(points for points in paths(svg, COPY, 2) if len(points) > 2)
    (third, *_) = next(p for p in paths(svg, FAINT, 1) if p[0][0] == p[-1][0])
    left, right = line[0][0], line[-1][0]
    assert (third[0] - left) / (right - left) == pytest.approx(1 / 3 / 2, abs=1e-3)


def test_without_chance_no_line_pretends_to_it() -> None:
    svg = tolerance_svg(curve([0.0, 0.5, 1.0], [None] * 3))
    assert "unseen real pictures" not in words(svg) and not paths(svg, ACCENT, 1.6)
    assert len(paths(tolerance_svg(CURVE), ACCENT, 1.6)) >= 4  # two lines, two keys


@pytest.mark.parametrize("value", [0.0, 1.0, None])
def test_a_flat_or_unknown_tolerance_curve_is_drawn(value: float | None) -> None:
    assert "share accepted" in words(tolerance_svg(curve([value] * 3, [value] * 3)))


# ------------------------------------------------------------------------------------- denoising


def test_every_known_error_is_a_line() -> None:
    told = words(denoising_svg(LEVELS))
    for who in ("network", "ideal memorizer"):
        for what in ("held-out images", "training images"):
            assert f"{who}, {what}" in told
    assert "noise level" in told and "mean squared error" in told


@pytest.mark.parametrize("missing", [None, 0.0])
def test_what_is_unknown_or_exactly_nothing_has_no_line(missing: float | None) -> None:
    told = words(denoising_svg([level(0.1, 0.1, missing, missing, 0.2)]))
    assert "network, training images" in told and "ideal memorizer, held-out images" in told
    assert "network, held-out images" not in told and "memorizer, training images" not in told


def test_a_gap_in_a_line_leaves_its_other_points() -> None:
    levels = [level(k / 4, 0.1, None if k == 2 else 0.2, 0.0, 0.3) for k in range(1, 5)]
    assert "network, held-out images" in words(denoising_svg(levels))


@pytest.mark.parametrize("levels", [[], [level(0.5, None, None, None, None)],
                                    [level(0.5, 0.0, 0.0, 0.0, 0.0)]])  # fmt: skip
def test_where_nothing_was_measured_there_are_axes_and_no_line(levels: list[Any]) -> None:
    told = words(denoising_svg(levels))
    assert "noise level" in told and "images" not in told


# ------------------------------------------------------------------------------------- any of them


@pytest.mark.parametrize("name", ALL)
def test_a_chart_is_one_element_from_nowhere_and_repeats_its_bytes(name: str) -> None:
    svg = ALL[name]()
    assert svg == ALL[name]()
    assert svg.startswith("<svg") and "<script" not in svg and "<image" not in svg
    assert "<dc:date" not in svg and "Matplotlib v" not in svg
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"


def test_other_numbers_give_another_chart() -> None:
    assert tolerance_svg(CURVE) != tolerance_svg(curve([0.0] * 5, [0.0] * 5))
    assert denoising_svg(LEVELS) != denoising_svg(LEVELS[:1])
