"""What the tests of the model wing share: an accelerator, and a training of seconds on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support.training import Train, Training


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    AcceleratorState._reset_state(reset_partial_state=True)
    yield Accelerator(cpu=True, mixed_precision="no")
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def training(accelerator: Accelerator) -> Train:
    return lambda config: Training(config, accelerator)
