"""Numbers of measures.json as points along an axis of a figure over all runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from byheart.measure.interval import wilson
from byheart.show.finished import Finished
from byheart.show.groups import BUDGET, N
from byheart.show.plots import GREY, Point, Series

# What follows x in a Point: y, and the ends of its interval.
Found = tuple[float, ...] | tuple[float, float | None, float | None] | None
Value = Callable[[Finished], Found]


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


def value_at(*keys: str) -> Value:
    """A number without an interval."""

    def value(run: Finished) -> Found:
        found = at(run, *keys)
        return None if found is None else (found,)

    return value


def interval_at(*keys: str) -> Value:
    """A rate or an effect with its interval."""
    return lambda run: interval(at(run, *keys))


def interval(found: dict[str, Any] | None) -> Found:
    if found is None:
        return None
    value = found["rate"] if "rate" in found else found["value"]
    return None if value is None else (value, found["low"], found["high"])


def control_at(name: str) -> Value:
    """The copied share of one of the controls."""

    def value(run: Finished) -> Found:
        found = (at(run, "controls") or {}).get(name)  # some need several images
        if found is None or found["copied"] is None:
            return None
        count = found["outputs"]
        if name == "ideal" and (unseen := at(run, "conditions", "unseen")):
            count = unseen["noises"]  # the prompt changes nothing for it
        return counted(found["copied"], count)

    return value


def counted(share: float, count: int) -> tuple[float, float | None, float | None]:
    """A share of outputs that came from `count` different noises: Wilson's interval."""
    rate = wilson(round(share * count), count)
    return share, rate.low, rate.high


def chance(runs: Sequence[Finished], axis: Axis, joined: bool = True) -> Series:
    """Unseen real pictures that pass as copies. joined: the runs differ in nothing but the axis."""
    found = points_of(runs, interval_at("chance"), axis)
    line = (0, (1, 3)) if joined else ""
    return Series("chance: unseen real pictures", found, GREY, "D", line, filled=False)
