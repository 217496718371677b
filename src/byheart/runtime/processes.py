"""Several processes as one: started as asked for, work dealt out among them, one failure the end of
all of them, and too little memory no failure yet."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from datetime import timedelta
from importlib.util import find_spec
from itertools import count
from typing import Any, TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list, gather_object
from torch import Tensor

from byheart.config import Config
from byheart.runtime.errors import say
from byheart.runtime.files import Run
from byheart.runtime.machine import bf16_pays, cores

# Of what accelerate can do beyond plain data parallelism: its flag, its name.
SHARDED = {
    "use_fsdp": "FSDP",
    "use_deepspeed": "DeepSpeed",
    "use_megatron_lm": "Megatron-LM",
    "use_parallelism_config": "a parallelism configuration",
}
LAUNCHED = "ACCELERATE_MIXED_PRECISION"  # set by every `accelerate launch`
PR_SET_PDEATHSIG = 1  # Linux: a signal to the child when its parent ends
WAIT = timedelta(seconds=10)  # until a failure is taken for one process's alone
PIECE = 2048  # outputs looked at together

Result = TypeVar("Result")
_failures = count()


def _check_launch() -> None:
    """ValueError: started in a way that this program does not work in."""
    if LAUNCHED in os.environ and sys.platform == "linux":
        # `accelerate launch` passes no signal on: its end is one, so that nothing runs on unseen.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    for flag, name in SHARDED.items():
        if os.environ.get(f"ACCELERATE_{flag.upper()}", "").lower() in {"1", "true"}:
            raise ValueError(
                f"accelerate was asked for {name}: every process needs the whole network here; "
                f"launch without --{flag}, or with --multi_gpu"
            )


def accelerator_for(config: Config, run: Run) -> Accelerator:
    """The one object that knows the device and the processes. ValueError: not on this machine, or
    not launched like this."""
    _check_launch()
    if config.tracker != "none" and find_spec(config.tracker) is None:
        raise ValueError(
            f"tracker={config.tracker} is not installed: pip install -e '.[{config.tracker}]'"
        )
    accelerator = Accelerator(
        mixed_precision="bf16" if bf16_pays(config) else "no",
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=run.path,
    )
    # `accelerate launch` gives a process one thread, whatever the machine has.
    asked = 0 if config.threads == "auto" else int(config.threads)
    torch.set_num_threads(asked or max(1, cores() // processes_here(accelerator)))
    return accelerator


def processes_here(accelerator: Accelerator) -> int:
    """How many of the processes share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))


def how_many(accelerator: Accelerator) -> str:
    """Device and number of processes, for people. `accelerate launch --cpu --num_processes 2`
    starts one and tells nobody that there were to be two."""
    number = accelerator.num_processes
    words = f"{accelerator.device.type}, {number} process{'es' * (number > 1)}"
    if number == 1 and accelerator.device.type == "cpu" and LAUNCHED in os.environ:
        words += (
            " (for 2 type ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes 2 "
            "--num_machines 1)"
        )
    return words


def leave_run(accelerator: Accelerator) -> None:
    """Close the trackers and give the memory back; the processes stay together for the next run.

    accelerate's own `end_training` would part them after the first run of a sweep.
    """
    accelerator.wait_for_everyone()
    for tracker in accelerator.trackers:
        tracker.finish()
    accelerator.free_memory()


def leave_group() -> None:
    """After the last run: part the processes, where there were several."""
    if _together():
        torch.distributed.destroy_process_group()


def wait_for_all() -> None:
    """Until every process has come here, where there are several."""
    if _together():
        torch.distributed.barrier()


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def from_first(accelerator: Accelerator, work: Callable[[], Result]) -> Result:
    """What the first process finds, in all of them. ValueError: in all of them as in the first."""
    if accelerator.num_processes == 1:
        return work()
    answer: list[Any] = [None, None]
    if accelerator.is_main_process:
        try:
            answer[0] = work()
        except ValueError as error:
            answer[1] = str(error)
    broadcast_object_list(answer)
    if answer[1] is not None:
        raise ValueError(answer[1])
    return answer[0]


