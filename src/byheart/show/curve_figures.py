"""The figures over all runs of a folder: what each shows, as panels of series.

Every series of a panel has its own marker or line besides its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from byheart.show.curve import smallest_codec
from byheart.show.curve_points import (
    AXES,
    Axis,
    Found,
    Value,
    chance,
    control_at,
    interval_at,
    points_of,
    value_at,
)
from byheart.show.curve_study import study
from byheart.show.curve_within import denoising, tolerance, trajectories
from byheart.show.finished import Finished, first_look
from byheart.show.groups import Group, groups, varied
from byheart.show.halves import Pair, halves
from byheart.show.plots import BLUE, GREY, ORANGE, YELLOW, Line, Panel, Point, Series
from byheart.show.words import CONDITIONS

KINDS = {
    "copied": (ORANGE, "o", "-"),
    "blend": (YELLOW, "s", "--"),
    "broken": (GREY, "X", "-."),
    "novel": (BLUE, "^", ":"),
}
CONTROLS = {
    "ideal": ("control: ideal memorizer, copied", "+"),
    "noisy_0.1": ("control: training images + noise, copied", "x"),
    "held_out": ("control: held-out images, copied", "*"),
}
OWN_AXIS = {"study", "denoising", "tolerance", "trajectories", "onset"}


def figures(
    runs: Sequence[Finished], pairs: Sequence[Pair] = (), against: str = "n"
) -> dict[str, list[Panel]]:
    """By file name. Figures and panels for which no run has numbers are left out.

    against: n, steps or exposures. Figures with an axis of their own are made with n only.
    KeyError, TypeError, AttributeError: a run of another version.
    """
    axis = AXES[against]
    made = {
        "curve": headline(runs, axis),
        "study": study(runs),
        "kinds": kinds(runs, axis),
        "coverage": coverage(runs, axis),
        "prompt": prompt(runs, axis),
        "halves": halves(pairs, axis),
        "denoising": denoising(runs),
        "tolerance": tolerance(runs),
        "bits": bits(runs, axis),
        "trajectories": trajectories(runs),
        "onset": onset(runs),
    }
    return {
        name: kept
        for name, panels in made.items()
        if (kept := [p for p in panels if any(s.points for s in p.series)])
        and (against == "n" or name not in OWN_AXIS)
    }


def across(name: str, panels: Sequence[Panel]) -> int:
    """How many panels of a figure stand side by side."""
    return 2 if name == "trajectories" or (name == "study" and len(panels) == 4) else 3


def headline(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """The curve: copied share, what was typed having nothing to do with the image.

    Captions that name images are asked for too: in the same panel, or where settings vary beside
    it, since the lines would be too many.
    """

    def copied(group: Group, condition: str, label: str, line: Line, filled: bool) -> Series:
        value = interval_at("conditions", condition, "kinds", "copied")
        points = points_of(group.runs, value, axis)
        return Series(label, points, group.colour, group.marker, line, filled)

    parts, several = groups(runs, axis.along), bool(varied(runs, axis.along))
    by_chance = chance(runs, axis, joined=not several)
    if several:
        return [
            _panel(
                f"Copies of a training image, under {CONDITIONS[condition]}", axis, "copied",
                [*(copied(g, condition, g.words, g.line, True) for g in mine), by_chance],
                share=True,
            )
            for condition in ("unseen", "captions")
            if (mine := [g for g in parts if condition in ("unseen", g.asked)])
        ]  # fmt: skip
    series = [
        copied(
            g, condition, f"{g.words}, under {CONDITIONS[condition]}",
            g.line if condition == "unseen" else ":", condition == "unseen",
        )
        for g in parts
        for condition in dict.fromkeys(("unseen", g.asked))
    ]  # fmt: skip
    title = "Outputs that are copies of a training image"
    return [_panel(title, axis, "copied", [*series, by_chance], share=True)]


def kinds(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """Copied, blend, broken, novel: a panel for each group and condition."""
    panels = []
    for group, (condition, name) in product(groups(runs, axis.along), CONDITIONS.items()):
        series = [
            Series(
                kind,
                points_of(group.runs, interval_at("conditions", condition, "kinds", kind), axis),
                *look,
            )
            for kind, look in KINDS.items()
        ]
        if any(s.points for s in series):
            series.append(chance(group.runs, axis))
            for control, (label, marker) in CONTROLS.items():
                points = points_of(group.runs, control_at(control), axis)
                series.append(Series(label, points, GREY, marker, "", filled=False))
            title = f"{group.words}: {name}"
            panels.append(_panel(title, axis, "share of outputs", series, share=True))
    return panels


def coverage(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """Share of the training images that came out, beside a uniform copier's: as in `headline`."""
    parts, several = groups(runs, axis.along), bool(varied(runs, axis.along))

    def series(key: str, group: Group, label: str, line: Line, filled: bool) -> Series:
        points = points_of(group.runs, value_at("conditions", group.asked, key), axis)
        return Series(label, points, group.colour, group.marker, line, filled)

    title, uniform = "Training images that came out at least once", "as many copies drawn uniformly"
    if several:
        return [
            _panel(words, axis, "coverage",
                   [series(key, g, g.under, g.line, True) for g in parts], share=True)
            for key, words in (
                ("coverage", title), ("uniform_coverage", f"What {uniform} would show"),
            )
        ]  # fmt: skip
    both = [
        one
        for g in parts
        for one in (
            series("coverage", g, g.under, g.line, True),
            series("uniform_coverage", g, f"{g.words}, {uniform}", ":", False),
        )
    ]
    return [_panel(title, axis, "coverage", both, share=True)]


