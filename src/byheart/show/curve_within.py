"""Figures with a curve for every run: panels along the noise, the tolerance, the training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

from byheart.show.curve_points import counted
from byheart.show.finished import Finished
from byheart.show.groups import COLOURS, LINES, MARKERS, groups
from byheart.show.plots import BLUE, GREY, ORANGE, Panel, Point, Series
from byheart.show.words import CONDITIONS


def denoising(runs: Sequence[Finished]) -> list[Panel]:
    """Error on seen and unseen images at each noise level: a panel for each group and n."""
    panels = []
    for group, n in product(groups(runs), _sizes(runs)):
        series = []
        for key, label, look in (
            ("train", "network, training images", (ORANGE, "o", "-")),
            ("held_out", "network, held-out images", (BLUE, "s", "--")),
            ("ideal_train", "ideal memorizer, training images", (ORANGE, "^", ":", False)),
            ("ideal_held_out", "ideal memorizer, held-out images", (BLUE, "D", "-.", False)),
        ):
            points = tuple(
                Point(level["noise_level"], level[key])
                for run in group.runs
                if run.n == n
                for level in run.measures["denoising"]
                if level[key] is not None
            )
            series.append(Series(label, points, *look))
        x, y = "noise level (1: pure noise)", "mean squared error"
        panels.append(
            Panel(f"{group.words}, n = {n:,}", x, y, tuple(series), log_x=False, log_y=True)
        )
    return panels


def tolerance(runs: Sequence[Finished]) -> list[Panel]:
    """How wide "the same picture" is taken, for every n; a panel for each group."""

    def curve(run: Finished, key: str) -> Iterator[Point]:
        for point in run.measures["tolerance"]:
            if point[key] is not None:
                yield Point(point["tau"], point[key])

    panels = []
    for group in groups(runs):
        # So many points that markers would hide them.
        series = list(_by_size(runs, group.runs, lambda run: curve(run, "copied"), marked=False))
        for run in group.runs[-1:]:
            label = "unseen real pictures, largest n"
            series.append(Series(label, tuple(curve(run, "chance")), GREY, "", (0, (1, 3))))
        panels.append(Panel(f"{group.words}, under {CONDITIONS['unseen']}",
                            "tolerance, in reference distances", "share accepted",
                            tuple(series), log_x=False, share=True))  # fmt: skip
    return panels


def trajectories(runs: Sequence[Finished]) -> list[Panel]:
    """Copied share while learning: against steps, and against looks at each image."""

    def path(x: str) -> Callable[[Finished], Iterator[Point]]:
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
    points: Callable[[Finished], Iterator[Point]], marked: bool = True,
) -> Iterator[Series]:  # fmt: skip
    """A series for each n among `mine`; one n looks the same wherever it stands."""
    for number, n in enumerate(_sizes(runs)):
        marker, line = MARKERS[number % len(MARKERS)], LINES[number % len(LINES)]
        found = tuple(point for run in mine if run.n == n for point in points(run))
        colour = COLOURS[number % len(COLOURS)]
        yield Series(f"n = {n:,}", found, colour, marker if marked else "", line)
