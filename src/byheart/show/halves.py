"""Two runs on disjoint halves of one source: how alike their outputs are, how like what they saw.

Agreement rises only where copying has ended (Kadkhodaie et al. 2024, arXiv:2310.02557).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from byheart.config import BYSTANDERS
from byheart.measure.agreement import Median, correlation, median
from byheart.show.pictures import Section
from byheart.show.runs import PIXELS, Finished, Outputs, naming, read_outputs

CONDITION = "unseen"
SEEN = 16  # outputs of each that are shown together
Key = tuple[str, int]  # prompt and initial noise


@dataclass(frozen=True)
class Pair:
    """What the halves made of the same noises under the same unseen prompts, headline weights."""

    a: Finished
    b: Finished
    agreement: Median  # correlation of the two outputs
    chance: Median  # the same, the noise of one being the next one of the other
    likeness: Median  # correlation of an output and its nearest training image, both halves
    seen: Section  # an output of each noise, above what the other network made of it


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

    def alike(keys: Sequence[Key], others: Sequence[Key]) -> Median:
        mine, theirs = [of_one[key] for key in keys], [of_other[key] for key in others]
        values = correlation(one.pixels[mine], other.pixels[theirs])
        return median(values, [noise for _, noise in keys])

    own = [
        (side, [rows[key] for key in asked])
        for side, rows in zip(made, (of_one, of_other), strict=True)
    ]
    likeness = np.concatenate([correlation(side.pixels[k], side.nearest(k)) for side, k in own])
    agreement = alike(asked, asked)
    title = f"n = {a.n:,} each, no picture shared, the same noises: "
    title += f"{a.path.name} above, {b.path.name} below"
    if agreement.value is not None:
        title += f"; correlation {agreement.value:.2f}"
    first: dict[int, Key] = {}
    for key in asked:
        first.setdefault(key[1], key)
    shown = [*first.values()][:SEEN]
    return Pair(
        a,
        b,
        agreement=agreement,
        chance=alike(crossed, [(prompt, after[k]) for prompt, k in crossed]),
        likeness=median(likeness, 2 * [noise for _, noise in asked]),
        seen=(
            title,
            one.pixels[[of_one[key] for key in shown]],
            other.pixels[[of_other[key] for key in shown]],
        ),
    )


def _rows(made: Outputs) -> dict[Key, int]:
    """Where the output of each prompt and noise stands."""
    return {
        (row["prompt"], int(row["noise"])): k
        for k, row in enumerate(made.rows)
        if row["condition"] == CONDITION
    }