def prompt(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """What another prompt changes, what another noise changes, and whether captions steer."""
    change = "change / distance of two pictures"
    panels = []
    for key, title, unit in (
        ("prompt_effect", "Another prompt, same noise", change),
        ("noise_effect", "Another noise, same prompt", change),
        ("same_image", "Two prompts, the same copy", "share of pairs"),
        ("steering", "Nearest to the image asked for", "share of outputs"),
    ):
        series = []
        for group in groups(runs, axis.along):
            where = (key,) if key == "steering" else (key, group.asked)
            points = points_of(group.runs, interval_at(*where), axis)
            series.append(Series(group.under, points, group.colour, group.marker, group.line))
        if key == "steering":
            points = points_of(runs, value_at(key, "chance"), axis)
            line = ":" if not varied(runs, axis.along) else ""
            series.append(Series("chance", points, GREY, "x", line))
        panels.append(_panel(title, axis, unit, series, share=unit != change))
    return panels


def bits(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """What the models give back, in bits of the smallest files, and per parameter."""

    def size(key: str) -> Value:
        def value(run: Finished) -> Found:
            found = smallest_codec(run.measures["ledger"])
            return None if found is None or found[key] is None else (found[key],)

        return value

    panels = []
    for key, title, unit in (
        ("bits", "Memorized bits", "bits"),
        ("bits_per_parameter", "Memorized bits for each parameter", "bits / parameter"),
    ):
        series = [
            Series(g.words, points_of(g.runs, size(key), axis), g.colour, g.marker, g.line)
            for g in groups(runs, axis.along)
        ]
        panels.append(_panel(title, axis, unit, series, log_y=True))
    return panels


def onset(runs: Sequence[Finished]) -> list[Panel]:
    """When half of the outputs were copies, in steps and in looks; an arrow: not to the end."""
    panels = []
    for key, unit, title in (
        (
            "step",
            "optimizer steps",
            "Half of the outputs under unseen prompts copied for the first time (arrow: not yet)",
        ),
        ("exposures", "looks at each image", "The same, in looks at each image"),
    ):

        def first(run: Finished, key: str = key) -> Point | None:
            if not run.trajectory:
                return None
            found = first_look(run)
            if found is None:
                return Point(run.n, run.trajectory[-1][key], censored=True)
            before = [row[key] for row in run.trajectory if row["step"] < found["step"]]
            # It began after the look before this one.
            return Point(run.n, found[key], before[-1] if before else found[key], found[key])

        series = [
            Series(
                g.words, tuple(p for run in g.runs if (p := first(run))), g.colour, g.marker, g.line
            )
            for g in groups(runs)
        ]
        panels.append(_panel(title, AXES["n"], unit, series, log_y=True))
    return panels


def _panel(
    title: str, axis: Axis, y: str, series: Sequence[Series], log_y: bool = False,
    share: bool = False,
) -> Panel:  # fmt: skip
    return Panel(title, axis.words, y, tuple(series), axis.log, log_y, share, axis.ticks)
