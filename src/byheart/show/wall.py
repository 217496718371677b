"""The wall: outputs of the first run of each kind, above their nearest training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from byheart.show.figures import Pixels, png_bytes, sheet
from byheart.show.finished import Finished, naming
from byheart.show.groups import asked, groups
from byheart.show.outputs import PIXELS, read_outputs
from byheart.show.words import CONDITIONS

EACH = 16  # outputs of each section
Section = tuple[str, Pixels, Pixels]


def without_pixels(runs: Sequence[Finished]) -> list[Finished]:
    return [run for run in runs if not (run.path / PIXELS).exists()]


def wall(runs: Sequence[Finished]) -> bytes | None:
    """A PNG of the runs whose pixels are there; None where there are none.

    ValueError: names a run whose pixels are damaged.
    """
    missing = {run.path for run in without_pixels(runs)}
    variant = {run.path: group.variant for group in groups(runs) for run in group.runs}
    sections: list[Section] = []
    shown = set()
    for run in runs:
        kind = (run.n, run.captions, variant[run.path])
        if run.path not in missing and kind not in shown:
            shown.add(kind)
            with naming(run.path):
                sections += _sections(run, variant[run.path])
    return png_bytes(sheet(_one_size(sections))) if sections else None


def _sections(run: Finished, variant: str) -> Iterator[Section]:
    """The run's first outputs: a section for each condition.

    One output from each initial noise before a second from any: a prompt may change nothing.
    Under captions one of each caption before a second of any.
    """
    made = read_outputs(run.path, run.headline)
    for condition in dict.fromkeys(("unseen", asked(run.captions))):
        turn: dict[str, int] = {}
        order = []
        for k, row in enumerate(made.rows):
            if row["condition"] == condition:
                key = row["prompt" if condition == "captions" else "noise"]
                turn[key] = turn.get(key, 0) + 1
                order.append((turn[key], k))
        chosen = [k for _, k in sorted(order)[:EACH]]
        if chosen:
            outputs, nearest = made.pixels[chosen], made.nearest(chosen)
            side = outputs.shape[1]
            if side != nearest.shape[1]:
                raise ValueError(f"outputs of {side} px, training images of {nearest.shape[1]} px")
            kind = f"{run.captions} captions" + (f", {variant}" if variant else "")
            title = f"n = {run.n:,}, {kind}, under {CONDITIONS[condition]}, {side} px"
            yield title, outputs, nearest


def _one_size(sections: Sequence[Section]) -> list[Section]:
    """Smaller pictures enlarged to the size of the largest, each pixel repeated."""
    side = max(outputs.shape[1] for _, outputs, _ in sections)

    def enlarged(pixels: Pixels) -> Pixels:
        at = np.arange(side) * pixels.shape[1] // side
        return pixels[:, at][:, :, at]

    return [(title, enlarged(outputs), enlarged(nearest)) for title, outputs, nearest in sections]
