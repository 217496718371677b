"""The figures over all runs of a folder: what each shows, as panels of series."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from byheart.show.curve import Finished, first_copied, smallest_codec
from byheart.show.plots import (
    BLUE,
    GREEN,
    GREY,
    KIND_COLOURS,
    ORANGE,
    PURPLE,
    YELLOW,
    Panel,
    Point,
    Series,
)  # fmt: skip
from byheart.show.words import CONDITIONS

N = "training images"
# Of captions modes: what each is called, its colour and its line.
MODES = {
    "shared": ("one caption for all", ORANGE, "-"),
    "own": ("own captions", BLUE, "--"),
    "none": ("no captions", GREEN, "-."),
    "random": ("random captions", PURPLE, ":"),
}
SIZES = (ORANGE, YELLOW, GREEN, BLUE, PURPLE, GREY)


def figures(runs: Sequence[Finished]) -> dict[str, list[Panel]]:
    """By file name. Figures for which no run has numbers are left out."""
    made = {
        "curve": headline(runs),
        "kinds": kinds(runs),
        "coverage": coverage(runs),
        "prompt": prompt(runs),
        "denoising": denoising(runs),
        "tolerance": tolerance(runs),
        "bits": bits(runs),
        "trajectories": trajectories(runs),
    }
    return {
        name: kept
        for name, panels in made.items()
        if (kept := [p for p in panels if any(s.points for s in p.series)])
    }


def headline(runs: Sequence[Finished]) -> list[Panel]:
    """The curve: copied share against n, what was typed having nothing to do with the image."""
    series = []
    for mode, (words, colour, line) in MODES.items():
        of_mode = [run for run in runs if run.captions == mode]
        for condition, marker, filled in (("unseen", "o", True), ("captions", "s", False)):
            if mode == "shared" and condition == "captions":
                continue
            label = f"{words}, under {CONDITIONS[condition]}"
            points = _points(of_mode, partial(_rate, condition=condition, kind="copied"))
            style = line if filled else ":"
            series.append(Series(label, points, colour, marker, style, filled))
    series.append(_chance(runs))
    return [Panel("Outputs that are copies of a training image", N, "copied", tuple(series),
                  share=True)]  # fmt: skip


def kinds(runs: Sequence[Finished]) -> list[Panel]:
    """Copied, blend, broken, novel against n: a panel for each captions mode and condition."""
    panels = []
    for mode, (words, _, _) in MODES.items():
        of_mode = [run for run in runs if run.captions == mode]
        for condition, name in CONDITIONS.items():
            series = [
                Series(kind, _points(of_mode, partial(_rate, condition=condition, kind=kind)), hue)
                for kind, hue in KIND_COLOURS.items()
            ]
            if not any(s.points for s in series):
                continue
            controls = [
                Series(f"control: {what.replace('_', ' ')}",
                       _points(of_mode, partial(_control, name=what)), GREY, "x", ":")
                for what in ("ideal", "noisy_0.1", "held_out")
            ]  # fmt: skip
            title = f"{words}: {name}"
            panels.append(Panel(title, N, "share of outputs",
                                (*series, _chance(of_mode), *controls), share=True))  # fmt: skip
    return panels


def coverage(runs: Sequence[Finished]) -> list[Panel]:
    """Share of the training images that came out, beside a uniform copier's."""
    series = []
    for mode, (words, colour, line) in MODES.items():
        of_mode = [run for run in runs if run.captions == mode]
        asked = "captions" if mode == "own" else "unseen"
        for key, label, filled in (
            ("coverage", f"{words}, {CONDITIONS[asked]}", True),
            ("uniform_coverage", f"{words}, as many copies drawn uniformly", False),
        ):
            points = _points(of_mode, partial(_plain, condition=asked, key=key))
            series.append(Series(label, points, colour, "o", line if filled else ":", filled))
    return [Panel("Training images that came out at least once", N, "coverage", tuple(series),
                  share=True)]  # fmt: skip


def prompt(runs: Sequence[Finished]) -> list[Panel]:
    """What another prompt changes, what another noise changes, and whether captions steer."""
    panels = []
    for key, title in (("prompt_effect", "Another prompt, same noise"),
                       ("noise_effect", "Another noise, same prompt"),
                       ("same_image", "Two prompts, the same copy"),
                       ("steering", "Nearest to the image asked for")):  # fmt: skip
        series = []
        for mode, (words, colour, line) in MODES.items():
            of_mode = [run for run in runs if run.captions == mode]
            points = _points(of_mode, partial(_effect, key=key))
            series.append(Series(words, points, colour, "o", line))
        if key == "steering":
            values = tuple(Point(r.n, 1 / r.n) for r in runs if r.captions == "own")
            series.append(Series("chance", values, GREY, "x", ":"))
        unit = "share" if key in {"same_image", "steering"} else "change / distance of two pictures"
        panels.append(Panel(title, N, unit, tuple(series), share=unit == "share"))
    return panels


