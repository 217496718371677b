"""What a run's numbers are along an axis: as points, with their intervals where they have one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from byheart.measure.intervals import wilson
from byheart.show.groups import BUDGET, Group, N
from byheart.show.plots import GREY, Line, Panel, Point, Series
from byheart.show.runs import Finished

# What follows x in a Point: y, and the ends of its interval.
Values = tuple[float, ...] | tuple[float, float | None, float | None] | None
Value = Callable[[Finished], Values]
CHANGE = "change / distance of two pictures"  # the unit of what a prompt or a noise changes


@dataclass(frozen=True)
class Axis:
    """What runs are drawn against, and the settings along which they may then differ."""

    words: str
    place: Callable[[Finished], float]
    along: frozenset[str]
    log: bool = True
    ticks: tuple[str, ...] = ()  # names of the places 0, 1, 2, …


AXES = {
    "n": Axis("training images", lambda run: run.n, N),
    "steps": Axis("optimizer steps", lambda run: run.measures["steps"], BUDGET),
    "exposures": Axis(
        "looks at each image", lambda run: run.measures["exposures_per_image"], BUDGET
    ),
}


def points_of(runs: Sequence[Finished], value: Value, axis: Axis) -> tuple[Point, ...]:
    """Of each run its point, where it has one."""
    found = ((axis.place(run), value(run)) for run in runs)
    return tuple(Point(x, *y) for x, y in found if y is not None)


def at(run: Finished, *keys: str) -> Any:
    """What measures.json holds there; None where it, or what should hold it, is null."""
    found: Any = run.measures
    for key in keys:
        if found is None:
            return None
        found = found[key]
    return found


def line_of(
    group: Group, value: Value, axis: Axis, label: str, line: Line | None = None,
    filled: bool = True,
) -> Series:  # fmt: skip
    """A group's runs along an axis, in its look; line: where it is not its own."""
    points = points_of(group.runs, value, axis)
    line = group.line if line is None else line
    return Series(label, points, group.colour, group.marker, line, filled)


def value_at(*keys: str) -> Value:
    return lambda run: values_of(at(run, *keys))


def values_of(found: Any) -> Values:
    """A number alone; a rate or an effect with its interval."""
    if not isinstance(found, dict):
        return None if found is None else (found,)
    value = found["rate"] if "rate" in found else found["value"]
    return None if value is None else (value, found["low"], found["high"])


def counted(share: float, count: int) -> tuple[float, float | None, float | None]:
    """A share of outputs that came from `count` different noises: Wilson's interval."""
    rate = wilson(round(share * count), count)
    return share, rate.low, rate.high


def chance(runs: Sequence[Finished], axis: Axis, joined: bool = True) -> Series:
    """Unseen real pictures that pass as copies. joined: the runs differ in nothing but the axis."""
    line = (0, (1, 3)) if joined else ""
    found = points_of(runs, value_at("chance"), axis)
    return Series("chance: unseen real pictures", found, GREY, "D", line, filled=False)


def panel_over(
    title: str, axis: Axis, y: str, series: Sequence[Series], log_y: bool = False,
    share: bool = False,
) -> Panel:  # fmt: skip
    """A panel along an axis; the rest is as in `Panel`."""
    return Panel(title, axis.words, y, tuple(series), axis.log, log_y, share, axis.ticks)
