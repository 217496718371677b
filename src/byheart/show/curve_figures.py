"""The figures over all runs of a folder: what each shows, as panels of series.

Every series of a panel has its own marker or line besides its colour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

from byheart.measure.interval import wilson
from byheart.show.curve import Finished, first_copied, smallest_codec
from byheart.show.plots import BLUE, GREEN, GREY, ORANGE, PURPLE, YELLOW, Panel, Point, Series
from byheart.show.words import CONDITIONS

N = "training images"
# Of captions modes: what each is called, its colour, marker and line.
MODES = {
    "shared": ("one caption for all", ORANGE, "o", "-"),
    "own": ("own captions", BLUE, "s", "--"),
    "none": ("no captions", GREEN, "^", "-."),
    "random": ("random captions", PURPLE, "D", ":"),
}
KINDS = {
    "copied": (ORANGE, "o", "-"),
    "blend": (YELLOW, "s", "--"),
    "broken": (GREY, "X", "-."),
    "novel": (BLUE, "^", ":"),
}
CONTROLS = {
    "ideal": ("control: ideal memorizer, copied", "+"),
    "noisy_0.1": ("control: training images + noise, copied", "x"),
    "held_out": ("control: held-out images, copied", "1"),
}
# Of sizes n, in turn: no two of the first thirty are alike.
COLOURS = (ORANGE, BLUE, GREEN, YELLOW, PURPLE, GREY)
LOOKS = (("o", "-"), ("s", "--"), ("^", "-."), ("D", ":"), ("v", (0, (6, 2, 1, 2, 1, 2))))

Value = Callable[[Finished], Point | None]


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
        "trajectories": [*trajectories(runs), first_copies(runs)],
    }
    return {
        name: kept
        for name, panels in made.items()
        if (kept := [p for p in panels if any(s.points for s in p.series)])
    }


def asked(mode: str) -> str:
    """The condition that shows what training on such captions made of the network."""
    return "captions" if mode == "own" else "unseen"


def headline(runs: Sequence[Finished]) -> Panel:
    """The curve: copied share against n, what was typed having nothing to do with the image."""
    series = []
    for mode, (words, colour, marker, line) in MODES.items():
        mine = _of(runs, mode)
        for condition in dict.fromkeys(("unseen", asked(mode))):
            label = f"{words}, under {CONDITIONS[condition]}"
            points = _points(mine, _interval("conditions", condition, "kinds", "copied"))
            filled = condition == "unseen"
            line = line if filled else ":"
            series.append(Series(label, points, colour, marker, line, filled))
    title = "Outputs that are copies of a training image"
    return Panel(title, N, "copied", (*series, _chance(runs)), share=True)


def kinds(runs: Sequence[Finished]) -> list[Panel]:
    """Copied, blend, broken, novel against n: a panel for each captions mode and condition."""
    panels = []
    for (mode, (words, *_)), (condition, name) in product(MODES.items(), CONDITIONS.items()):
        mine = _of(runs, mode)
        series = tuple(
            Series(kind, _points(mine, _interval("conditions", condition, "kinds", kind)), *look)
            for kind, look in KINDS.items()
        )
        if any(s.points for s in series):
            controls = (
                Series(label, _points(mine, _control(control)), GREY, marker, "")
                for control, (label, marker) in CONTROLS.items()
            )
            panels.append(Panel(f"{words}: {name}", N, "share of outputs",
                                (*series, _chance(mine), *controls), share=True))  # fmt: skip
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
            points = _points(_of(runs, mode), _value("conditions", condition, key))
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
        for mode, (words, *look) in MODES.items():
            where = (key,) if key == "steering" else (key, asked(mode))
            label = f"{words}, under {CONDITIONS[asked(mode)]}"
            series.append(Series(label, _points(_of(runs, mode), _interval(*where)), *look))
        if key == "steering":
            points = _points(runs, _value(key, "chance"))
            series.append(Series("chance", points, GREY, "x", ":"))
        panels.append(Panel(title, N, unit, tuple(series), share=unit != change))
    return panels


def denoising(runs: Sequence[Finished]) -> list[Panel]:
    """Error on seen and unseen images at each noise level: a panel for each captions mode and n."""
    panels = []
    for (mode, (words, *_)), n in product(MODES.items(), _sizes(runs)):
        series = []
        for key, label, look in (
            ("train", "network, training images", (ORANGE, "o", "-")),
            ("held_out", "network, held-out images", (BLUE, "s", "--")),
            ("ideal_train", "ideal memorizer, training images", (ORANGE, "^", ":", False)),
            ("ideal_held_out", "ideal memorizer, held-out images", (BLUE, "D", "-.", False)),
        ):
            points = tuple(
                Point(level["noise_level"], level[key])
                for run in _of(runs, mode)
                if run.n == n
                for level in run.measures["denoising"]
                if level[key] is not None
            )
            series.append(Series(label, points, *look))
        panels.append(Panel(f"{words}, n = {n:,}", "noise level (1: pure noise)",
                            "mean squared error", tuple(series), log_x=False, log_y=True))  # fmt: skip
    return panels


def tolerance(runs: Sequence[Finished]) -> list[Panel]:
    """How wide "the same picture" is taken, for every n; a panel for each captions mode."""

    def curve(run: Finished, key: str) -> Iterator[Point]:
        for point in run.measures["tolerance"]:
            if point[key] is not None:
                yield Point(point["tau"], point[key])

    panels = []
    for mode, (words, *_) in MODES.items():
        mine = _of(runs, mode)
        # So many points that markers would hide them.
        series = list(_by_size(runs, mine, lambda run: curve(run, "copied"), marked=False))
        for run in mine[-1:]:
            label = "unseen real pictures, largest n"
            series.append(Series(label, tuple(curve(run, "chance")), GREY, "", (0, (1, 3))))
        panels.append(Panel(f"{words}, under {CONDITIONS['unseen']}",
                            "tolerance, in reference distances", "share accepted",
                            tuple(series), log_x=False, share=True))  # fmt: skip
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
            Series(words, _points(_of(runs, mode), size(key)), *look)
            for mode, (words, *look) in MODES.items()
        ), log_y=True)
        for key, title, unit in (
            ("bits", "Memorized bits", "bits"),
            ("bits_per_parameter", "Memorized bits for each parameter", "bits / parameter"),
        )
    ]  # fmt: skip


def trajectories(runs: Sequence[Finished]) -> list[Panel]:
    """Copied share while learning: against steps, and against looks at each image."""

    def path(run: Finished, x: str) -> Iterator[Point]:
        for row in run.trajectory:
            yield _counted(row[x], row["copied"], row["outputs"])

    return [
        Panel(words, axis, "copied",
              tuple(_by_size(runs, _of(runs, mode), lambda run, x=x: path(run, x))), share=True)
        for mode, (words, *_) in MODES.items()
        for x, axis in (("step", "optimizer steps"), ("exposures", "looks at each image"))
    ]  # fmt: skip


def first_copies(runs: Sequence[Finished]) -> Panel:
    """When half of the outputs were copies, against n; an arrow where that did not come."""

    def first(run: Finished) -> Point | None:
        if not run.trajectory:
            return None
        step = first_copied(run)
        return Point(run.n, step or run.trajectory[-1]["step"], censored=step is None)

    series = (
        Series(words, _points(_of(runs, mode), first), *look)
        for mode, (words, *look) in MODES.items()
    )
    return Panel("Half of the outputs copied for the first time (arrow: not yet)", N,
                 "optimizer steps", tuple(series), log_y=True)  # fmt: skip


def _of(runs: Sequence[Finished], mode: str) -> list[Finished]:
    return [run for run in runs if run.captions == mode]


def _sizes(runs: Sequence[Finished]) -> list[int]:
    return sorted({run.n for run in runs})


def _by_size(
    runs: Sequence[Finished], mine: Sequence[Finished],
    points: Callable[[Finished], Iterator[Point]], marked: bool = True,
) -> Iterator[Series]:  # fmt: skip
    """A series for each n among `mine`; one n looks the same wherever it stands."""
    for number, n in enumerate(_sizes(runs)):
        marker, line = LOOKS[number % len(LOOKS)]
        found = tuple(point for run in mine if run.n == n for point in points(run))
        colour = COLOURS[number % len(COLOURS)]
        yield Series(f"n = {n:,}", found, colour, marker if marked else "", line)


def _points(runs: Sequence[Finished], value: Value) -> tuple[Point, ...]:
    return tuple(point for run in runs if (point := value(run)) is not None)


def _at(run: Finished, *keys: str) -> Any:
    """What measures.json holds there; None where it, or what should hold it, is null."""
    found: Any = run.measures
    for key in keys:
        if found is None:
            return None
        found = found[key]
    return found


def _value(*keys: str) -> Value:
    def point(run: Finished) -> Point | None:
        found = _at(run, *keys)
        return None if found is None else Point(run.n, found)

    return point


def _interval(*keys: str) -> Value:
    """A rate or an effect with its interval."""

    def point(run: Finished) -> Point | None:
        found = _at(run, *keys)
        if found is None:
            return None
        value = found["rate"] if "rate" in found else found["value"]
        return None if value is None else Point(run.n, value, found["low"], found["high"])

    return point


def _control(name: str) -> Value:
    def point(run: Finished) -> Point | None:
        found = run.measures["controls"].get(name)
        return found and _counted(run.n, found["copied"], found["outputs"])

    return point


def _counted(x: float, share: float, count: int) -> Point:
    rate = wilson(round(share * count), count)
    return Point(x, share, rate.low, rate.high)


def _chance(runs: Sequence[Finished]) -> Series:
    points = _points(runs, _interval("chance"))
    return Series("chance: unseen real pictures", points, GREY, "D", (0, (1, 3)), filled=False)
