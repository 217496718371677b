"""What a run says before it starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import UNet2DConditionModel
from support.training import Train, Training, narrow

from byheart.model import estimate as module
from byheart.model.estimate import Estimate, threads_that_pay
from byheart.model.memory import state_bytes


def estimate(run: Training, unet: UNet2DConditionModel) -> Estimate:
    return module.estimate(unet, run.given, 5, run.config, run.accelerator, Path())


@contextmanager
def untaught(unet: UNet2DConditionModel) -> Iterator[None]:
    before = {name: w.clone() for name, w in unet.state_dict().items()}
    yield
    assert all(torch.equal(w, before[name]) for name, w in unet.state_dict().items())
    assert all(weight.grad is None for weight in unet.parameters())


def test_expecting_teaches_the_network_nothing(training: Train) -> None:
    run = training(narrow("fit.batch=2", "budget.steps=10"))
    unet, random = run.begin().unet, torch.get_rng_state()
    with untaught(unet):
        expected = estimate(run, unet)
    assert torch.equal(torch.get_rng_state(), random)
    assert expected.train > 0 and expected.sample > 0
    assert expected.memory == state_bytes(unet, run.config.fit)


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
    training: Train, monkeypatch: pytest.MonkeyPatch, most: int, rows: list[int]
) -> None:
    run = training(narrow("fit.batch=8", "budget.steps=10"))
    unet, full = run.begin().unet, Full(most)
    monkeypatch.setattr(module, "_forward", full)
    assert estimate(run, unet).train > 0
    # Halved until it fits and once more to time it; then the five outputs.
    assert full.tried == rows
    monkeypatch.setattr(module, "_forward", Full(0))
    with pytest.raises(ValueError, match="a single sample does not fit into memory"):
        estimate(run, unet)


@pytest.mark.parametrize(
    ("most", "seconds", "chosen"),
    [
        (8, {1: 1.0, 2: 0.6, 4: 0.4, 8: 0.3}, 8),
        (8, {1: 1.0, 2: 0.6, 4: 0.58, 8: 0.3}, 2),  # the next double did not pay
        (2, {1: 1.0, 2: 0.95}, 1),
        (2, {1: 1.0, 2: 2.0}, 1),  # the other core is somebody else's
        (6, {1: 1.0, 2: 0.6, 4: 0.4, 6: 0.3}, 6),
        (4, {4: 12.0}, 4),  # too large to be timed often
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


def test_threads_that_were_typed_stay_and_what_was_timed_is_forgotten(
    training: Train, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(lambda: torch.set_num_threads(1))
    run = training(narrow("fit.batch=2", "threads=1"))
    unet = run.begin().unet
    monkeypatch.setattr(module, "threads_that_pay", lambda seconds, most: int(seconds(2) > 0) + 1)
    with untaught(unet):
        for asked, set_to in ((1, 1), ("auto", 2)):
            config = replace(run.config, threads=asked)
            module.choose_threads(unet, run.given, config, run.accelerator)
            assert torch.get_num_threads() == set_to
