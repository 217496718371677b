"""Checkpoints are complete or absent, and what is damaged is never loaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from support.training import Process, compose

from byheart.model import checkpoint
from byheart.model.checkpoint import Keeper, load, newest_valid, save
from byheart.model.fit import State, start

FILES = ("unet.safetensors", "ema.safetensors", "optimizer.safetensors", "manifest.json")


def fresh() -> State:
    unet = UNet2DConditionModel(
        sample_size=8, in_channels=3, out_channels=3, block_out_channels=(4,),
        down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), mid_block_type=None,
        layers_per_block=1, norm_num_groups=2, cross_attention_dim=4,
    )  # fmt: skip
    return start(unet, compose("fit.ema=0.5", "budget.steps=20"))


def advance(state: State) -> None:
    """One optimizer step; what it learns is of no interest."""
    weights = list(state.unet.parameters())
    torch.stack([(w - state.step).square().mean() for w in weights]).sum().backward()
    state.optimizer.step()
    state.optimizer.zero_grad()
    if state.ema is not None:
        state.ema.step(weights)
    state.left_out.total += 1
    state.left_out.in_a_row.fill_(state.step % 3)
    state.step += 1


def everything(state: State) -> dict[str, bytes]:
    named = list(state.unet.named_parameters())
    found = {f"raw {n}": w.detach().numpy().tobytes() for n, w in named}
    for (name, weight), shadow in zip(named, state.ema.shadow_params, strict=True):
        found[f"ema {name}"] = shadow.numpy().tobytes()
        for key, value in state.optimizer.state[weight].items():
            found[f"{key} {name}"] = torch.as_tensor(value).numpy().tobytes()
    found |= {f"left out {key}": v.numpy().tobytes() for key, v in vars(state.left_out).items()}
    return found | {"steps": bytes([state.step, state.ema.optimization_step])}


def read_back(folder: Path) -> dict[str, bytes]:
    """The newest one, none being damaged, in a state that knew other things before."""
    place, damaged = newest_valid(folder)
    assert damaged == []
    state = fresh()
    advance(state)
    load(place, state)
    return everything(state)


def saved(folder: Path, state: State, steps: int, keep: int = 9) -> dict[int, dict[str, bytes]]:
    """Checkpoints after each of `steps` steps, and what was true then."""
    truth = {}
    for _ in range(steps):
        advance(state)
        save(folder, state, keep, final=False)
        truth[state.step] = everything(state)
    return truth


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_all_that_training_changes_comes_back_to_the_byte(tmp_path: Path) -> None:
    state = fresh()
    truth = saved(tmp_path, state, 3)
    place, damaged = newest_valid(tmp_path)
    assert place == tmp_path / "step-00000003" and damaged == []
    assert names(place) == sorted(FILES)
    other = fresh()
    advance(other)
    load(place, other)
    assert everything(other) == truth[3]
    advance(other)
    advance(state)
    assert everything(other) == everything(state)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, empty, Path.unlink])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken(
    tmp_path: Path, name: str, damage: Callable[[Path], object]
) -> None:
    state = fresh()
    truth = saved(tmp_path, state, 3)
    damage(tmp_path / "step-00000003" / name)
    place, damaged = newest_valid(tmp_path)
    assert place == tmp_path / "step-00000002"
    assert len(damaged) == 1 and damaged[0].startswith("step-00000003: ")
    assert (name if name != "manifest.json" else "step-00000003") in damaged[0]
    load(place, state)
    assert everything(state) == truth[2]


def test_no_flipped_bit_of_a_manifest_goes_unnoticed(tmp_path: Path) -> None:
    state = fresh()
    advance(state)
    manifest = save(tmp_path, state, keep=1, final=False) / "manifest.json"
    intact = manifest.read_bytes()
    for place in range(len(intact)):
        for bit in (0x01, 0x02, 0x20):  # a digit to another, a letter to its capital
            content = bytearray(intact)
            content[place] ^= bit
            manifest.write_bytes(content)
            valid, damaged = newest_valid(tmp_path)
            assert valid is None and len(damaged) == 1, (place, bit, bytes(content))
    manifest.write_bytes(intact)
    assert newest_valid(tmp_path)[0] is not None


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept_and_the_rest_pruned(tmp_path: Path, keep: int) -> None:
    saved(tmp_path, fresh(), 5, keep)
    assert names(tmp_path) == [f"step-0000000{k}" for k in range(6 - keep, 6)]


def test_a_damaged_newer_one_does_not_crowd_out_what_is_saved_after_it(tmp_path: Path) -> None:
    state = fresh()
    saved(tmp_path, state, 5)
    for place in ("step-00000005", "step-00000004"):
        cut_short(tmp_path / place / "unet.safetensors")
    place, _ = newest_valid(tmp_path)
    assert place.name == "step-00000003"
    load(place, state)
    (tmp_path / "step-00000004").rename(tmp_path / "step-00000007")
    advance(state)
    save(tmp_path, state, keep=1, final=False)
    assert newest_valid(tmp_path) == (tmp_path / "step-00000004", [])


def test_a_damaged_one_of_the_same_step_is_replaced(tmp_path: Path) -> None:
    state = fresh()
    truth = saved(tmp_path, state, 1)
    (tmp_path / "step-00000001" / "ema.safetensors").unlink()
    save(tmp_path, state, keep=1, final=False)
    assert read_back(tmp_path) == truth[1]


class Unplugged(BaseException):
    """Neither an error nor a mistake: the process is asked to die."""


@pytest.mark.parametrize("calls", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError, ValueError), (SafetensorError, ValueError), (Unplugged, Unplugged)],
)
def test_an_interrupted_save_leaves_the_older_one_and_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int, error: type, raised: type
) -> None:
    state = fresh()
    truth = saved(tmp_path, state, 1)
    advance(state)
    written: list[Path] = []

    def interrupted(tensors: Any, path: Path, said: Any) -> None:
        if len(written) == calls:
            path.write_bytes(b"half")
            raise error("no space left")
        written.append(path)
        path.write_bytes(b"")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", interrupted)
        # A mistake of the user's, told in a line; what is no error goes its way.
        with pytest.raises(raised, match="no space left"):
            save(tmp_path, state, keep=1, final=False)
    assert names(tmp_path) == ["step-00000001"]
    assert read_back(tmp_path) == truth[1]


def test_a_final_checkpoint_holds_the_weights_and_their_average_only(tmp_path: Path) -> None:
    state = fresh()
    advance(state)
    place = save(tmp_path, state, keep=1, final=True)
    assert names(place) == ["ema.safetensors", "manifest.json", "unet.safetensors"]
    manifest = json.loads((place / "manifest.json").read_text())
    assert manifest["step"] == 1 and manifest["final"] is True
    other = fresh()
    load(place, other)
    assert other.step == 1
    weights = load_file(place / "unet.safetensors")
    assert all(torch.equal(w, weights[n]) for n, w in other.unet.state_dict().items())
    with other.using("ema") as network:
        average = load_file(place / "ema.safetensors")
        assert all(torch.equal(w, average[n]) for n, w in network.named_parameters())


def test_the_clock_and_a_wish_make_a_checkpoint_due_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = compose(
        "budget.steps=9", "checkpoint.every=0", "checkpoint.minutes=2", "checkpoint.keep=9"
    )
    now = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: now[0])
    state = fresh()
    keeper = Keeper(tmp_path, config, Process(0, 1))
    for step in range(1, 7):
        now[0] += 50.0
        advance(state)
        keeper.keep(state, at_once=step == 4)
    # After 150 s; on demand after 200; 150 s after that would be 350.
    assert names(tmp_path) == ["step-00000003", "step-00000004"]


def test_a_state_saved_before_its_first_step_comes_back(tmp_path: Path) -> None:
    state = fresh()
    state.ema.step(list(state.unet.parameters()))
    state.step = 1  # left out: its gradient was not finite
    state.left_out.total += 1
    save(tmp_path, state, keep=1, final=False)
    other = fresh()
    load(newest_valid(tmp_path)[0], other)
    assert int(other.left_out.total) == 1 and not other.optimizer.state
    advance(other)
    advance(state)
    assert everything(other) == everything(state)
