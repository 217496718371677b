"""Checkpoints: complete or absent. Written beside, hashed, moved into place; read only if valid."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from byheart.config import Config
from byheart.model.fit import State
from byheart.runtime.errors import short
from byheart.runtime.processes import from_first

MANIFEST = "manifest.json"


class Keeper:
    """Saves a run's state when it is due; the first process writes, the others go on."""

    def __init__(self, folder: Path, config: Config, accelerator: Accelerator) -> None:
        self.folder, self.config, self.main = folder, config, accelerator.is_main_process
        self.saved_at = time.monotonic()

    def keep(self, state: State, at_once: bool = False) -> None:
        """Every `checkpoint.every` steps, every `checkpoint.minutes`, after the last step.

        ValueError: it cannot be written; the checkpoints before it are whole.
        """
        due, last = self.config.checkpoint, state.step == self.config.steps
        waited = time.monotonic() - self.saved_at
        by_steps = due.every > 0 and state.step % due.every == 0
        by_clock = due.minutes > 0 and waited >= 60 * due.minutes
        if self.main and (last or at_once or by_steps or by_clock):
            save(self.folder, state, due.keep, final=last)
            self.saved_at = time.monotonic()


def save(folder: Path, state: State, keep: int, final: bool) -> Path:
    """Write `folder/step-XXXXXXXX` in one move, then prune to the newest `keep`.

    A final checkpoint holds the weights and their average only: nothing is trained after it.
    ValueError: it cannot be written; nothing of it is left, nothing older is gone.
    """
    place = folder / f"step-{state.step:08d}"
    try:
        # What lies there already is damaged, or it would have been resumed from.
        with atomic_folder(place) as part:
            threads = {"threads": str(torch.get_num_threads())}
            _save(part / "unet.safetensors", dict(state.unet.state_dict()), threads)
            if state.ema is not None:
                names = [name for name, _ in state.unet.named_parameters()]
                averages = dict(zip(names, state.ema.shadow_params, strict=True))
                _save(part / "ema.safetensors", averages)
            if not final:
                _save(part / "optimizer.safetensors", _optimizer_tensors(state))
            hashes = {f.name: _sha256(f) for f in sorted(part.iterdir())}
            manifest = {"step": state.step, "final": final, "sha256": hashes}
            (part / MANIFEST).write_text(json.dumps(manifest, indent=2))
            _sync(part / MANIFEST)
            _sync(part)
        _sync(folder)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{place} cannot be written ({short(error)}): the checkpoints before "
            "it are whole; make room and type the same command"
        ) from error
    prune(folder, keep, place)
    return place


@contextmanager
def atomic_folder(place: Path) -> Iterator[Path]:
    """A folder to write into; on success it takes `place`'s place in one move, else it vanishes."""
    part = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        part.mkdir(parents=True)
        yield part
        shutil.rmtree(place, ignore_errors=True)
        os.replace(part, place)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def prune(folder: Path, keep: int, newest: Path | None = None) -> None:
    """Remove all but the newest `keep`, `newest` being the last of them."""
    places = sorted(folder.glob("step-*"))
    # What is newer is damaged, or it would have been resumed from.
    end = len(places) if newest is None else places.index(newest) + 1
    for old in (*places[: max(0, end - keep)], *places[end:]):
        shutil.rmtree(old)


def resumable(folder: Path, accelerator: Accelerator) -> tuple[Path | None, list[str]]:
    """`newest_valid` as the first process finds it. The damaged ones are removed: they would count
    among those that are kept."""
    place, damaged = from_first(accelerator, lambda: newest_valid(folder))
    if accelerator.is_main_process:
        for fault in damaged:
            shutil.rmtree(folder / fault.split(":")[0], ignore_errors=True)
    if place is not None and not place.is_dir():
        raise ValueError(f"{place} is not there on every machine: type root=<a folder they share>")
    return place, damaged


def newest_valid(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest checkpoint whose files all have their recorded hash, and what ails newer ones."""
    damaged: list[str] = []
    for place in sorted(folder.glob("step-*"), reverse=True):
        fault = _fault(place)
        if fault is None:
            return place, damaged
        damaged.append(f"{place.name}: {fault}")
    return None, damaged


def load(place: Path, state: State) -> int | None:
    """Restore `state` in place from a valid checkpoint of the same architecture.

    Returns the threads it was computed with. None: version 0.1 did not write them down.

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
    with safe_open(place / "unet.safetensors", "pt") as file:
        threads = (file.metadata() or {}).get("threads")
    return None if threads is None else int(threads)


def _save(path: Path, tensors: dict[str, Tensor], said: dict[str, str] | None = None) -> None:
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path, said)
    _sync(path)


def _sync(path: Path) -> None:
    """Onto the disk, a folder's list of names too: only then is what it replaces superfluous."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _optimizer_tensors(state: State) -> dict[str, Tensor]:
    """Moments and step counts, by the parameter's name, and the steps left out."""
    tensors = {f"left_out/{name}": count for name, count in vars(state.left_out).items()}
    for name, weight in state.unet.named_parameters():
        for key, value in state.optimizer.state[weight].items():
            tensors[f"{key}/{name}"] = torch.as_tensor(value)
    return tensors


def _load_optimizer(tensors: dict[str, Tensor], state: State) -> None:
    for name, count in vars(state.left_out).items():
        count.copy_(tensors[f"left_out/{name}"])
    weights = dict(state.unet.named_parameters())
    for key, value in tensors.items():  # none of a weight's before its first step
        what, name = key.split("/", 1)
        if what == "left_out":
            continue
        weight = weights[name]
        # The step count stays on the CPU unless the optimizer is fused on a GPU.
        state.optimizer.state[weight][what] = value.to(weight.device)


def _fault(place: Path) -> str | None:
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        recorded = dict(manifest["sha256"])
        name = f"step-{manifest['step']:08d}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"manifest unreadable ({type(error).__name__})"
    # Nothing hashes the manifest itself; what it says twice must agree.
    if name != place.name or "final" not in manifest:
        return "manifest is damaged"
    for file, digest in recorded.items():
        try:
            if not (place / file).is_file():
                return f"{file} is missing"
            if _sha256(place / file) != digest:
                return f"{file} is damaged"
        except OSError as error:  # a bad sector, a right withdrawn
            return f"{file} cannot be read ({error.strerror})"
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