def report_failure(words: str, code: int) -> None:
    """Say what this process failed of, unless the first one says the same.

    Where the others did not fail they wait for this one, and with it all must end: the launcher
    then ends the others.
    """
    rank, first = int(os.environ.get("RANK", "0")), words
    if _together():
        number = next(_failures)  # all processes that go on have failed equally often
        store: Any = torch.distributed.distributed_c10d._get_default_store()
        keys = [f"byheart/{number}/{k}" for k in range(torch.distributed.get_world_size())]
        try:
            store.set(keys[rank], words)
            store.wait(keys, WAIT)
            first = store.get(keys[0]).decode()
            store.set(f"{keys[rank]}/read", "")
            if rank == 0:  # with it the store goes
                store.wait([f"{key}/read" for key in keys], WAIT)
        except RuntimeError:  # timed out, or the store is gone with the first process
            say(f"process {rank}: {words}")
            os._exit(code)
    if rank == 0:
        say(words)
    elif words != first:
        say(f"process {rank}: {words}")


def in_shares(
    work: Callable[[Tensor], Result],
    rows: Tensor,
    accelerator: Accelerator,
    advance: Callable[[int], object] = lambda rows: None,
) -> Result:
    """`work(rows)`, every process doing its part of the rows and all of them getting the whole.

    `work` must treat every row by itself. What it returns is a tensor with one entry per row, or a
    dictionary or dataclass of such. ValueError: no rows.
    """
    if len(rows) == 0:
        raise ValueError("no outputs to look at")
    shares = rows.split(-(-len(rows) // accelerator.num_processes))
    found = []
    for share in shares[accelerator.process_index : accelerator.process_index + 1]:
        for piece in share.split(PIECE):
            found.append(work(piece))
            advance(len(piece))
    return joined(gather_object(found) if accelerator.num_processes > 1 else found)


def in_sets(
    work: Callable[[Tensor], Result],
    sets: Mapping[str, Tensor],
    accelerator: Accelerator,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, Result]:
    """`in_shares` on the rows of all sets at once; the results by the names of the sets."""
    whole = torch.cat(list(sets.values()))
    found = in_shares(work, whole, accelerator, advance)
    places = torch.arange(len(whole)).split([len(rows) for rows in sets.values()])
    return {name: rows_of(found, rows) for name, rows in zip(sets, places, strict=True)}


def rows_of(found: Any, rows: Any) -> Any:
    """The part of a result that belongs to some rows; None stays None."""
    return _merged([found], lambda tensors: tensors[0][rows])


def joined(parts: Sequence[Any]) -> Any:
    """Results for consecutive rows as one; what does not vary with the rows is the first's."""
    return _merged(parts, torch.cat)


def _merged(parts: Sequence[Any], merge: Callable[[list[Tensor]], Tensor]) -> Any:
    first = parts[0]
    if isinstance(first, Tensor):
        return merge([*parts])
    if isinstance(first, dict):
        return {key: _merged([part[key] for part in parts], merge) for key in first}
    if is_dataclass(first) and not isinstance(first, type):
        inner = {f.name: [getattr(part, f.name) for part in parts] for f in fields(first)}
        return replace(first, **{name: _merged(found, merge) for name, found in inner.items()})
    return first


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what went wrong, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def check_room(failure: Exception, samples: int, parts: int, accelerator: Accelerator) -> None:
    """Whether so many samples at once failed for want of memory only, and fewer may do.

    ValueError: a single one did not fit, or there are several processes: they may be in the middle
    of an exchange, and none can begin again alone. Another failure is raised as it is.
    """
    if not out_of_memory(failure):
        raise failure
    if samples == 1:
        raise ValueError(
            "a single sample does not fit into memory: type fit.gradient_checkpointing=true, or a "
            "smaller unet=… or images.size=…"
        ) from failure
    if accelerator.num_processes > 1:
        raise ValueError(
            f"process {accelerator.process_index} is out of memory with {samples} samples at once: "
            f"type fit.accumulate={2 * parts}"
        ) from failure
