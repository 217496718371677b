"""The curves of one run, from its measures.json and training.jsonl, as panels. No torch here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from byheart.show.plots import BLUE, GREY, ORANGE, Panel, Point, Series

TOLERANCE_AXIS = "tolerance, in reference distances"


def loss(steps: Iterable[tuple[int, float | None]]) -> Panel:
    """The training loss of a run; None where it was not finite."""
    points = tuple(Point(step, value) for step, value in steps if value)
    series = (Series("training loss", points, BLUE, ""),)
    return Panel("", "optimizer steps", "training loss", series, log_x=False, log_y=True)


def tolerance_of(curve: Sequence[dict[str, Any]]) -> Panel:
    """How wide "the same picture" is taken: `tolerance` of measures.json."""
    looks = {
        "copied": ("outputs", ORANGE, "-"),
        "chance": ("unseen real pictures", BLUE, "-."),
        "chance_within": ("the same, whatever else they are near to", BLUE, "--"),
    }
    series = tuple(
        Series(label, tuple(along_tolerance(curve, key)), colour, "", line)
        for key, (label, colour, line) in looks.items()
    )
    return Panel("", TOLERANCE_AXIS, "share accepted", series, log_x=False, share=True,
                 marks=((1 / 3, "the criterion", GREY),))  # fmt: skip


def margin_of(curve: Sequence[dict[str, Any]], threshold: float) -> Panel:
    """Who is a copy but for noise: `margin` of measures.json."""
    series = tuple(
        Series(
            label,
            tuple(Point(row["margin"], row[key]) for row in curve if row[key] is not None),
            colour, "", line,
        )
        for key, label, colour, line in (
            ("copied", "outputs", ORANGE, "-"),
            ("chance", "unseen real pictures", BLUE, "-."),
        )
    )  # fmt: skip
    return Panel("", "least margin", "share that reaches it", series, log_x=False, share=True,
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
        points = tuple(Point(level["noise_level"], level[key]) for level in levels
                       if level[key] is not None)  # fmt: skip
        series.append(Series(label, points, *look))
    x, y = "noise level (1: pure noise)", "mean squared error"
    return Panel(title, x, y, tuple(series), log_x=False, log_y=True)


def along_tolerance(curve: Sequence[dict[str, Any]], key: str) -> Iterator[Point]:
    return (Point(row["tau"], row[key]) for row in curve if row[key] is not None)
