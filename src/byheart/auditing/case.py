"""All that an audit looked at and all that it saw."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from jaxtyping import UInt8
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


def altered_words(case: Case, k: int) -> str:
    """What output k is besides a plain copy; '' where nothing was found."""
    kind = case.altered.kind[k]
    if kind is None:
        return ""
    if not bool(case.altered.mirrored[k]):
        return ALTERED[kind]
    return "mirrored" if kind == "whole" else f"mirrored, {ALTERED[kind]}"


def copies_of(case: Case, k: int) -> Iterable[int]:
    """The training image that output k is a copy of, if it is one."""
    if bool(case.judged.findings.copied[k]):
        return [int(case.judged.findings.nearest[k])]
    return [int(case.altered.nearest[k])] if case.altered.kind[k] else []


def detector_rows(case: Case) -> list[dict[str, float | None]]:
    """Of each output what the two detectors say; None where one is not defined."""
    model = case.model
    if model is None:
        return [{"noise_difference": None, "one_step_rmse": None} for _ in case.asked]
    steps = {k: float(rmse_matrix(one[None], case.train.pixels).min())
             for k, one in model.one_step.items()}  # fmt: skip
    return [
        {"noise_difference": one, "one_step_rmse": steps.get(k)}
        for k, one in enumerate(model.differences)
    ]
