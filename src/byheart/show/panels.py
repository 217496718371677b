"""The figures over all runs of a folder: what each shows, as panels of series.

Every series of a panel has its own marker or line besides its colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import product

from byheart.measure.ledger import smallest_codec
from byheart.show.charts import TOLERANCE_AXIS, along, denoising_of
from byheart.show.groups import Group, groups, look, varied
from byheart.show.halves import CONDITION, Pair
from byheart.show.plots import BLUE, GREY, INK, ORANGE, YELLOW, Line, Panel, Point, Series
from byheart.show.runs import Finished, first_look
from byheart.show.study import study
from byheart.show.trends import laws
from byheart.show.values import (
    AXES,
    CHANGE,
    Axis,
    Value,
    chance,
    counted,
    line_of,
    panel_over,
    points_of,
    value_at,
    values_of,
)
from byheart.show.words import CONDITIONS

# Colour and marker; hatched is what has not been learned, lest it be taken for new.
KIND_LOOKS = {
    "copied": (ORANGE, "o", ""),
    "blend": (YELLOW, "s", ""),
    "broken": (GREY, "X", "////"),
    "novel": (BLUE, "^", ""),
}
HALVES: dict[str, tuple[str, str, str, Line, bool]] = {
    "agreement": ("the two models, from the same noise", BLUE, "o", "-", True),
    "likeness": ("an output and its nearest training image", ORANGE, "s", "--", True),
    "chance": ("the two models, from different noises", GREY, "D", (0, (1, 3)), False),
}


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
        "kinds": kinds(runs, axis),
        "generalization": generalization(runs, axis),
        "coverage": coverage(runs, axis),
        "prompt": prompt(runs, axis),
        "halves": halves(pairs, axis),
        "bits": bits(runs, axis),
    }
    if against == "n":
        made |= {
            "study": study(runs),
            "denoising": denoising(runs),
            "tolerance": tolerance(runs),
            "trajectories": trajectories(runs),
            "onset": onset(runs),
        }
    return {
        name: kept
        for name, panels in made.items()
        if (kept := [p for p in panels if any(s.points for s in p.series)])
    }


def across(name: str, panels: Sequence[Panel]) -> int:
    """How many panels of a figure stand side by side."""
    return 2 if name == "trajectories" or len(panels) == 4 else 3


def headline(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """The curve: copied share, what was typed having nothing to do with the image.

    Captions that name images are asked for too: in the same panel, or where settings vary beside
    it, since the lines would be too many.
    """

    def copied(condition: str) -> Value:
        return value_at("conditions", condition, "kinds", "copied")

    parts, several = groups(runs, axis.along), bool(varied(runs, axis.along))
    by_chance = chance(runs, axis, joined=not several)
    if several:
        return [
            panel_over(
                f"Copies of a training image, under {CONDITIONS[condition]}", axis, "copied",
                [*(line_of(g, copied(condition), axis, g.words) for g in mine), by_chance],
                share=True,
            )
            for condition in ("unseen", "captions")
            if (mine := [g for g in parts if condition in ("unseen", g.asked)])
        ]  # fmt: skip
    series = [
        line_of(
            g, copied(condition), axis, f"{g.words}, under {CONDITIONS[condition]}",
            None if condition == "unseen" else ":", condition == "unseen",
        )
        for g in parts
        for condition in dict.fromkeys(("unseen", g.asked))
    ]  # fmt: skip
    title = "Outputs that are copies of a training image"
    lines = panel_over(title, axis, "copied", [*series, by_chance], share=True)
    return [*(_piled(g, "unseen", axis) for g in parts), lines, *generalization(runs, axis)[1:]]


def _piled(group: Group, condition: str, axis: Axis) -> Panel:
    """A bar for each run: its outputs by kind."""
    series = [
        Series(
            kind,
            points_of(group.runs, value_at("conditions", condition, "kinds", kind, "rate"), axis),
            colour, bar=True, hatch=hatch,
        )
        for kind, (colour, _, hatch) in KIND_LOOKS.items()
    ]  # fmt: skip
    title = f"{group.words}: {CONDITIONS[condition]}"
    return panel_over(title, axis, "share of outputs", series, share=True)


def kinds(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """Copied, blend, broken, novel: a panel for each group and condition."""
    return [_piled(*part, axis) for part in product(groups(runs, axis.along), CONDITIONS)]


def generalization(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """Whether outputs lie nearer to the training images than pictures do that nobody showed."""
    found, runs = [], [run for run in runs if run.measures["version"] > 1]  # 1 has no numbers
    for key, title, level, words in (
        ("ratio", "Distance to what it saw, over that of new pictures", 1.0, "new pictures"),
        ("z", "C_T, the data-copying test", -3.0, "below: copies"),
    ):
        value = value_at("generalization", "nearest", key)
        series = [line_of(g, value, axis, g.words) for g in groups(runs, axis.along)]
        places = sorted({point.x for one in series for point in one.points})
        line = tuple(Point(x, level) for x in places)
        series.append(Series(words, line, GREY, "", (0, (1, 3))))
        found.append(panel_over(title, axis, key, series))
    return found


def coverage(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """Share of the training images that came out, beside a uniform copier's: as in `headline`."""
    parts, several = groups(runs, axis.along), bool(varied(runs, axis.along))

    def value(key: str, group: Group) -> Value:
        return value_at("conditions", group.asked, key)

    title, uniform = "Training images that came out at least once", "as many copies drawn uniformly"
    if several:
        return [
            panel_over(words, axis, "coverage",
                   [line_of(g, value(key, g), axis, g.under) for g in parts], share=True)
            for key, words in (
                ("coverage", title), ("uniform_coverage", f"What {uniform} would show"),
            )
        ]  # fmt: skip
    both = [
        one
        for g in parts
        for one in (
            line_of(g, value("coverage", g), axis, g.under),
            line_of(g, value("uniform_coverage", g), axis, f"{g.words}, {uniform}", ":", False),
        )
    ]
    return [panel_over(title, axis, "coverage", both, share=True)]


