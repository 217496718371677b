"""Several processes as one: started as asked for, and a failure of one is the end of all."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from datetime import timedelta
from itertools import count
from typing import Any

import psutil
import torch

# Of what accelerate can do beyond plain data parallelism: its variable, its name, its flag.
SHARDED = {
    "ACCELERATE_USE_FSDP": ("FSDP", "--use_fsdp"),
    "ACCELERATE_USE_DEEPSPEED": ("DeepSpeed", "--use_deepspeed"),
    "ACCELERATE_USE_MEGATRON_LM": ("Megatron-LM", "--use_megatron_lm"),
    "ACCELERATE_USE_PARALLELISM_CONFIG": ("a parallelism configuration",
                                          "--use_parallelism_config"),
}  # fmt: skip
PR_SET_PDEATHSIG = 1  # Linux: a signal to the child when its parent ends
WAIT = timedelta(seconds=10)  # until a failure is taken for one process's alone
ON_CPU = "ACCELERATE_USE_CPU=true accelerate launch --multi_gpu --num_processes {} --num_machines 1"

_failures = count()


def check_launch() -> None:
    """ValueError: started in a way that this program does not work in."""
    _end_with_launcher()
    for variable, (name, flag) in SHARDED.items():
        if os.environ.get(variable, "").lower() in {"1", "true"}:
            raise ValueError(
                f"accelerate was asked for {name}: every process needs the whole network here; "
                f"launch without {flag}, or with --multi_gpu"
            )
    asked, world = _asked_for(), int(os.environ.get("WORLD_SIZE", "1"))
    if asked is not None and asked != world:
        raise ValueError(
            f"accelerate launch was asked for {asked} processes and started {world}: on a CPU type "
            f"{ON_CPU.format(asked)} train/overfit.py …"
        )


def _launcher() -> list[str]:
    """What was typed after `accelerate launch`, where that started this very process."""
    try:
        words = psutil.Process(os.getppid()).cmdline()
    except psutil.Error:
        return []
    if "launch" not in words or not any("accelerate" in word for word in words):
        return []
    return words[words.index("launch") + 1 :]


def _end_with_launcher() -> None:
    """`accelerate launch` passes no signal on: its end is one, so that nothing runs on unseen."""
    if _launcher() and sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _asked_for() -> int | None:
    """--num_processes of the `accelerate launch` that started this process; None: not told.

    accelerate hands the number on to nobody when it decides for a single process.
    """
    ours = _launcher()
    for word, following in zip(ours, [*ours[1:], ""][: len(ours)], strict=True):
        if word.endswith(".py"):  # what follows is for the script
            return None
        name, _, value = word.partition("=")
        if name in {"--num_processes", "--num-processes"}:
            number = value or following
            return int(number) if number.isdecimal() else None
    return None


def settled(words: str, code: int) -> str | None:
    """What this process should say of its failure, None where the first one says it.

    Where the others did not fail they wait for this one, and with it all must end: the launcher
    ends those whose fellow ended.
    """
    said, together = shared_failure(words)
    if not together:
        print(f"byheart: {said}", file=sys.stderr, flush=True)
        os._exit(code)
    return said


def wait_for_all() -> None:
    """Until every process has come here, where there are several."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()


def shared_failure(words: str) -> tuple[str | None, bool]:
    """What to say, None where the first process says the same; and whether all of them failed, so
    that they may go on together."""
    rank = int(os.environ.get("RANK", "0"))
    together = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not together or torch.distributed.get_world_size() == 1:
        return (words if rank == 0 else None), True
    number = next(_failures)  # all processes that go on have failed equally often
    store: Any = torch.distributed.distributed_c10d._get_default_store()
    keys = [f"byheart/{number}/{k}" for k in range(torch.distributed.get_world_size())]
    mine = f"process {rank}: {words}"
    try:
        store.set(keys[rank], words)
        store.wait(keys, WAIT)
        first = store.get(keys[0]).decode()
    except RuntimeError:  # timed out, or the store is gone with the first process
        return mine, False
    return (words if rank == 0 else None if words == first else mine), True
