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


class Interrupt:
    """Remembers the first signal while a step is being finished; elsewhere it ends the run."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._between_steps = False
        self._heard: dict[int, float] = {}  # when each was heard first

    def hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if now - self._heard.setdefault(number, now) > ECHO:
            os._exit(128 + number)
        if self.signal is None:
            self.signal = number
            if not self._between_steps:
                raise self._stopped("stopped: the same command goes on from what was saved")

    @contextmanager
    def held(self, steps: int, accelerator: Accelerator) -> Iterator[None]:
        """While the body takes its steps a signal waits until `wanted` is asked. Stopped: one came
        during the last of them."""
        self._between_steps = True
        try:
            yield
        finally:
            self._between_steps = False
        if self.wanted(0, accelerator):
            self.stop(steps, steps, accelerator)

    def wanted(self, step: int, accelerator: Accelerator) -> bool:
        """Whether any of the processes was asked to stop. All of them get the same answer."""
        if accelerator.num_processes == 1:
            return self.signal is not None
        if accelerator.device.type != "cpu" and step % AGREE_EVERY:
            return False
        mine = torch.tensor(float(self.signal is not None), device=accelerator.device)
        return bool(accelerator.reduce(mine, "sum"))

    def stop(self, step: int, steps: int, accelerator: Accelerator) -> None:
        """Stopped: once the step is saved, in all processes."""
        accelerator.wait_for_everyone()  # who leaves first ends those that still save
        raise self._stopped(
            f"stopped after step {step} of {steps}, saved: the same command goes on from there"
        )

    def _stopped(self, words: str) -> Stopped:
        return Stopped(words, 128 + (self.signal or signal.SIGTERM))


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Take both signals while the run lasts. Only a program's main thread can."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before: dict[int, Any] = {
        number: signal.signal(number, interrupt.hear) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