def prompt(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """What another prompt changes, what another noise changes, and whether captions steer."""
    panels = []
    for key, title, unit in (
        ("prompt_effect", "Another prompt, same noise", CHANGE),
        ("noise_effect", "Another noise, same prompt", CHANGE),
        ("same_image", "Two prompts, the same copy", "share of pairs"),
        ("steering", "Nearest to the image asked for", "share of outputs"),
    ):
        series = []
        for group in groups(runs, axis.along):
            where = (key,) if key == "steering" else (key, group.asked)
            series.append(line_of(group, value_at(*where), axis, group.under))
        if key == "steering":
            points = points_of(runs, value_at(key, "chance"), axis)
            line = ":" if not varied(runs, axis.along) else ""
            series.append(Series("chance", points, GREY, "x", line))
        panels.append(panel_over(title, axis, unit, series, share=unit != CHANGE))
    return panels


def bits(runs: Sequence[Finished], axis: Axis) -> list[Panel]:
    """What the models give back, in bits of the smallest files, and per parameter."""

    def size(key: str) -> Value:
        return lambda run: values_of((smallest_codec(run.measures["ledger"]) or {}).get(key))

    panels = []
    for key, title, unit in (
        ("bits", "Memorized bits", "bits"),
        ("bits_per_parameter", "Memorized bits for each parameter", "bits / parameter"),
    ):
        series = [line_of(g, size(key), axis, g.words) for g in groups(runs, axis.along)]
        panels.append(panel_over(title, axis, unit, series, log_y=True))
    return panels


def onset(runs: Sequence[Finished]) -> list[Panel]:
    """What outputs are most often at every look, and the laws of drawing and of copying; and how
    often each image had been seen when half were copies, an arrow: not to the end."""

    def seen(run: Finished) -> Point | None:
        if not run.trajectory:
            return None
        found = first_look(run, "copying")
        if found is None:
            return Point(run.n, run.trajectory[-1]["exposures"], censored=True)
        looks = [row["exposures"] for row in run.trajectory if row["step"] < found["step"]]
        # It began after the look before this one.
        by = found["exposures"]
        return Point(run.n, by, looks[-1] if looks else by, by)

    series = [
        Series(g.words, tuple(p for run in g.runs if (p := seen(run))), g.colour, g.marker, g.line)
        for g in groups(runs)
    ]
    title = "Half of the outputs under unseen prompts are copies (arrow: not yet)"
    return [
        *(_map(group) for group in groups(runs)),
        panel_over(title, AXES["n"], "looks at each image", series, log_y=True),
    ]


def _map(group: Group) -> Panel:
    """Every look at (n, steps), by its most frequent kind; each law as far as it was seen."""
    looks: dict[str, list[Point]] = {kind: [] for kind in KIND_LOOKS}
    for run in group.runs:
        for row in run.trajectory:
            most = max(KIND_LOOKS, key=lambda kind: row[kind])
            looks[most].append(Point(run.n, row["step"]))
    series = [
        Series(f"most often {kind}", tuple(looks[kind]), colour, marker, "")
        for kind, (colour, marker, _) in KIND_LOOKS.items()
    ]
    title = f"{group.words}, under unseen prompts"
    for (what, found), line in zip(laws(group.runs).items(), ("--", "-"), strict=True):
        if found.factor is not None and found.exponent is not None:
            begun = [run.n for run in group.runs if first_look(run, what)]
            ends = (min(begun), max(begun))
            power = tuple(Point(n, found.factor * n**found.exponent) for n in ends)
            series.append(Series(f"{what} begins", power, INK, "", line))
            title += f"; {what} begins as n to the {found.exponent:.2f}"
    return panel_over(title, AXES["n"], "optimizer steps", series, log_y=True)


def denoising(runs: Sequence[Finished]) -> list[Panel]:
    """A panel for each group and n."""
    return [
        denoising_of(
            [level for run in group.runs if run.n == n for level in run.measures["denoising"]],
            f"{group.words}, n = {n:,}",
        )
        for group, n in product(groups(runs), _sizes(runs))
    ]


def tolerance(runs: Sequence[Finished]) -> list[Panel]:
    """How wide "the same picture" is taken, for every n; a panel for each group."""

    def curve(key: str) -> Callable[[Finished], Iterable[Point]]:
        return lambda run: along(run.measures["tolerance"], "tau", key)

    panels = []
    for group in groups(runs):
        # So many points that markers would hide them.
        series = list(_by_size(runs, group.runs, curve("copied"), marked=False))
        for run in group.runs[-1:]:
            label, points = "unseen real pictures, largest n", tuple(curve("chance")(run))
            series.append(Series(label, points, GREY, "", (0, (1, 3))))
        panels.append(Panel(f"{group.words}, under {CONDITIONS['unseen']}", TOLERANCE_AXIS,
                            "share accepted", tuple(series), log_x=False, share=True))  # fmt: skip
    return panels


def trajectories(runs: Sequence[Finished]) -> list[Panel]:
    """Copied share while learning: against steps, and against looks at each image."""

    def path(x: str) -> Callable[[Finished], Iterable[Point]]:
        return lambda run: (
            Point(row[x], *counted(row["copied"], row["outputs"])) for row in run.trajectory
        )

    return [
        Panel(f"{group.words}, unseen prompts: {title}", axis, "copied",
              tuple(_by_size(runs, group.runs, path(x))), share=True)
        for group in groups(runs)
        for x, axis, title in (
            ("step", "optimizer steps", "how long it takes"),
            ("exposures", "looks at each image", "how many looks it takes"),
        )
    ]  # fmt: skip


def _sizes(runs: Sequence[Finished]) -> list[int]:
    return sorted({run.n for run in runs})


def _by_size(
    runs: Sequence[Finished], mine: Sequence[Finished],
    points: Callable[[Finished], Iterable[Point]], marked: bool = True,
) -> Iterator[Series]:  # fmt: skip
    """A series for each n among `mine`; one n looks the same wherever it stands."""
    for number, n in enumerate(_sizes(runs)):
        colour, marker, line = look(number)
        found = tuple(point for run in mine if run.n == n for point in points(run))
        yield Series(f"n = {n:,}", found, colour, marker if marked else "", line)


def halves(pairs: Sequence[Pair], axis: Axis) -> list[Panel]:
    """Agreement beside likeness to what was seen: a panel for each group of pairs."""
    of = {pair.a.path: pair for pair in pairs}

    def value(part: str) -> Value:
        return lambda run: values_of(asdict(getattr(of[run.path], part)))

    panels = []
    for group in groups([pair.a for pair in pairs], axis.along):
        series = tuple(
            Series(label, points_of(group.runs, value(part), axis), colour, marker, line, filled)
            for part, (label, colour, marker, line, filled) in HALVES.items()
        )
        worse = tuple(
            Point(axis.place(run), *max(map(_broken, (of[run.path].a, of[run.path].b))))
            for run in group.runs
        )
        words = "share of outputs that are broken, the worse half"
        series = (*series, Series(words, worse, GREY, "X", ":"))
        title = f"{group.words}, under {CONDITIONS[CONDITION]}"
        panels.append(Panel(title, axis.words, "correlation, median", series, axis.log))
    return panels


def _broken(run: Finished) -> tuple[float, float, float]:
    """Networks that have not learned yet may well agree: that is no generalization."""
    found = run.measures["conditions"][CONDITION]["kinds"]["broken"]
    return found["rate"], found["low"], found["high"]
