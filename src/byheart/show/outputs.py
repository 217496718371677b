"""What a run made, read back from outputs.csv and outputs.npz. No torch here."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from byheart.show.figures import Pixels

PIXELS = "outputs.npz"  # large: may be taken away, and all but pictures is still drawn


@dataclass(frozen=True)
class Outputs:
    """The outputs of a run's headline weights."""

    rows: list[dict[str, str]]  # of outputs.csv
    pixels: Pixels  # one for each row
    train: Pixels  # the training images that are the nearest of some output
    place: dict[int, int]  # of a training image's number among them

    def nearest(self, chosen: Sequence[int]) -> Pixels:
        """The nearest training image of each of these rows."""
        return self.train[[self.place[int(self.rows[k]["nearest_index"])] for k in chosen]]


def read_outputs(path: Path, headline: str) -> Outputs:
    """Of the run in a folder. FileNotFoundError: it left none, or they were taken away."""
    with (path / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if row["weights"] == headline]
    with np.load(path / PIXELS, allow_pickle=False) as arrays:
        place = {int(index): k for k, index in enumerate(arrays["train_index"])}
        found = Outputs(rows, arrays["outputs"], arrays["train"], place)
    if len(found.pixels) != len(rows):
        raise ValueError(
            f"outputs.csv has {len(rows)} rows, outputs.npz {len(found.pixels)} outputs"
        )
    return found
