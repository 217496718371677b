"""A run's set-up made by hand, with a network that only its size is known of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from byheart.config import Config
from byheart.data.codec import PatchCodec
from byheart.data.images import ImageSet
from byheart.data.prompts import Question
from byheart.experiment.prepare import Setup
from byheart.measure.copying import Reference
from byheart.measure.kinds import reference
from byheart.model.conditioning import training_captions
from byheart.model.objective import build_schedule
from byheart.model.sample import Conditions


def against(held_out: Tensor, distance: float, apart: float = 0.0) -> Reference:
    """A reference with this distance and spread; with a spread of 0 only what is close counts."""
    mean = torch.zeros(held_out.shape[1:], dtype=torch.float64)
    return Reference(held_out, distance, apart, (), {}, mean, "")


def setup_of(
    config: Config,
    images: ImageSet,
    asked: Sequence[Question] = (),
    against: Reference | None = None,
    vectors: Tensor | None = None,
    unet: Any = None,
    parameters: int = 1234,
) -> Setup:
    """vectors: of the empty prompt and of the questions' distinct ones, in this order."""
    codec = PatchCodec(config.codec.patch)
    latents = codec.encode(images.train)
    shape = (latents.shape[1], latents.shape[2], latents.shape[3])
    texts = tuple(dict.fromkeys(["", *(q.prompt for q in asked)]))
    if vectors is None:
        vectors = torch.zeros(len(texts), 2, 4)
    if unet is None:
        size = torch.nn.Parameter(torch.empty(parameters, device="meta"))
        unet = torch.nn.ParameterList([size])
    return Setup(
        config, images, against or reference(images.held_out, "held out"), codec, latents,
        training_captions(config.captions, images.train_captions), [*asked], texts,
        Conditions(build_schedule(config), vectors, shape), unet, torch.device("cpu"),
    )  # fmt: skip
