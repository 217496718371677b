"""The curves of one run, from its measures.json and training.jsonl, as panels. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from byheart.show.plots import BLUE, GREY, ORANGE, Panel, Point, Series

TOLERANCE_AXIS = "tolerance, in reference distances"
LOOKS = {"copied": ("outputs", ORANGE, "-"), "chance": ("unseen real pictures", BLUE, "-.")}


def loss(steps: Iterable[tuple[int, float | None]]) -> Panel:
    """The training loss of a run; None where it was not finite."""
    points = tuple(Point(step, value) for step, value in steps if value)
    series = (Series("training loss", points, BLUE, ""),)
    return Panel("", "optimizer steps", "training loss", series, log_x=False, log_y=True)


def tolerance_of(curve: Sequence[dict[str, Any]]) -> Panel:
    """How wide "the same picture" is taken: `tolerance` of measures.json."""
    also = {"chance_within": ("the same, whatever else they are near to", BLUE, "--")}
    return _criterion(curve, "tau", 1 / 3, LOOKS | also, TOLERANCE_AXIS, "share accepted")


def margin_of(curve: Sequence[dict[str, Any]], threshold: float) -> Panel:
    """Who is a copy but for noise: `margin` of measures.json."""
    return _criterion(curve, "margin", threshold, LOOKS, "least margin", "share that reaches it")


def _criterion(
    curve: Sequence[dict[str, Any]], key: str, threshold: float,
    looks: dict[str, tuple[str, str, str]], x: str, y: str,
) -> Panel:  # fmt: skip
    """Shares along a threshold, and where it stands. looks: of each share label, colour, line."""
    series = tuple(
        Series(label, along(curve, key, share), colour, "", line)
        for share, (label, colour, line) in looks.items()
    )
    return Panel("", x, y, series, log_x=False, share=True,
                 marks=((threshold, "the criterion", GREY),))  # fmt: skip


def denoising_of(levels: Sequence[dict[str, Any]], title: str = "") -> Panel:
    """Error on seen and unseen images at each noise level: `denoising` of measures.json."""
    series = []
    for key, label, look in (
        ("train", "network, training images", (ORANGE, "o", "-")),
        ("held_out", "network, held-out images", (BLUE, "s", "--")),
        ("ideal_train", "ideal memorizer, training images", (ORANGE, "^", ":", False)),
        ("ideal_held_out", "ideal memorizer, held-out images", (BLUE, "D", "-.", False)),
    ):
        series.append(Series(label, along(levels, "noise_level", key), *look))
    x, y = "noise level (1: pure noise)", "mean squared error"
    return Panel(title, x, y, tuple(series), log_x=False, log_y=True)


def along(rows: Sequence[dict[str, Any]], x: str, y: str) -> tuple[Point, ...]:
    """One number of each row against another, where it is known."""
    return tuple(Point(row[x], row[y]) for row in rows if row[y] is not None)
