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
from byheart.model.expect import Expectation, duration, expect
from byheart.model.sample import Conditions
from byheart.model.unet import parameters


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 s"), (12.4, "12 s"), (89.0, "89 s"), (90.0, "1.5 min"), (210.0, "3.5 min"),
     (5399.0, "90.0 min"), (5400.0, "1.5 h"), (7560.0, "2.1 h")],
)  # fmt: skip
def test_durations_are_said_in_the_unit_people_use(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_an_expectation_is_one_sentence() -> None:
    assert str(Expectation(210.0, 12.0, 3 * 2**30)) == (
        "about 3.5 min of training, 12 s of sampling, 3.0 GiB of memory for weights and optimizer"
    )


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
    expected = expect(unet, given, 5, config, accelerator, tmp_path)
    assert all(torch.equal(w, before[name]) for name, w in unet.state_dict().items())
    assert all(weight.grad is None for weight in unet.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    # Weights, gradients, two moments, the average; four bytes each.
    assert expected.memory == parameters(unet) * 4 * 5
    without = replace(config, fit=replace(config.fit, ema=0.0))
    assert expect(unet, given, 5, without, accelerator, tmp_path).memory == parameters(unet) * 4 * 4
    assert expected.train > 0 and expected.sample > 0
