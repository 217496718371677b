"""All that an audit looked at and all that it saw."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from byheart.auditing.judging import PIECE, Altered, Calibration, Images, Judged, copies_of
from byheart.auditing.pictures import Album
from byheart.data.prompts import Question
from byheart.measure.copying import Reference
from byheart.measure.distance import rmse_matrix

if TYPE_CHECKING:  # diffusers takes seconds to import, and folders do without it
    from byheart.auditing.inside import Shown

SMALLEST = 0.35  # of a side: about the finest windows of the search "inside", 12 of 34
# Real pictures, trained on or held out. Of sound photographs, with nothing held out, half are
# called broken beside 5 training photographs, 35 % beside 10, 22 % beside 16 (LOG.md).
ENOUGH = 10


@dataclass(frozen=True)
class Model:
    """What is known of the model that was asked; of a folder of pictures nothing is."""

    parameters: int
    differences: list[float | None]  # one for each output
    one_step: dict[int, Tensor]  # of each output its one-step picture (3, s, s), where there is one
    shown: Shown | None  # to show it pictures


@dataclass(frozen=True)
class Comparison:
    train: Album
    outputs: Album
    held_out: Album | None  # as it was given
    asked: list[Question]  # of each output
    reference: Reference
    calibration: Calibration
    judged: Judged
    altered: Altered
    model: Model | None
    seed: int

    @property
    def either(self) -> Tensor:
        """Outputs that are copies, plain or altered."""
        return self.judged.findings.copied | self.altered.found

    @property
    def copies(self) -> list[int]:
        """Of each of them the training image it is a copy of."""
        return copies_of(self.judged.findings, self.altered)

    @property
    def tells_kinds(self) -> bool:
        """Whether there are real pictures enough, and of this kind, to tell broken from novel."""
        return len(self.unseen) + len(self.train.distinct) >= ENOUGH

    @property
    def unseen(self) -> Images:
        return self.reference.images

    @cached_property
    def one_steps(self) -> tuple[dict[int, float], Float[Tensor, " n"]]:
        """Of each one-step picture the distance to its closest training image, and of each training
        image that to its closest one-step picture."""
        smallest = torch.full((len(self.train),), torch.inf, dtype=torch.float64)
        of_output: dict[int, float] = {}
        one_step = self.model.one_step if self.model else {}
        numbers = list(one_step)
        for first in range(0, len(numbers), PIECE):
            part = numbers[first : first + PIECE]
            distances = rmse_matrix(torch.stack([one_step[k] for k in part]), self.train.pixels)
            of_output |= dict(zip(part, distances.min(1).values.tolist(), strict=True))
            smallest = torch.minimum(smallest, distances.min(0).values)
        return of_output, smallest

    @property
    def detectors(self) -> dict[str, list[float | None]]:
        """What the two detectors say of each output; None where one is not defined."""
        count, (of_output, _) = len(self.asked), self.one_steps
        return {
            "noise_difference": self.model.differences if self.model else [None] * count,
            "one_step_rmse": [of_output.get(k) for k in range(count)],
        }


# What a search is called, beside the verdict; after the names in `Calibration.tolerance`.
SEARCHED = {
    "whole": "recoloured or mirrored",
    "view": "turned by 90°, 180° or 270°, upside down, negative",
    "crop": "cropped to half the side",
    "shift": "shifted",
    "part": "a quarter of the picture",
    "descriptor": "by the descriptor",
    "inside": f"pasted in at {SMALLEST:.0%} of the side and more",
}
SEEN = {
    "squashed": "squashed to a square",
    "the square": "another square along the long side",
    "on black": "on black",
    "with its transparency": "with its transparency dropped",
    "as stored": "as it is stored, without EXIF's turn",
}


def scope(compared: Comparison) -> dict[str, list[str]]:
    """What was searched and what was not, from what ran."""
    names, n = compared.train.views.names, len(compared.train)
    found = ["the centred square as it is"]
    found += [words for key, words in SEARCHED.items() if key in compared.calibration.tolerance]
    missed = [words for key, words in SEARCHED.items() if key not in compared.calibration.tolerance]
    missed = [f"{words} (--descriptor)" if "descriptor" in words else words for words in missed]
    for part, words in SEEN.items():
        of = compared.train.views.of[[k for k, name in enumerate(names) if part in name]]
        if count := len(of.unique()):
            which = "all" if count == n else f"{count:,} of {n:,}"
            found.append(f"{words} ({which} training pictures, where it differs)")
    missed += [
        "turned by another angle",
        "two such changes at once",
        f"pieces below {SMALLEST:.0%} of the side",
        "the same thing drawn or photographed anew",
    ]
    return {"searched": found, "not_searched": missed}


def closest_outputs(compared: Comparison) -> list[tuple[int, float, bool]]:
    """Of each training image the output to show beside it, its distance, and whether that is a
    plain copy: the best copy of the image, else the closest copy of a near-duplicate, else the
    closest output of all."""
    found, judged, group = compared.judged.findings, compared.judged, compared.train.group
    own: dict[int, list[int]] = defaultdict(list)
    of_group: dict[int, list[int]] = defaultdict(list)
    for k in found.copied.nonzero()[:, 0].tolist():
        t = int(found.nearest[k])
        own[t].append(k)
        of_group[group[t]].append(k)
    rows = []
    for t, head in enumerate(group):
        k, rmse = int(judged.output[t]), float(judged.rmse[t])
        copies = of_group[head]
        if own[t]:
            rmse, k = min((float(found.rmse[k]), k) for k in own[t])
        elif copies and k not in copies:
            nearest = rmse_matrix(compared.train.pixels[t : t + 1], compared.outputs.pixels[copies])
            k, rmse = copies[int(nearest.argmin())], float(nearest.min())
        rows.append((k, rmse, bool(copies)))
    return rows


def altered_outputs(compared: Comparison) -> list[int | None]:
    """Of each training image the output that is its best altered copy, or else one of a
    near-duplicate's; None where there is none."""
    altered, group = compared.altered, compared.train.group
    own: dict[int, int] = {}
    of_group: dict[int, int] = {}
    for k in altered.rho.argsort(stable=True).tolist():
        if altered.kind[k]:
            t = int(altered.nearest[k])
            own.setdefault(t, k)
            of_group.setdefault(group[t], k)
    return [own.get(t, of_group.get(head)) for t, head in enumerate(group)]
