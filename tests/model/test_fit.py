"""The training loop: the same weights however the batch is cut and wherever it is interrupted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers.training_utils import EMAModel
from support.training import Process, Train, Training, compose, narrow

from byheart.model import checkpoint
from byheart.model.fit import State, learning_rate, parts_of
from byheart.model.optim import Average


def bytes_of(state: State) -> tuple[dict[str, bytes], list[bytes]]:
    weights = {name: w.detach().numpy().tobytes() for name, w in state.unet.state_dict().items()}
    assert state.ema is not None
    return weights, [shadow.numpy().tobytes() for shadow in state.ema.shadow_params]


# ------------------------------------------------------------------------------- learning rate


@pytest.mark.parametrize(
    ("warmup", "decay", "step", "expected"),
    [
        (0.1, 0.2, 0, 0.1),  # the first of ten steps up
        (0.1, 0.2, 4, 0.5),
        (0.1, 0.2, 9, 1.0),
        (0.1, 0.2, 50, 1.0),
        (0.1, 0.2, 90, 0.5),
        (0.1, 0.2, 99, 0.05),  # the last of twenty down
        (0.0, 0.0, 0, 1.0),
        (0.0, 1.0, 50, 0.5),
        (0.0, 1.0, 99, 0.01),
        (1.0, 0.0, 0, 0.01),
        (0.001, 0.001, 0, 1.0),  # shares of less than a step
        (0.001, 0.001, 99, 1.0),
    ],
)
def test_the_rate_rises_stays_and_falls(
    warmup: float, decay: float, step: int, expected: float
) -> None:
    settings = replace(compose("fit.lr=0.004").fit, warmup=warmup, decay=decay)
    assert learning_rate(settings, step, 100) == pytest.approx(0.004 * expected)


# ------------------------------------------------------------------------------------- training


def test_the_loss_goes_down_and_every_step_is_told(training: Train) -> None:
    config = narrow("budget.steps=24", "fit.batch=4", "fit.lr=0.01", "n_images=1")
    run = training(config)
    told = [(step.step, float(step.loss), step.lr) for step in run.steps(run.begin())]
    assert [number for number, _, _ in told] == list(range(1, 25))
    assert [lr for _, _, lr in told] == [learning_rate(config.fit, k, 24) for k in range(24)]
    # A network that says zero has the mean square of the picture as its loss.
    assert told[0][1] == pytest.approx(float(run.latents.square().mean()), rel=1e-5)
    assert sum(loss for _, loss, _ in told[-5:]) / 5 < 0.6 * told[0][1]


# Muon makes the small singular values of a gradient large, and their rounding with them.
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_accumulating_in_four_parts_gives_the_same_weights(training: Train, optimizer: str) -> None:
    # Both divide a gradient by its own size, so that rounding in the smallest of them grows.
    states = []
    for accumulate in (1, 4):
        config = narrow(
            "budget.steps=4", "fit.batch=4", f"fit.accumulate={accumulate}", "n_images=3",
            f"fit.optimizer={optimizer}",
        )  # fmt: skip
        run = training(config)
        state = run.begin()
        losses = [float(step.loss) for step in run.steps(state)]
        states.append((state, losses))
    (one, losses), (four, losses_in_parts) = states
    assert losses == pytest.approx(losses_in_parts, rel=1e-4)
    pairs = zip(one.unet.parameters(), four.unet.parameters(), strict=True)
    assert max(float((a - b).detach().abs().max()) for a, b in pairs) < 1e-4


def gradient(run: Training) -> torch.Tensor:
    """What a step of plain descent at a rate of 1 takes off the weights."""
    state = run.begin()
    before = [w.detach().clone() for w in state.unet.parameters()]
    state.optimizer = torch.optim.SGD(state.unet.parameters(), lr=1.0)
    next(run.steps(state))
    pairs = zip(before, state.unet.parameters(), strict=True)
    return torch.cat([(b - w.detach()).flatten() for b, w in pairs])


PLAIN = ("fit.lr=1", "fit.warmup=0", "unet.zero_init=false", "fit.batch=4")


def test_the_gradient_of_the_parts_is_the_gradient_of_the_batch(training: Train) -> None:
    whole, parts = (gradient(training(narrow(*PLAIN, "fit.clip=0", f"fit.accumulate={count}")))
                    for count in (1, 4))  # fmt: skip
    assert whole.norm() > 0.01 and (parts - whole).norm() < 1e-5 * whole.norm()


def test_the_gradient_is_no_longer_than_its_limit(training: Train) -> None:
    length = gradient(training(narrow(*PLAIN, "fit.clip=0.001"))).norm()
    assert float(length) == pytest.approx(0.001, rel=0.01)


@pytest.mark.parametrize("stop", [1, 3])
def test_an_interrupted_run_ends_byte_for_byte_where_an_uninterrupted_one_does(
    training: Train, tmp_path: Path, stop: int
) -> None:
    run = training(narrow("budget.steps=5", "fit.batch=2", "n_images=3", "fit.ema=0.5"))
    whole = run.finished()
    interrupted = run.begin()
    for step in run.steps(interrupted):
        if step.step == stop:
            break
    checkpoint.save(tmp_path, interrupted, keep=1, final=False)
    place, damaged = checkpoint.newest_valid(tmp_path)
    assert place is not None and damaged == []
    resumed = run.begin(seed=9)  # nothing of the fresh weights may survive
    checkpoint.load(place, resumed)
    assert resumed.step == stop and bytes_of(resumed) == bytes_of(interrupted)
    assert [step.step for step in run.steps(resumed)] == list(range(stop + 1, 6))
    assert bytes_of(resumed) == bytes_of(whole)


# ------------------------------------------------------------------------------------ processes


@pytest.mark.parametrize(("processes", "accumulate"), [(1, 1), (2, 1), (4, 1), (2, 2), (3, 4)])
def test_every_row_is_worked_on_once_by_one_process(processes: int, accumulate: int) -> None:
    settings = compose("fit.batch=24", f"fit.accumulate={accumulate}").fit
    parts = [parts_of(settings, Process(k, processes)) for k in range(processes)]
    assert all(len(slices) == accumulate for slices in parts)
    rows = [list(range(24))[part] for slices in parts for part in slices]
    assert [row for part in rows for row in part] == list(range(24))
    assert len({len(part) for part in rows}) == 1


# -------------------------------------------------------------------------------------- average


@pytest.mark.parametrize(
    ("share", "steps", "horizon"), [(0.05, 200, 10), (0.5, 1000, 500), (0.05, 4, 1), (1, 7, 7)]
)
def test_the_average_reaches_back_a_share_of_the_run_but_at_least_a_step(
    training: Train, share: float, steps: int, horizon: float
) -> None:
    state = training(narrow(f"fit.ema={share}", f"budget.steps={steps}")).begin()
    assert state.ema is not None
    assert state.ema.decay == pytest.approx(math.exp(-1 / horizon))


def test_the_average_is_the_recursion_written_by_hand(training: Train) -> None:
    run = training(narrow("budget.steps=7", "fit.batch=2", "fit.ema=0.1", "fit.lr=0.01"))
    state = run.begin()
    by_hand = state.unet.conv_out.bias.detach().clone()
    decay = math.exp(-1)  # 0.1 of 7 steps is less than one
    late = 4  # of 7 steps the last 3 horizons, which are a step each
    for number, _ in enumerate(run.steps(state), -late):
        kept = decay if number > 0 else 0.0
        by_hand = kept * by_hand + (1 - kept) * state.unet.conv_out.bias.detach()
    names = [name for name, _ in state.unet.named_parameters()]
    assert state.ema is not None
    shadow = state.ema.shadow_params[names.index("conv_out.bias")]
    assert torch.allclose(shadow, by_hand, atol=1e-7)
    assert not torch.allclose(shadow, state.unet.conv_out.bias, atol=1e-5)


def test_the_average_is_diffusers_own() -> None:
    draws = torch.Generator().manual_seed(0)
    weights = [torch.nn.Parameter(torch.randn(shape, generator=draws)) for shape in (3, (2, 5))]
    ours = Average(weights, horizon=2, steps=17)
    # Its own slow start, so steep that there is none.
    steep = {"use_ema_warmup": True, "inv_gamma": 1e-20}
    theirs = EMAModel(weights, decay=math.exp(-1 / 2), update_after_step=11, **steep)
    for step in range(17):
        with torch.no_grad():
            for weight in weights:
                weight.copy_(torch.randn(weight.shape, generator=draws))
        ours.step(weights)
        theirs.step(weights)
        assert ours.optimization_step == theirs.optimization_step
        assert ours.begun == (step >= 11)
        if ours.begun:
            pairs = zip(ours.shadow_params, theirs.shadow_params, strict=True)
            assert all(torch.allclose(a, b, atol=1e-6) for a, b in pairs)


def test_the_average_is_borrowed_and_the_last_weights_come_back_exactly(training: Train) -> None:
    run = training(narrow("budget.steps=3", "fit.batch=2", "fit.ema=1"))
    state = run.finished()
    before = bytes_of(state)
    with state.using("ema") as network:
        assert network is state.unet and not network.training
        borrowed = [w.detach().numpy().tobytes() for w in network.parameters()]
        assert borrowed == before[1] != list(before[0].values())
    assert bytes_of(state) == before
    with state.using("raw") as network:
        assert not network.training and bytes_of(state) == before
    with pytest.raises(RuntimeError, match="out of memory"), state.using("ema"):
        raise RuntimeError("out of memory")
    assert bytes_of(state) == before
