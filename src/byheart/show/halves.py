"""Two runs on disjoint halves of one source: how alike their outputs are, how like what they saw.

Agreement rises only where copying has ended (Kadkhodaie et al. 2024, arXiv:2310.02557).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from byheart.config import BYSTANDERS
from byheart.measure.agreement import Median, correlation, median
from byheart.show.curve import Halves
from byheart.show.curve_points import Axis, Value, interval, points_of
from byheart.show.finished import Finished, naming
from byheart.show.groups import groups
from byheart.show.outputs import PIXELS, Outputs, read_outputs
from byheart.show.plots import BLUE, GREY, ORANGE, Line, Panel, Point, Series
from byheart.show.words import CONDITIONS

CONDITION = "unseen"
Key = tuple[str, int]  # prompt and initial noise
PARTS: dict[str, tuple[str, str, str, Line, bool]] = {
    "agreement": ("the two models, from the same noise", BLUE, "o", "-", True),
    "likeness": ("an output and its nearest training image", ORANGE, "s", "--", True),
    "chance": ("the two models, from different noises", GREY, "D", (0, (1, 3)), False),
}


@dataclass(frozen=True)
class Pair:
    """What the halves made of the same noises under the same unseen prompts, headline weights."""

    a: Finished
    b: Finished
    agreement: Median  # correlation of the two outputs
    chance: Median  # the same, the noise of one being the next one of the other
    likeness: Median  # correlation of an output and its nearest training image, both halves


def pairs_of(runs: Sequence[Finished]) -> list[Pair]:
    """Of runs that have the same settings but `split` a and b; none where pixels are missing.

    ValueError: names a run whose pixels are damaged.
    """
    sides: dict[str, dict[str, Finished]] = {}
    for run in runs:
        same = {
            key: value
            for key, value in run.config.items()
            if key not in ("split", "run") and key.split(".")[0] not in BYSTANDERS
        }
        side = sides.setdefault(repr(sorted(same.items())), {})
        side.setdefault(str(run.config.get("split")), run)
    both = [(side["a"], side["b"]) for side in sides.values() if {"a", "b"} <= side.keys()]
    return [pair for a, b in both if (pair := _pair(a, b)) is not None]


def _pair(a: Finished, b: Finished) -> Pair | None:
    made = []
    for run in (a, b):
        with naming(run.path):
            if not (run.path / PIXELS).exists():
                return None
            made.append(read_outputs(run.path, run.headline))
    one, other = made
    of_one, of_other = map(_rows, made)
    asked = [key for key in of_one if key in of_other]
    noises = sorted({noise for _, noise in asked})
    after = dict(zip(noises, noises[1:] + noises[:1], strict=True))
    crossed = [
        (prompt, k) for prompt, k in asked if after[k] != k and (prompt, after[k]) in of_other
    ]

    def together(keys: Sequence[Key], others: Sequence[Key]) -> Median:
        mine, theirs = [of_one[key] for key in keys], [of_other[key] for key in others]
        alike = correlation(one.pixels[mine], other.pixels[theirs])
        return median(alike, [noise for _, noise in keys])

    own = [
        (side, [rows[key] for key in asked])
        for side, rows in zip(made, (of_one, of_other), strict=True)
    ]
    likeness = np.concatenate([correlation(side.pixels[k], side.nearest(k)) for side, k in own])
    return Pair(
        a,
        b,
        agreement=together(asked, asked),
        chance=together(crossed, [(prompt, after[k]) for prompt, k in crossed]),
        likeness=median(likeness, 2 * [noise for _, noise in asked]),
    )


def _rows(made: Outputs) -> dict[Key, int]:
    """Where the output of each prompt and noise stands."""
    return {
        (row["prompt"], int(row["noise"])): k
        for k, row in enumerate(made.rows)
        if row["condition"] == CONDITION
    }


def columns(pairs: Sequence[Pair]) -> Halves:
    """What curve.csv says of both runs of each pair."""
    found: dict[Path, dict[str, float | None]] = {}
    for pair in pairs:
        row = {"agreement_chance": pair.chance.value}
        for name, part in (("agreement", pair.agreement), ("likeness", pair.likeness)):
            row |= {name: part.value, f"{name}_low": part.low, f"{name}_high": part.high}
        found[pair.a.path] = found[pair.b.path] = row
    return found


def halves(pairs: Sequence[Pair], axis: Axis) -> list[Panel]:
    """Agreement beside likeness to what was seen: a panel for each group of pairs."""
    of = {pair.a.path: pair for pair in pairs}

    def value(part: str) -> Value:
        return lambda run: interval(asdict(getattr(of[run.path], part)))

    panels = []
    for group in groups([pair.a for pair in pairs], axis.along):
        series = tuple(
            Series(label, points_of(group.runs, value(part), axis), colour, marker, line, filled)
            for part, (label, colour, marker, line, filled) in PARTS.items()
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