def denoising(runs: Sequence[Finished]) -> list[Panel]:
    """Error on seen and unseen images at each noise level, a panel for each n."""
    panels = []
    for n in dict.fromkeys(run.n for run in runs):
        series = []
        for key, label, colour, line in (
            ("train", "network, training images", ORANGE, "-"),
            ("held_out", "network, held-out images", BLUE, "-"),
            ("ideal_train", "ideal memorizer, training images", ORANGE, ":"),
            ("ideal_held_out", "ideal memorizer, held-out images", BLUE, ":"),
        ):
            points = tuple(
                Point(level["noise_level"], level[key])
                for run in runs
                if run.n == n
                for level in run.measures["denoising"]
                if level[key]  # None, or exactly 0: no place on a logarithmic axis
            )
            series.append(Series(label, points, colour, "o", line))
        title = f"{n:,} training image{'s' if n > 1 else ''}"
        panels.append(Panel(title, "noise level", "mean squared error", tuple(series),
                            log_x=False, log_y=True))  # fmt: skip
    return panels


def tolerance(runs: Sequence[Finished]) -> list[Panel]:
    """How wide "the same picture" is taken, for every n; a panel for each captions mode."""
    panels = []
    for mode, (words, _, _) in MODES.items():
        of_mode = [run for run in runs if run.captions == mode]
        series = [
            Series(f"n = {n:,}", _curve(of_mode, n, "copied"), colour, "", "-")
            for n, colour in zip(_sizes(of_mode), SIZES * 9, strict=False)
        ]
        widest = max(_sizes(of_mode))
        series.append(
            Series(
                "unseen real pictures, largest n", _curve(of_mode, widest, "chance"), GREY, "", ":"
            )
        )
        panels.append(Panel(words, "tolerance, in reference distances", "share accepted",
                            tuple(series), log_x=False, share=True))  # fmt: skip
    return panels


def bits(runs: Sequence[Finished]) -> list[Panel]:
    """What the models give back, in bits of the smallest files, and per parameter."""
    panels = []
    for key, title, unit in (
        ("bits", "Memorized bits", "bits"),
        ("bits_per_parameter", "… for each parameter", "bits / parameter"),
    ):
        series = []
        for mode, (words, colour, line) in MODES.items():
            of_mode = [run for run in runs if run.captions == mode]
            points = _points(of_mode, partial(_bits, key=key))
            series.append(Series(words, points, colour, "o", line))
        panels.append(Panel(title, N, unit, tuple(series), log_y=True))
    return panels


def trajectories(runs: Sequence[Finished]) -> list[Panel]:
    """Copied share while learning: against steps, and against looks at each image. And when."""
    panels = []
    for mode, (words, _, _) in MODES.items():
        of_mode = [run for run in runs if run.captions == mode]
        for x, axis in (("step", "optimizer steps"), ("exposures", "looks at each image")):
            series = [
                Series(f"n = {n:,}", tuple(
                    Point(row[x], row["copied"])
                    for run in of_mode if run.n == n for row in run.trajectory
                ), colour)
                for n, colour in zip(_sizes(of_mode), SIZES * 9, strict=False)
            ]  # fmt: skip
            panels.append(Panel(words, axis, "copied", tuple(series), share=True))
    first = []
    for mode, (words, colour, line) in MODES.items():
        points = []
        for run in runs:
            if run.captions == mode and run.trajectory:
                step = first_copied(run)
                last = run.trajectory[-1]["step"]
                points.append(Point(run.n, step or last, censored=step is None))
        first.append(Series(words, tuple(points), colour, "o", line))
    panels.append(Panel("First step with half of the outputs copied (arrow: not yet)", N,
                        "optimizer steps", tuple(first), log_y=True))  # fmt: skip
    return panels


def _points(
    runs: Sequence[Finished], value: Callable[[Finished], Point | None]
) -> tuple[Point, ...]:
    found = (value(run) for run in runs)
    return tuple(point for point in found if point is not None)


def _rate(run: Finished, condition: str, kind: str) -> Point | None:
    found = run.measures["conditions"][condition]
    if found is None:
        return None
    rate = found["kinds"][kind]
    return Point(run.n, rate["rate"], rate["low"], rate["high"])


def _plain(run: Finished, condition: str, key: str) -> Point | None:
    found = run.measures["conditions"][condition]
    return None if found is None else Point(run.n, found[key])


def _control(run: Finished, name: str) -> Point | None:
    control = run.measures["controls"].get(name)
    return None if control is None else Point(run.n, control["copied"])


def _chance(runs: Sequence[Finished]) -> Series:
    rates = [(run.n, run.measures["chance"]) for run in runs]
    points = tuple(
        Point(n, rate["rate"], rate["low"], rate["high"])
        for n, rate in rates
        if rate["rate"] is not None
    )
    return Series("chance: unseen real pictures", points, GREY, "D", ":", filled=False)


def _effect(run: Finished, key: str) -> Point | None:
    found = run.measures[key]
    if key != "steering":
        found = found["captions" if run.captions == "own" else "unseen"]
    if found is None or found["value"] is None:
        return None
    return Point(run.n, found["value"], found["low"], found["high"])


def _bits(run: Finished, key: str) -> Point | None:
    sizes = smallest_codec(run.measures["ledger"])
    return None if sizes is None else Point(run.n, sizes[key])


def _curve(runs: Sequence[Finished], n: int, key: str) -> tuple[Point, ...]:
    return tuple(
        Point(point["tau"], point[key])
        for run in runs
        if run.n == n
        for point in run.measures["tolerance"]
        if point[key] is not None
    )


def _sizes(runs: Sequence[Finished]) -> list[int]:
    return list(dict.fromkeys(run.n for run in runs)) or [0]
