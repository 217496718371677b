"""Configurations, a training of seconds, and processes in name only, for the tests of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from byheart.config import Config, read
from byheart.data.codec import PatchCodec
from byheart.model.conditioning import Conditioning
from byheart.model.fit import State, Step, fit, start
from byheart.model.objective import build_schedule
from byheart.model.sample import Conditions
from byheart.model.unet import build_unet
from support import processes
from support.composing import tree

SHAPE = (12, 8, 8)  # of the latents of 16 px pictures in patches of 2
# A UNet of the presets' shape that learns in seconds, for such latents.
NARROW = (
    "unet.widths=[8,8,16,16]", "unet.heads=[1,1,1,1]", "unet.groups=4",
    "unet.cross_attention_dim=8", "text=hash", "images.size=16", "codec.patch=2",
)  # fmt: skip


def compose(*typed: str) -> Config:
    """The configuration a command line would give."""
    return read(tree(*typed))


def narrow(*typed: str) -> Config:
    """The same with a UNet for tests."""
    return compose(*NARROW, *typed)


class Process(processes.Process):
    """`gather` notes what it is given and answers with what all had, as far as that is known."""

    device = property(lambda self: torch.device("cpu"))

    def __init__(self, index: int, world: int, of_all: list[Tensor] | None = None) -> None:
        super().__init__(index, world)
        self.of_all = of_all
        self.given: list[Tensor] = []

    def autocast(self, *_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def gather(self, tensor: Tensor) -> Tensor:
        self.given.append(tensor)
        return torch.cat(self.of_all or [tensor] * self.world)


class Training:
    """Random pictures, one caption, and a UNet that begins the same every time."""

    def __init__(self, config: Config, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        draws = torch.Generator().manual_seed(5)
        pictures = torch.randint(
            0, 256, (config.n_images, 3, 16, 16), generator=draws, dtype=torch.uint8
        )
        self.latents = PatchCodec(2).encode(pictures)
        rows = torch.randn(2, 4, 8, generator=draws)
        rows[0] = 0
        of_image = torch.ones(config.n_images, dtype=torch.long)
        self.conditioning = Conditioning(rows, of_image, None)
        self.schedule = build_schedule(config)
        self.given = Conditions(self.schedule, rows, SHAPE)

    def begin(self, seed: int = 0) -> State:
        return start(build_unet(self.config.unet, *SHAPE[:2], 8, seed), self.config)

    def steps(self, state: State) -> Iterator[Step]:
        return fit(
            state, self.latents, self.conditioning, self.schedule, self.config, self.accelerator
        )

    def finished(self) -> State:
        state = self.begin()
        for _ in self.steps(state):
            pass
        return state


Train = Callable[[Config], Training]


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
