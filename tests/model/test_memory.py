"""The dry run against what a real pass holds on the CPU."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from support.training import Train, compose, narrow
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from byheart.experiment.prepare import fresh_network
from byheart.model.fit import start
from byheart.model.memory import activation_bytes, largest_batch, state_bytes
from byheart.model.unet import build_unet

TOKENS, TEXT = 6, 16


class Held(TorchDispatchMode):
    """Counts the bytes of every tensor that is made and not yet gone."""

    def __init__(self, before: list[torch.Tensor]) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self.seen = {tensor.untyped_storage()._cdata for tensor in before}

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self.seen:
            return

        def gone() -> None:
            self.now -= size
            self.seen.discard(place)

        self.seen.add(place)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, gone)


@pytest.mark.parametrize("rows", [1, 6])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_real_pass_holds_what_the_dry_run_says(rows: int, checkpointing: bool) -> None:
    config = compose("unet.widths=[16,32,32,32]", "unet.heads=[1,1,1,1]")
    unet = build_unet(config.unet, 12, 16, TEXT, 0).train()
    for weight in unet.parameters():
        weight.grad = torch.zeros_like(weight)
    if checkpointing:
        unet.enable_gradient_checkpointing()
    x, t = torch.zeros(rows, 12, 16, 16), torch.zeros(rows, dtype=torch.long)
    prompt = torch.zeros(rows, TOKENS, TEXT)
    gradients = [w.grad for w in unet.parameters() if w.grad is not None]
    with Held([x, t, prompt, *unet.parameters(), *gradients]) as held:
        unet(x, t, prompt, return_dict=False)[0].square().mean().backward()
    said = activation_bytes(unet, rows, TOKENS, bf16=False, checkpointing=checkpointing)
    assert said == pytest.approx(held.peak, rel=0.1)


def test_checkpointing_learns_the_same(training: Train, accelerator: Accelerator) -> None:
    """What is computed again is what was computed."""
    learned = []
    for words in ((), ("fit.gradient_checkpointing=true",)):
        run = training(narrow("fit.batch=2", "budget.steps=3", *words))
        unet = fresh_network(run.config, (12, 8, 8), 8, accelerator)
        assert unet.is_gradient_checkpointing == bool(words)
        state = start(unet, run.config)
        assert [step.step for step in run.steps(state)] == [1, 2, 3]
        learned.append(unet.state_dict())
    assert all(torch.equal(weight, learned[1][name]) for name, weight in learned[0].items())


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muon_conv"])
@pytest.mark.parametrize("ema", [0, 0.05])
def test_a_step_leaves_as_many_numbers_as_were_counted(optimizer: str, ema: float) -> None:
    weights = "raw" if ema == 0 else "ema"
    config = narrow(f"fit.optimizer={optimizer}", f"fit.ema={ema}", f"evaluate.weights={weights}")
    unet = build_unet(config.unet, 12, 8, TEXT, 0)
    state = start(unet, config)
    for weight in unet.parameters():
        weight.grad = torch.randn_like(weight)
    state.optimizer.step()
    held = [*unet.parameters(), *(w.grad for w in unet.parameters() if w.grad is not None)]
    held += [v for s in state.optimizer.state.values() for k, v in s.items() if k != "step"]
    held += [] if state.ema is None else state.ema.shadow_params
    assert state_bytes(unet, config.fit) == 4 * sum(tensor.numel() for tensor in held)


def test_a_card_has_room_for_what_fills_nine_tenths_of_it() -> None:
    # 90 usable, 40 for the state: 50 for the samples, the first takes 20 and each other one 10.
    assert largest_batch(100, state=40, step=0, one=20, two=30) == 4
    assert largest_batch(100, state=71, step=0, one=20, two=30) == 0
    assert largest_batch(100, state=40, step=51, one=20, two=30) == 0
