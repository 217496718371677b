"""The figures over all runs of a folder: what each shows, as panels of series.

Every series of a panel has its own marker or line besides its colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from byheart.show.curve import Finished, first_copied, smallest_codec
from byheart.show.curve_points import (
    MODES,
    Value,
    asked,
    chance,
    control_at,
    interval_at,
    of_mode,
    points_of,
    value_at,
)
from byheart.show.curve_within import denoising, tolerance, trajectories
from byheart.show.plots import BLUE, GREY, ORANGE, YELLOW, Panel, Point, Series
from byheart.show.words import CONDITIONS

N = "training images"
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


def figures(runs: Sequence[Finished]) -> dict[str, list[Panel]]:
    """By file name. Figures and panels for which no run has numbers are left out.

    KeyError, TypeError, AttributeError: a run of another version.
    """
    made = {
        "curve": [headline(runs)],
        "kinds": kinds(runs),
        "coverage": [coverage(runs)],
        "prompt": prompt(runs),
        "denoising": denoising(runs),
        "tolerance": tolerance(runs),
        "bits": bits(runs),
        "trajectories": trajectories(runs),
        "onset": [first_copies(runs)],
    }
    return {
        name: kept
        for name, panels in made.items()
        if (kept := [p for p in panels if any(s.points for s in p.series)])
    }


def headline(runs: Sequence[Finished]) -> Panel:
    """The curve: copied share against n, what was typed having nothing to do with the image."""
    series = []
    for mode, (words, colour, marker, line) in MODES.items():
        mine = of_mode(runs, mode)
        for condition in dict.fromkeys(("unseen", asked(mode))):
            label = f"{words}, under {CONDITIONS[condition]}"
            points = points_of(mine, interval_at("conditions", condition, "kinds", "copied"))
            filled = condition == "unseen"
            line = line if filled else ":"
            series.append(Series(label, points, colour, marker, line, filled))
    title = "Outputs that are copies of a training image"
    return Panel(title, N, "copied", (*series, chance(runs)), share=True)


def kinds(runs: Sequence[Finished]) -> list[Panel]:
    """Copied, blend, broken, novel against n: a panel for each captions mode and condition."""
    panels = []
    for (mode, (words, *_)), (condition, name) in product(MODES.items(), CONDITIONS.items()):
        mine = of_mode(runs, mode)
        series = tuple(
            Series(
                kind, points_of(mine, interval_at("conditions", condition, "kinds", kind)), *look
            )
            for kind, look in KINDS.items()
        )
        if any(s.points for s in series):
            controls = (
                Series(label, points_of(mine, control_at(control)), GREY, marker, "", filled=False)
                for control, (label, marker) in CONTROLS.items()
            )
            panels.append(Panel(f"{words}: {name}", N, "share of outputs",
                                (*series, chance(mine), *controls), share=True))  # fmt: skip
    return panels


def coverage(runs: Sequence[Finished]) -> Panel:
    """Share of the training images that came out, beside a uniform copier's."""
    series = []
    for mode, (words, colour, marker, line) in MODES.items():
        condition = asked(mode)
        for key, label, look in (
            ("coverage", f"{words}, under {CONDITIONS[condition]}", (marker, line, True)),
            ("uniform_coverage", f"{words}, as many copies drawn uniformly", (marker, ":", False)),
        ):
            points = points_of(of_mode(runs, mode), value_at("conditions", condition, key))
            series.append(Series(label, points, colour, *look))
    title = "Training images that came out at least once"
    return Panel(title, N, "coverage", tuple(series), share=True)


def prompt(runs: Sequence[Finished]) -> list[Panel]:
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
        for mode, (words, colour, marker, line) in MODES.items():
            where = (key,) if key == "steering" else (key, asked(mode))
            label = f"{words}, under {CONDITIONS[asked(mode)]}"
            series.append(
                Series(
                    label, points_of(of_mode(runs, mode), interval_at(*where)), colour, marker, line
                )
            )
        if key == "steering":
            points = points_of(runs, value_at(key, "chance"))
            series.append(Series("chance", points, GREY, "x", ":"))
        panels.append(Panel(title, N, unit, tuple(series), share=unit != change))
    return panels


def bits(runs: Sequence[Finished]) -> list[Panel]:
    """What the models give back, in bits of the smallest files, and per parameter."""

    def size(key: str) -> Value:
        def point(run: Finished) -> Point | None:
            found = smallest_codec(run.measures["ledger"])
            return None if found is None or found[key] is None else Point(run.n, found[key])

        return point

    return [
        Panel(title, N, unit, tuple(
            Series(words, points_of(of_mode(runs, mode), size(key)), colour, marker, line)
            for mode, (words, colour, marker, line) in MODES.items()
        ), log_y=True)
        for key, title, unit in (
            ("bits", "Memorized bits", "bits"),
            ("bits_per_parameter", "Memorized bits for each parameter", "bits / parameter"),
        )
    ]  # fmt: skip


def first_copies(runs: Sequence[Finished]) -> Panel:
    """When half of the outputs were copies, against n; an arrow where that did not come."""

    def first(run: Finished) -> Point | None:
        if not run.trajectory:
            return None
        step = first_copied(run)
        return Point(run.n, step or run.trajectory[-1]["step"], censored=step is None)

    series = (
        Series(words, points_of(of_mode(runs, mode), first), colour, marker, line)
        for mode, (words, colour, marker, line) in MODES.items()
    )
    return Panel("Half of the outputs copied for the first time (arrow: not yet)", N,
                 "optimizer steps", tuple(series), log_y=True)  # fmt: skip
