"""Several processes in one: threads that meet where processes would."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar
from unittest.mock import patch

from accelerate import Accelerator

from byheart.runtime import processes as sharing

Result = TypeVar("Result")


class Process(Accelerator):
    """Process `index` of `world`, in name only."""

    num_processes = property(lambda self: self.world)
    process_index = property(lambda self: self.index)
    is_main_process = property(lambda self: self.index == 0)

    def __init__(self, index: int = 0, world: int = 1) -> None:
        self.index, self.world = index, world


def together(world: int, work: Callable[[Process], Result]) -> list[Result]:
    """What `work` gives each of `world` processes. What they gather is handed on as bytes, and the
    lists of all of them, one after the other, come back: accelerate's `gather_object`."""
    meeting, here = threading.Barrier(world, timeout=60), threading.local()
    handed_in: list[bytes] = [b""] * world

    def gather(own: list[Any]) -> list[Any]:
        handed_in[here.index] = pickle.dumps(own)
        meeting.wait()
        everyone = [item for part in handed_in for item in pickle.loads(part)]
        meeting.wait()  # nobody hands in the next before all have read this
        return everyone

    def one(index: int) -> Result:
        here.index = index
        try:
            return work(Process(index, world))
        except BaseException:
            meeting.abort()
            raise

    with patch.object(sharing, "gather_object", gather), ThreadPoolExecutor(world) as threads:
        return list(threads.map(one, range(world)))
