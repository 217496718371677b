"""Muon: the orthogonal part of a gradient, however small that is in some directions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from byheart.model.optim import QUINTIC, ROUNDS, Muon, orthogonalised

SHAPES = [(6, 20), (20, 6), (6, 6), (9, 31)]


def matrices(seed: int = 0) -> list[Tensor]:
    """Singular values over three orders of magnitude."""
    draws = torch.Generator().manual_seed(seed)
    found = []
    for shape in SHAPES:
        u, _, v = torch.linalg.svd(torch.randn(shape, generator=draws), full_matrices=False)
        found.append(u @ torch.diag(torch.logspace(0, -3, len(v))) @ v)
    return found


def by_svd(matrix: Tensor) -> Tensor:
    """The quintic's rounds on each singular value, in double precision."""
    a, b, c = QUINTIC
    u, s, v = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.pow(8).sum() ** (1 / 8)
    for _ in range(ROUNDS):
        s = a * s + b * s**3 + c * s**5
    return (u @ torch.diag(s) @ v).float()


def made(weights: list[Tensor], **changed: float) -> Muon:
    given = {"lr": 0.01, "weight_decay": 0.1, "momentum": 0.9} | changed
    return Muon(weights[:-1], weights[-1:], betas=(0.8, 0.9), fused=True, **given)


def learning(seed: int = 0) -> list[Tensor]:
    """Four matrices and a vector, with gradients."""
    draws = torch.Generator().manual_seed(seed + 100)
    found = []
    for gradient in [*matrices(seed), torch.randn(7, generator=draws)]:
        weight = torch.randn(gradient.shape, generator=draws).requires_grad_()
        weight.grad = gradient
        found.append(weight)
    return found


def test_each_singular_value_goes_through_the_polynomial() -> None:
    for matrix, found in zip(matrices(), orthogonalised(matrices()), strict=True):
        assert torch.allclose(found, by_svd(matrix), atol=2e-3)
        s = torch.linalg.svdvals(found)
        assert float(s.min()) > 0.1 and float(s.max()) < 1.3  # a thousand to one before


@pytest.mark.parametrize("kept", [1.0, 0.001])
def test_a_matrix_of_few_directions_and_one_of_all_are_brought_near_to_one(kept: float) -> None:
    """The bound on the largest singular value holds for either, and wastes no round."""
    draws = torch.Generator().manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn((32, 50), generator=draws), full_matrices=False)
    s = torch.full((32,), kept)
    s[0] = 1
    (found,) = orthogonalised([u @ torch.diag(s) @ v])
    largest, *others = torch.linalg.svdvals(found).tolist()
    assert 0.65 < largest < 1.25
    assert all(other > (0.65 if kept == 1 else 0.1) for other in others)


def test_only_the_direction_of_a_gradient_counts_unless_it_is_rounding() -> None:
    for matrix, found in zip(matrices(), orthogonalised(matrices()), strict=True):
        (loud,) = orthogonalised([matrix * 2.0**14])
        (quiet,) = orthogonalised([matrix * 2.0**-30])
        assert torch.equal(loud, found) and torch.equal(quiet, found)
        (nothing, _) = orthogonalised([matrix * 1e-13, matrix])
        assert not nothing.any()
        (zero, _) = orthogonalised([matrix * 0, matrix])
        assert not zero.any()


def test_matrices_that_are_worked_on_together_do_not_mix() -> None:
    together = orthogonalised(matrices() + matrices(seed=1))
    alone = [orthogonalised([matrix])[0] for matrix in matrices() + matrices(seed=1)]
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(together, alone, strict=True))


def test_its_steps_are_those_of_torch_where_torch_takes_the_weights(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Momentum, decay and scale: torch's own Newton-Schulz, in bf16, gives way to ours."""
    monkeypatch.setattr(
        "torch.optim._muon._zeropower_via_newtonschulz",
        lambda gradient, *_: orthogonalised([gradient])[0],
    )
    ours, theirs = learning(), learning()
    one = made(ours)
    other = torch.optim.Muon(
        theirs[:-1], lr=0.01, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw"
    )
    before = [weight.detach().clone() for weight in ours]
    for seed in range(3):
        for weights in (ours, theirs):
            for weight, gradient in zip(weights, matrices(seed), strict=False):
                weight.grad = gradient
        one.step()
        other.step()
    for a, b, start in zip(ours[:-1], theirs[:-1], before, strict=False):
        assert torch.allclose(a, b, atol=1e-5) and not torch.allclose(a, start, atol=1e-3)


def test_the_rest_is_adamws() -> None:
    ours, theirs = learning(), learning()
    one = made(ours)
    other = torch.optim.AdamW(theirs[-1:], lr=0.01, betas=(0.8, 0.9), weight_decay=0.1, fused=True)
    for _ in range(3):
        one.step()
        other.step()
    assert torch.equal(ours[-1], theirs[-1])
    assert set(one.state) == set(ours)


def test_a_convolutions_weight_is_the_matrix_of_its_output_channels() -> None:
    gradient = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    kernel, flat = torch.zeros(5, 3, 3, 3), torch.zeros(5, 27)
    kernel.grad, flat.grad = gradient, gradient.flatten(1)
    rest = torch.zeros(1)
    for weight in (kernel, flat):
        made([weight, rest]).step()
    assert torch.equal(kernel.flatten(1), flat) and float(flat.abs().max()) > 0
    # As large as AdamW's: 0.2 times the rate, near enough where singular values are 0.7 to 1.2.
    assert float(flat.square().mean().sqrt()) == pytest.approx(0.2 * 0.01, rel=0.3)


def test_a_step_that_is_left_out_leaves_all_as_it_is() -> None:
    """As a GPU is told, without waiting: the gradient may hold anything."""
    weights = learning()
    one = made(weights)
    one.step()
    kept = [weight.detach().clone() for weight in weights]
    state = {w: {k: v.clone() for k, v in one.state[w].items()} for w in weights[:-1]}
    for weight in weights[:-1]:
        weight.grad = torch.full_like(weight, float("nan"))
    weights[-1].grad = None  # AdamW's own refusal is torch's, and needs a GPU
    one.found_inf = torch.ones(())
    one.step()
    assert all(torch.equal(w, before) for w, before in zip(weights, kept, strict=True))
    assert all(torch.equal(one.state[w][k], v) for w in state for k, v in state[w].items())


def test_a_step_that_is_not_left_out_is_the_same_step() -> None:
    ours, theirs = learning(), learning()
    one, other = made(ours), made(theirs)
    one.found_inf = torch.zeros(())
    ours[-1].grad = theirs[-1].grad = None
    one.step()
    other.step()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
