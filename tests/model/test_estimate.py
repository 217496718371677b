"""What a run says before it starts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator

from byheart.config import Config
from byheart.model import estimate as module
from byheart.model.estimate import estimate, threads_that_pay
from byheart.model.sample import Conditions
from byheart.model.unet import parameters

Compose = Callable[..., Config]
Train = Callable[[Config], Any]


def test_expecting_teaches_the_network_nothing(
    narrow: Callable[..., Config],
    training: Callable[[Config], Any],
    accelerator: Accelerator,
    tmp_path: Path,
) -> None:
    config = narrow("fit.batch=2", "budget.steps=10")
    run = training(config)
    unet, random = run.begin().unet, torch.get_rng_state()
    before = {name: w.clone() for name, w in unet.state_dict().items()}
    given = Conditions(run.schedule, run.conditioning.rows, (12, 8, 8))
    expected = estimate(unet, given, 5, config, accelerator, tmp_path)
    assert all(torch.equal(w, before[name]) for name, w in unet.state_dict().items())
    assert all(weight.grad is None for weight in unet.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert expected.train > 0 and expected.sample > 0


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_memory_it_expects_is_that_of_what_there_is_after_a_step(
    narrow: Compose, training: Train, accelerator: Accelerator, tmp_path: Path, optimizer: str
) -> None:
    config = narrow("fit.batch=2", "budget.steps=10", f"fit.optimizer={optimizer}")
    run = training(config)
    state = run.begin()
    next(run.steps(state))
    moments = sum(
        value.numel()
        for kept in state.optimizer.state.values()
        for name, value in kept.items()
        if name != "step"
    )
    count = parameters(state.unet)
    assert count < moments <= 2 * count
    given = Conditions(run.schedule, run.conditioning.rows, (12, 8, 8))
    # Weights, gradients, moments, the average; four bytes each.
    expected = estimate(state.unet, given, 5, config, accelerator, tmp_path)
    assert expected.memory == 4 * (3 * count + moments)
    without = replace(config, fit=replace(config.fit, ema=0.0))
    expected = estimate(state.unet, given, 5, without, accelerator, tmp_path)
    assert expected.memory == 4 * (2 * count + moments)


class Full:
    """Forward passes of more samples than there is memory for."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, []  # type: int, list[int]

    def __call__(self, unet: Any, rows: int, *_: Any) -> torch.Tensor:
        self.tried.append(rows)
        if rows > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.zeros(rows, requires_grad=True)


@pytest.mark.parametrize(
    ("most", "rows"), [(8, [8, 8, 5]), (3, [8, 4, 2, 2, 5, 2]), (1, [8, 4, 2, 1, 1, 5, 2, 1])]
)
def test_the_largest_part_that_fits_is_timed(
    narrow: Callable[..., Config], training: Callable[[Config], Any], accelerator: Accelerator,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, rows: list[int],
) -> None:  # fmt: skip
    config = narrow("fit.batch=8", "budget.steps=10")
    run = training(config)
    unet = run.begin().unet
    given = Conditions(run.schedule, run.conditioning.rows, (12, 8, 8))
    full = Full(most)
    monkeypatch.setattr(module, "_forward", full)
    expected = estimate(unet, given, 5, config, accelerator, tmp_path)
    assert expected.train > 0
    # Halved until it fits and once more to time it; then the five outputs.
    assert full.tried == rows
    monkeypatch.setattr(module, "_forward", Full(0))
    with pytest.raises(ValueError, match="a single sample does not fit into memory"):
        estimate(unet, given, 5, config, accelerator, tmp_path)


@pytest.mark.parametrize(
    ("most", "seconds", "chosen"),
    [
        (8, {1: 1.0, 2: 0.6, 4: 0.4, 8: 0.3}, 8),
        (8, {1: 1.0, 2: 0.6, 4: 0.58, 8: 0.3}, 2),  # the next double did not pay
        (2, {1: 1.0, 2: 0.95}, 1),
        (2, {1: 1.0, 2: 2.0}, 1),  # the other core is somebody else's
        (6, {1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6),
        (2, {1: 20.0, 2: 12.0}, 2),
        (1, {}, 1),
    ],
)
def test_as_many_threads_as_shorten_a_pass(
    most: int, seconds: dict[int, float], chosen: int
) -> None:
    assert threads_that_pay(seconds.__getitem__, most) == chosen


def test_a_pass_that_somebody_disturbed_does_not_decide() -> None:
    taken = iter([0.5, 1.0, 3.0, 1.0, 0.5])  # all cores; then one, two, one, two
    assert threads_that_pay(lambda threads: next(taken), 2) == 2


def test_a_network_too_large_to_be_timed_often_gets_every_core() -> None:
    asked: list[int] = []

    def seconds(threads: int) -> float:
        asked.append(threads)
        return 12.0

    assert threads_that_pay(seconds, 4) == 4 and asked == [4]


def test_threads_that_were_typed_stay_and_what_was_timed_is_forgotten(
    narrow: Compose, training: Train, accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = narrow("fit.batch=2", "threads=1")
    run = training(config)
    unet = run.begin().unet
    before = {name: w.clone() for name, w in unet.state_dict().items()}
    given = Conditions(run.schedule, run.conditioning.rows, (12, 8, 8))
    monkeypatch.setattr(module, "threads_that_pay", lambda seconds, most: int(seconds(2) > 0) + 1)
    for asked, set_to in ((1, 1), ("auto", 2)):
        module.choose_threads(unet, given, replace(config, threads=asked), accelerator)
        assert torch.get_num_threads() == set_to
    assert all(torch.equal(w, before[name]) for name, w in unet.state_dict().items())
    assert all(weight.grad is None for weight in unet.parameters())
