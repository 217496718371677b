"""`byheart bench`: from what was typed to the file and the table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from byheart import runs
from byheart.bench import PATIENCE, bench
from byheart.checks import read
from byheart.command import check
from byheart.config import Config, declare
from byheart.machine import accelerator_for
from byheart.outcome import one_line
from byheart.ranks import check_launch

CONFIGS = Path(__file__).resolve().parents[2] / "configs"


def run_bench(words: Sequence[str], folder: Path, whole: bool) -> str:
    """Measure, write <folder>/<device>.json, and return the figures as text.

    ValueError: settings that cannot be, or a package that was installed without its configurations.
    """
    config = _composed(words)
    check_launch()
    run = runs.locate(config)
    accelerator = accelerator_for(config, run)
    if accelerator.num_processes > 1:
        raise ValueError("byheart bench measures one process: type it without accelerate launch")
    found = bench(config, accelerator, run.cache, whole, lambda words: print(words, flush=True))
    device = found["environment"]["device_name"]
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    path = folder / f"{name}-{config.unet.preset}-{config.images.size}px.json"
    runs.write_json(path, found)
    return f"{table(found)}\n\nwritten: {path}"


def _composed(words: Sequence[str]) -> Config:
    if not CONFIGS.is_dir():
        raise ValueError("byheart bench needs the source tree: install it with pip install -e .")
    try:
        check(list(words), CONFIGS)
        declare()
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            return read(compose("overfit", overrides=list(words)))
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(one_line(error)) from error


def table(found: dict[str, Any]) -> str:
    """The figures, a line each."""
    training, memorize, measuring = found["training"], found["memorize"], found["measuring"]
    lines = [
        ("device", found["environment"]["device_name"]),
        ("matrix product", f"{found['peak']['flops_per_second'] / 1e9:,.0f} GFLOP/s: peak"),
        ("training", f"{training['images_per_second']:.1f} images/s, "
                     f"{1000 * training['seconds_per_step']:.0f} ms a step"),
        ("over the bare step", f"{training['overhead']:+.1%}"),
        ("of the peak", f"{training['share_of_peak']:.1%}"),
        *((f"  {name}", f"{1000 * s:.1f} ms") for name, s in found["breakdown"].items()),
        *((f"sampling, {steps} evaluations", f"{rate:.1f} images/s")
          for steps, rate in found["sampling"].items()),
        ("measuring 1,000 outputs", f"{measuring['total']:.0f} s, of which the ledger "
                                    f"{measuring['ledger']:.0f} s"),
        ("one image: all copied", f"after {memorize['copied_seconds']:.1f} s of training"),
        ("one image: RMSE <= 0.02", f"after {memorize['seconds']:.1f} s, "
                                    f"step {memorize['step']}"),
        *((f"example trainers, {name.replace('_', ' ')}",
           f"RMSE {b['rmse']:.3f} after {b['seconds']:.0f} s ({PATIENCE} times ours), "
           f"{b['steps']} steps{', all copied' if b['copied'] else ', not copied'}")
          for name, b in found.get("baseline", {}).items()),
        ("peak memory", f"{max(found['peak_memory_bytes'].values()) / 2**30:.2f} GiB"),
    ]  # fmt: skip
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines)
