"""Numbers of measures.json as points against n, and how each captions mode looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from byheart.measure.interval import wilson
from byheart.show.curve import Finished
from byheart.show.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, Point, Series

# Of captions modes: what each is called, its colour, marker and line.
MODES = {
    "shared": ("one caption for all", ORANGE, "o", "-"),
    "own": ("own captions", BLUE, "s", "--"),
    "none": ("no captions", GREEN, "^", "-."),
    "random": ("random captions", PURPLE, "D", ":"),
}

Value = Callable[[Finished], Point | None]


def asked(mode: str) -> str:
    """The condition that shows what training on such captions made of the network."""
    return "captions" if mode == "own" else "unseen"


def of_mode(runs: Sequence[Finished], mode: str) -> list[Finished]:
    """The runs whose captions are of that mode."""
    return [run for run in runs if run.captions == mode]


def points_of(runs: Sequence[Finished], value: Value) -> tuple[Point, ...]:
    """Of each run its point, where it has one."""
    return tuple(point for run in runs if (point := value(run)) is not None)


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

    def point(run: Finished) -> Point | None:
        found = at(run, *keys)
        return None if found is None else Point(run.n, found)

    return point


def interval_at(*keys: str) -> Value:
    """A rate or an effect with its interval."""

    def point(run: Finished) -> Point | None:
        found = at(run, *keys)
        if found is None:
            return None
        value = found["rate"] if "rate" in found else found["value"]
        return None if value is None else Point(run.n, value, found["low"], found["high"])

    return point


def control_at(name: str) -> Value:
    """The copied share of one of the controls."""

    def point(run: Finished) -> Point | None:
        found = (at(run, "controls") or {}).get(name)  # some need several images
        if found is None or found["copied"] is None:
            return None
        return counted(run.n, found["copied"], found["outputs"])

    return point


def counted(x: float, share: float, count: int) -> Point:
    """A share of `count` outputs, no two of them alike in prompt or noise: Wilson's interval."""
    rate = wilson(round(share * count), count)
    return Point(x, share, rate.low, rate.high)


def chance(runs: Sequence[Finished]) -> Series:
    """Unseen real pictures that pass as copies."""
    found = points_of(runs, interval_at("chance"))
    return Series("chance: unseen real pictures", found, GREY, "D", (0, (1, 3)), filled=False)
