"""SIGINT and SIGTERM: finish the step, save, and say so. A second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator

# A terminal sends its signal to every process of the group, and a launcher passes one on, maybe as
# another and later: a second wish is the same signal once more, after this many seconds.
ECHO = 1.0
AGREE_EVERY = 10  # steps between two looks at a GPU's other processes, each of which makes it wait


class Stopped(KeyboardInterrupt):
    """The run was asked to stop and has saved what it had. Its message says where to go on."""

    def __init__(self, words: str, code: int) -> None:
        super().__init__(words)
        self.code = code  # 128 + the signal's number, as a shell has it


class Patience:
    """Remembers the first signal while a step is being finished; elsewhere it ends the run."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self.training = False
        self._heard: dict[int, float] = {}  # when each was heard first

    def hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._heard.setdefault(number, now) > ECHO:
            os._exit(128 + number)
        if self.signal is None:
            self.signal = number
            if not self.training:
                raise Stopped("stopped: the same command goes on from what was saved",
                              128 + number)  # fmt: skip

    def wanted(self, step: int, accelerator: Accelerator) -> bool:
        """Whether any of the processes was asked to stop. All of them get the same answer."""
        if accelerator.num_processes == 1:
            return self.signal is not None
        if accelerator.device.type != "cpu" and step % AGREE_EVERY:
            return False
        mine = torch.tensor(float(self.signal is not None), device=accelerator.device)
        return bool(accelerator.reduce(mine, "sum"))

    def stop(self, step: int, steps: int) -> Stopped:
        """What to raise once the step is saved."""
        return Stopped(
            f"stopped after step {step} of {steps}, saved: the same command goes on from there",
            128 + (self.signal or signal.SIGTERM),
        )


@contextmanager
def patient() -> Iterator[Patience]:
    """Take both signals while the run lasts. Only a program's main thread can."""
    patience = Patience()
    if threading.current_thread() is not threading.main_thread():
        yield patience
        return
    before: dict[int, Any] = {
        number: signal.signal(number, patience.hear) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield patience
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
