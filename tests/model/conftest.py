"""What the tests of the model wing share: configurations, a training of seconds, fake processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from omegaconf import DictConfig
from torch import Tensor

from byheart.config import Config, declare, read
from byheart.data.codec import PatchCodec
from byheart.model.conditioning import Conditioning
from byheart.model.fit import State, Step, fit, start
from byheart.model.objective import build_schedule
from byheart.model.unet import build_unet

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
# A UNet of the presets' shape that learns in seconds, 16 px pictures, 12 x 8 x 8 latents.
NARROW = (
    "unet.widths=[8,8,16,16]", "unet.heads=[1,1,1,1]", "unet.groups=4",
    "unet.cross_attention_dim=8", "text=hash", "images.size=16", "codec.patch=2",
)  # fmt: skip


@cache
def _composed(*overrides: str) -> DictConfig:
    declare()
    with hydra.initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra.compose("overfit", list(overrides))


def _compose(*overrides: str) -> Config:
    return read(_composed(*overrides))


@pytest.fixture
def compose() -> Callable[..., Config]:
    """The configuration a command line would give."""
    return _compose


@pytest.fixture
def narrow() -> Callable[..., Config]:
    """The same with a UNet for tests."""
    return lambda *overrides: _compose(*NARROW, *overrides)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """A second one gains nothing for networks so narrow, and waits long on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, mixed_precision="no")
    AcceleratorState._reset_state(reset_partial_state=True)


class Process(Accelerator):
    """Process `index` of `world`, in name only. `gather` notes what it is given and answers with
    what all of them had, as far as that is known."""

    num_processes = property(lambda self: self.world)
    process_index = property(lambda self: self.index)
    is_main_process = property(lambda self: self.index == 0)
    device = property(lambda self: torch.device("cpu"))

    def __init__(self, index: int, world: int, of_all: list[Tensor] | None = None) -> None:
        self.index, self.world, self.of_all = index, world, of_all
        self.given: list[Tensor] = []

    def autocast(self, *_: Any) -> AbstractContextManager[None]:
        return nullcontext()

    def wait_for_everyone(self) -> None: ...

    def gather(self, tensor: Tensor) -> Tensor:
        self.given.append(tensor)
        return torch.cat(self.of_all or [tensor] * self.world)


@pytest.fixture
def process() -> type[Process]:
    return Process


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

    def begin(self, seed: int = 0) -> State:
        return start(build_unet(self.config.unet, 12, 8, 8, seed), self.config)

    def steps(self, state: State) -> Iterator[Step]:
        return fit(
            state, self.latents, self.conditioning, self.schedule, self.config, self.accelerator
        )

    def finished(self) -> State:
        state = self.begin()
        for _ in self.steps(state):
            pass
        return state


@pytest.fixture
def training(accelerator: Accelerator) -> Callable[[Config], Training]:
    return lambda config: Training(config, accelerator)
