"""Two runs on disjoint halves of one source: how alike their outputs are, how like what they saw.

Agreement rises only where copying has ended (Kadkhodaie et al. 2024, arXiv:2310.02557).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from byheart.config import BYSTANDERS
from byheart.measure.agreement import Median, correlation, median
from byheart.show.pictures import Section
from byheart.show.runs import PIXELS, Finished, Outputs, naming, read_outputs
from byheart.show.table import Halves

CONDITION = "unseen"
Key = tuple[str, int]  # prompt and initial noise


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


def seen_together(pairs: Sequence[Pair], count: int = 16) -> list[Section]:
    """What the two networks made of the same noises: a section for each pair."""
    sections: list[Section] = []
    for pair in pairs:
        made = [read_outputs(run.path, run.headline) for run in (pair.a, pair.b)]
        rows = [_rows(one) for one in made]
        first: dict[int, Key] = {}
        for key in rows[0]:
            if key in rows[1]:
                first.setdefault(key[1], key)
        keys = [*first.values()][:count]
        one, other = (m.pixels[[r[key] for key in keys]] for m, r in zip(made, rows, strict=True))
        alike = "" if pair.agreement.value is None else f"; correlation {pair.agreement.value:.2f}"
        names = f"{pair.a.path.name} above, {pair.b.path.name} below"
        title = f"n = {pair.a.n:,} each, no picture shared, the same noises: {names}"
        sections.append((title + alike, one, other))
    return sections


def columns(pairs: Sequence[Pair]) -> Halves:
    """What curve.csv says of both runs of each pair."""
    found: dict[Path, dict[str, float | None]] = {}
    for pair in pairs:
        row = {"agreement_chance": pair.chance.value}
        for name, part in (("agreement", pair.agreement), ("likeness", pair.likeness)):
            row |= {name: part.value, f"{name}_low": part.low, f"{name}_high": part.high}
        found[pair.a.path] = found[pair.b.path] = row
    return found
