"""Checkpoints: complete or absent. Written beside, hashed, moved into place; read only if valid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor

from byheart.config import Config, total_steps
from byheart.model.fit import State

MANIFEST = "manifest.json"


def save(folder: Path, state: State, keep: int, final: bool) -> Path:
    """Write `folder/step-XXXXXXXX` in one move, then prune to the newest `keep`.

    A final checkpoint holds the weights and their average only: nothing is trained after it.
    """
    place = folder / f"step-{state.step:08d}"
    part = folder / f".{place.name}.{os.getpid()}.part"
    for left in folder.glob(".step-*.part"):  # by a process that was killed
        shutil.rmtree(left, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        _save(part / "unet.safetensors", dict(state.unet.state_dict()))
        if state.ema is not None:
            names = [name for name, _ in state.unet.named_parameters()]
            _save(part / "ema.safetensors", dict(zip(names, state.ema.shadow_params, strict=True)))
        if not final:
            _save(part / "optimizer.safetensors", _optimizer_tensors(state))
        hashes = {f.name: _sha256(f) for f in sorted(part.iterdir())}
        manifest = {"step": state.step, "final": final, "sha256": hashes}
        (part / MANIFEST).write_text(json.dumps(manifest, indent=2))
        if place.exists():  # damaged, or it would have been resumed from
            shutil.rmtree(place)
        os.replace(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    places = sorted(folder.glob("step-*"))
    newest = places.index(place) + 1  # what is newer is damaged, or it would have been resumed from
    for old in (*places[: max(0, newest - keep)], *places[newest:]):
        shutil.rmtree(old)
    return place


def save_if_due(folder: Path, state: State, config: Config, accelerator: Accelerator) -> None:
    """Every `checkpoint.every` steps and after the last; the first process writes."""
    every, last = config.checkpoint.every, state.step == total_steps(config)
    if last or (every and state.step % every == 0):
        if accelerator.is_main_process:
            save(folder, state, config.checkpoint.keep, final=last)
        accelerator.wait_for_everyone()


def newest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files all have their recorded hash, and what ails newer ones."""
    damaged: list[str] = []
    for place in sorted(folder.glob("step-*"), reverse=True):
        fault = _fault(place)
        if fault is None:
            return place, damaged
        damaged.append(f"{place.name}: {fault}")
    return None, damaged


def load(place: Path, state: State) -> None:
    """Restore `state` in place from a valid checkpoint of the same architecture.

    Raises:
        ValueError: weights of another architecture.
    """
    manifest = json.loads((place / MANIFEST).read_text())
    weights = load_file(place / "unet.safetensors")
    own = state.unet.state_dict()
    if {k: v.shape for k, v in weights.items()} != {k: v.shape for k, v in own.items()}:
        raise ValueError(f"{place} holds a UNet of another architecture: move it away")
    state.unet.load_state_dict(weights)
    if state.ema is not None:
        averages = load_file(place / "ema.safetensors")
        names = [name for name, _ in state.unet.named_parameters()]
        for name, shadow in zip(names, state.ema.shadow_params, strict=True):
            shadow.copy_(averages[name])
        state.ema.optimization_step = manifest["step"]
    if not manifest["final"]:
        _load_optimizer(load_file(place / "optimizer.safetensors"), state)
    state.step = manifest["step"]


def _save(path: Path, tensors: dict[str, Tensor]) -> None:
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)
    with path.open("rb") as handle:
        os.fsync(handle.fileno())


def _optimizer_tensors(state: State) -> dict[str, Tensor]:
    """AdamW's moments and step counts, by the parameter's name."""
    tensors = {}
    for name, weight in state.unet.named_parameters():
        for key, value in state.optimizer.state[weight].items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value)
    return tensors


def _load_optimizer(tensors: dict[str, Tensor], state: State) -> None:
    for name, weight in state.unet.named_parameters():
        moments: dict[str, Any] = {
            key: tensors[f"{key}/{name}"] for key in ("step", "exp_avg", "exp_avg_sq")
        }
        on_device = {k: v.to(weight.device) for k, v in moments.items()}
        # The step count stays on the CPU unless the optimizer is fused on a GPU.
        if weight.device.type == "cpu":
            on_device["step"] = moments["step"].cpu()
        state.optimizer.state[weight] = on_device


def _fault(place: Path) -> str | None:
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        recorded: dict[str, str] = manifest["sha256"]
        name = f"step-{manifest['step']:08d}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"manifest unreadable ({type(error).__name__})"
    # Nothing hashes the manifest itself; what it says twice must agree.
    if name != place.name or "final" not in manifest:
        return "manifest is damaged"
    for file, digest in recorded.items():
        if not (place / file).is_file():
            return f"{file} is missing"
        if _sha256(place / file) != digest:
            return f"{file} is damaged"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
