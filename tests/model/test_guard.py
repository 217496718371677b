"""Numbers gone bad, and too little memory: what a step does then."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from support.training import Train, narrow

from byheart.model import fit as module
from byheart.model.fit import State, halved
from byheart.model.optim import clip
from byheart.model.sample import sample

FULL = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes."


@pytest.fixture(autouse=True)
def young() -> Iterator[None]:
    """Too little memory lets Python collect its garbage: what the tests import is none."""
    gc.freeze()
    yield
    gc.unfreeze()


def weights(state: State) -> dict[str, torch.Tensor]:
    return {name: w.clone() for name, w in state.unet.state_dict().items()}


def spoiled(monkeypatch: pytest.MonkeyPatch, bad: set[int]) -> None:
    """The loss of these steps, counted from 1, is not a number."""
    real, calls = module.loss, iter(range(1, 1000))

    def loss(*arguments: Any) -> torch.Tensor:
        return real(*arguments) * (torch.nan if next(calls) in bad else 1.0)

    monkeypatch.setattr(module, "loss", loss)


def test_a_step_without_a_finite_gradient_leaves_all_as_it_is(
    training: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(narrow("budget.steps=4", "fit.non_finite=2", "fit.ema=0", "fit.optimizer=adamw",
                          "evaluate.weights=raw"))  # fmt: skip
    spoiled(monkeypatch, {2, 4})
    state = run.begin()
    seen = []
    for step in run.steps(state):
        seen.append((weights(state), int(step.left_out)))
    assert [count for _, count in seen] == [0, 1, 1, 2]
    assert all(torch.equal(w, seen[0][0][name]) for name, w in seen[1][0].items())
    assert not all(torch.equal(w, seen[1][0][name]) for name, w in seen[2][0].items())
    moments = [state.optimizer.state[weight]["step"] for weight in state.unet.parameters()]
    assert {int(step) for step in moments} == {2}  # of four steps two


def test_too_many_in_a_row_end_the_run_and_the_first_is_named(
    training: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(narrow("budget.steps=9", "fit.non_finite=3"))
    spoiled(monkeypatch, {2, 4, 5, 7, 8, 9})
    state = run.begin()
    with pytest.raises(
        ValueError, match=r"3 steps in a row, from step 7 on: type a smaller fit\.lr"
    ):
        for _ in run.steps(state):
            pass
    assert all(w.isfinite().all() for w in state.unet.parameters())


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([(0, 8)], [(0, 4), (4, 8)]),
        ([(0, 4), (4, 8)], [(0, 2), (2, 4), (4, 6), (6, 8)]),
        ([(3, 6)], [(3, 5), (5, 6)]),
        ([(0, 2), (2, 3)], [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_parts_are_halved_and_cover_what_they_covered(
    parts: list[tuple[int, int]], expected: list[tuple[int, int]]
) -> None:
    assert halved([slice(*part) for part in parts]) == [slice(*part) for part in expected]


class Small:
    """A network that has no memory for more than so many samples at once."""

    def __init__(self, network: Any, most: int) -> None:
        self.forward, self.most = network.forward, most
        self.sizes: list[int] = []

    def __call__(self, x: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        if len(x) > self.most:
            raise RuntimeError(FULL)
        self.sizes.append(len(x))
        return self.forward(x, *arguments, **options)


def test_out_of_memory_on_the_way_back_what_was_computed_is_let_go(
    training: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(narrow("budget.steps=3", "fit.batch=6"))
    one, other, real = run.finished(), run.begin(), module.loss
    kept: list[weakref.ref[torch.Tensor]] = []
    full = iter([True, False, False, True])

    def loss(*arguments: Any) -> torch.Tensor:
        gc.collect()
        assert all(seen() is None for seen in kept)  # no graph of a failed pass is left
        error = real(*arguments)
        if next(full, False):
            error.register_hook(fail)
            kept.append(weakref.ref(error))
        return error

    def fail(_: torch.Tensor) -> None:
        raise RuntimeError(FULL)

    monkeypatch.setattr(module, "loss", loss)
    for _ in run.steps(other):
        pass
    assert len(kept) == 2
    for name, weight in one.unet.state_dict().items():
        assert torch.allclose(weight, other.unet.state_dict()[name], atol=2e-5), name


@pytest.mark.parametrize("most", [1, 2])
def test_out_of_memory_smaller_parts_give_the_same_result(
    training: Train, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    run = training(narrow("budget.steps=3", "fit.batch=6"))
    one, other = run.finished(), run.begin()
    small = Small(other.unet, most)
    monkeypatch.setattr(other.unet, "forward", small)
    assert len(list(run.steps(other))) == other.step == 3
    assert max(small.sizes) <= most and sum(small.sizes) == 3 * 6
    for name, weight in one.unet.state_dict().items():
        assert torch.allclose(weight, other.unet.state_dict()[name], atol=2e-5), name


def test_a_single_sample_cannot_be_halved(training: Train, monkeypatch: pytest.MonkeyPatch) -> None:
    run = training(narrow("budget.steps=5", "fit.batch=6"))
    state = run.begin()
    monkeypatch.setattr(state.unet, "forward", Small(state.unet, 0))
    with pytest.raises(ValueError, match="a single sample does not fit into memory"):
        next(run.steps(state))


def test_another_error_is_not_taken_for_too_little_memory(
    training: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = training(narrow("budget.steps=5"))
    state = run.begin()

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(state.unet, "forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        next(run.steps(state))


@pytest.mark.parametrize("most", [1, 3])
def test_out_of_memory_fewer_outputs_are_made_at_once_and_are_the_same(
    training: Train, most: int
) -> None:
    config = narrow("sample.batch=5", "sample.steps=2")
    run = training(config)
    unet = run.begin().unet.eval()
    given = run.given
    prompts, noises = torch.tensor([0, 1, 1, 0, 1, 0, 1]), torch.arange(7)

    def made(network: Any) -> torch.Tensor:
        return sample(network, given, prompts, noises, 0, config.sample, torch.device("cpu"))

    small = Small(unet, most)
    assert torch.allclose(made(small), made(unet), atol=1e-5)
    assert max(small.sizes) <= most


@pytest.mark.parametrize("most", [0.01, 1.0, 1e6])
def test_clipping_is_torchs(most: float) -> None:
    def layer() -> torch.nn.Linear:
        torch.manual_seed(3)
        made = torch.nn.Linear(5, 7)
        made(torch.randn(4, 5)).square().sum().backward()
        return made

    one, other = layer(), layer()
    norm = clip(list(one.parameters()), most)
    assert torch.equal(norm, torch.nn.utils.clip_grad_norm_(other.parameters(), most))
    for mine, theirs in zip(one.parameters(), other.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-6, atol=0)
