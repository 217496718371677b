"""From the settings to the file of figures and their table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from byheart.bench.memorize import CLOSE, PATIENCE, baseline, memorize
from byheart.bench.speed import (
    Bench,
    audit_seconds,
    breakdown,
    measuring,
    memory,
    sampling,
    startup,
    training,
)
from byheart.experiment.prepare import prepare
from byheart.model.unet import parameters
from byheart.runtime import files as runs
from byheart.runtime.command import typed
from byheart.runtime.machine import environment, peak_memory_bytes
from byheart.runtime.processes import accelerator_for


def run_bench(words: Sequence[str], folder: Path, asked: Sequence[str]) -> str:
    """Measure, write <folder>/<device>.json, and return the figures as text.

    asked: names of the parts (`byheart bench --only`). ValueError: settings that cannot be, or a
    package that was installed without its configurations.
    """
    if "baseline" in asked and "memorize" not in asked:
        raise ValueError("--only baseline needs memorize beside it: its time is what it gets")
    config = typed(words)
    run = runs.locate(config)
    accelerator = accelerator_for(config, run)
    if accelerator.num_processes > 1:
        raise ValueError("byheart bench measures one process: type it without accelerate launch")
    here = Bench(prepare(config, run.cache, accelerator), accelerator)
    found = _measured(here, run.cache, asked)
    device = found["environment"]["device_name"]
    name = re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-")
    path = folder / f"{name}-{config.unet.preset}-{config.images.size}px.json"
    runs.write_json(path, found)
    return f"{table(found)}\n\nwritten: {path}"


def _measured(here: Bench, cache: Path, asked: Sequence[str]) -> dict[str, Any]:
    """What stands in the file. The baseline takes ten times as long as all the rest."""
    config = here.setup.config
    settings = {
        "unet": config.unet.preset, "image_size": config.images.size, "codec": config.codec.kind,
        "patch": config.codec.patch, "batch": config.fit.batch, "n_images": config.n_images,
        "source": config.images.source, "steps": config.budget.steps,
    }  # fmt: skip
    found: dict[str, Any] = {"settings": settings, "parameters": parameters(here.unet())}
    for name, measure in (
        ("startup", startup),
        ("training", partial(training, here)),
        ("breakdown", partial(breakdown, here)),
        ("memory", partial(memory, here)),
        ("sampling", partial(sampling, here)),
        ("measuring", partial(measuring, here, cache)),
        ("memorize", partial(memorize, here)),
        ("audit", audit_seconds),
    ):
        if name in asked:
            print(f"measuring: {name}", flush=True)
            found[name] = measure()
    if "baseline" in asked:
        ours = found["memorize"]["seconds"]
        if ours is None:
            raise ValueError(
                f"after {config.budget.steps} steps the worst output is still "
                f"{found['memorize']['rmse']:.3f} off, above {CLOSE}, so the baseline has nothing "
                "to be measured against: type a larger budget.steps"
            )
        found["baseline"] = {}
        seconds = PATIENCE * ours
        for patch in (4, 2, 1):
            words = f"the example trainers' recipe, patch {patch}, {seconds:.0f} s"
            print(f"measuring: {words}", flush=True)
            found["baseline"][f"patch_{patch}"] = baseline(here, patch, seconds)
    found["peak_memory_bytes"] = peak_memory_bytes(here.device)
    return found | {"environment": environment(here.accelerator, [])}


def table(found: dict[str, Any]) -> str:
    """The figures, a line each."""
    lines = [("device", found["environment"]["device_name"])]
    started = found.get("startup", {})
    for name, seconds in started.items():
        share = seconds / started["import torch"]
        lines += [(name, f"{seconds:.2f} s, {share:.2f} of importing torch")]
    if training := found.get("training"):
        lines += [
            ("training", f"{training['images_per_second']:.1f} images/s, "
                         f"{1000 * training['seconds_per_step']:.0f} ms a step"),
            ("over the bare step", f"{training['overhead']:+.1%}"),
            ("matrix product", f"{training['peak_flops_per_second'] / 1e9:,.0f} GFLOP/s in "
                               f"{training['precision']}: the peak"),
            ("of the peak", f"{training['share_of_peak']:.1%}"),
        ]  # fmt: skip
    parts = found.get("breakdown", {})
    for name, seconds in parts.items():
        share = seconds / sum(parts.values())
        lines += [(f"  {name}", f"{1000 * seconds:.1f} ms, {share:.0%} of the step")]
    if memory := found.get("memory"):
        lines += [("weights, gradients, optimizer", f"{memory['state_bytes'] / 2**30:.1f} GiB")]
        for card, (plain, checkpointing) in memory["samples_at_once"].items():
            lines += [(f"  {card}", f"{plain} samples at once, {checkpointing} with gradient "
                                    "checkpointing (expected)")]  # fmt: skip
    for steps, rate in found.get("sampling", {}).items():
        lines += [(f"sampling, {steps} evaluations", f"{rate:.1f} images/s")]
    if measuring := found.get("measuring"):
        words = ", ".join(f"{name} {took:.0f}" for name, took in measuring.items())
        lines += [("1,000 outputs measured against 10,000 images", f"{words} s")]
    if memorize := found.get("memorize"):
        lines += [
            ("one image: all copied", _after(memorize["copied_seconds"], memorize)),
            ("one image: RMSE <= 0.02", _after(memorize["seconds"], memorize)),
        ]
    if audited := found.get("audit"):
        words = f"{audited['outputs']:,} outputs against {audited['images']:,} images"
        lines += [("audit", f"{audited['seconds']:.0f} s for {words} of {audited['side']} px, "
                            f"compared at {audited['size']} px")]  # fmt: skip
    for name, other in found.get("baseline", {}).items():
        end = f"RMSE {other['rmse']:.3f} after {other['seconds']:.0f} s ({PATIENCE} times ours)"
        copied = "all copied" if other["copied"] else "not copied"
        lines += [(f"example trainers, {name.replace('_', ' ')}",
                   f"{end}, {other['steps']} steps, {copied}")]  # fmt: skip
    peak = max(found["peak_memory_bytes"].values()) / 2**30
    lines += [("peak memory", f"{peak:.2f} GiB")]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:{width}}  {value}" for name, value in lines)


def _after(seconds: float | None, memorize: dict[str, Any]) -> str:
    if seconds is None:
        return f"not after {memorize['step']} steps: RMSE {memorize['rmse']:.3f}"
    return f"after {seconds:.1f} s of training"
