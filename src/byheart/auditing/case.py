"""All that an audit looked at and all that it saw."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from byheart.data.album import Album
from byheart.data.questions import CONDITIONS, Question
from byheart.measure.distance import rmse_matrix
from byheart.measure.judging import KINDS as ALTERED
from byheart.measure.judging import Altered, Judged, Yardsticks
from byheart.measure.reference import Reference

ASKED = (*CONDITIONS, "prompts", "folder")  # the user's own prompts; a folder of finished pictures

Images = UInt8[Tensor, "k 3 s s"]


@dataclass(frozen=True)
class Model:
    """What is known of the model that was asked; of a folder of pictures nothing is."""

    parameters: int
    differences: list[float | None]  # one for each output
    one_step: dict[int, Tensor]  # of each output its one-step picture (3, s, s), where there is one


@dataclass(frozen=True)
class OneSteps:
    of_output: dict[int, float]  # of each one-step picture the distance to its closest image
    of_image: Float[Tensor, " n"]  # of each training image that to its closest one-step picture


@dataclass(frozen=True)
class Case:
    """All that was looked at and all that was seen."""

    train: Album
    outputs: Album
    held_out: Album | None
    asked: list[Question]  # of each output
    reference: Reference
    yardsticks: Yardsticks
    judged: Judged
    altered: Altered
    model: Model | None
    seed: int

    @property
    def either(self) -> Tensor:
        """Outputs that are copies, plain or altered."""
        return self.judged.findings.copied | self.altered.found

    @property
    def unseen(self) -> Images:
        return self.reference.images

    @cached_property
    def one_steps(self) -> OneSteps:
        """Distances of the one-step pictures, each compared with all training images once."""
        smallest = torch.full((len(self.train),), torch.inf, dtype=torch.float64)
        of_output = {}
        for k, one in self.model.one_step.items() if self.model else ():
            distances = rmse_matrix(one[None], self.train.pixels)[0]
            of_output[k] = float(distances.min())
            smallest = torch.minimum(smallest, distances)
        return OneSteps(of_output, smallest)


def altered_words(case: Case, k: int) -> str:
    """What output k is besides a plain copy; '' where nothing was found."""
    kind = case.altered.kind[k]
    if kind is None:
        return ""
    if not bool(case.altered.mirrored[k]):
        return ALTERED[kind]
    return "mirrored" if kind == "whole" else f"mirrored, {ALTERED[kind]}"


def copies_of(case: Case) -> list[int]:
    """Of each output that is a copy, plain or altered, the training image it is one of."""
    findings, altered = case.judged.findings, case.altered
    nearest = findings.nearest.where(findings.copied, altered.nearest)
    return nearest[case.either].tolist()


def detector_rows(case: Case) -> list[dict[str, float | None]]:
    """Of each output what the two detectors say; None where one is not defined."""
    model = case.model
    differences = model.differences if model else [None] * len(case.asked)
    return [
        {"noise_difference": one, "one_step_rmse": case.one_steps.of_output.get(k)}
        for k, one in enumerate(differences)
    ]
