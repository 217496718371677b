"""The closest mixture: found where there is one, never worse than one image, the same in chunks."""

from __future__ import annotations

import itertools

import pytest
import torch
from scipy.optimize import nnls
from support.images import noise
from torch import Tensor

from byheart.measure import mixture as module
from byheart.measure.distance import nearest, rmse_matrix
from byheart.measure.mixture import mixture


def mixed(train: Tensor, parts: list[int], weights: list[float]) -> Tensor:
    total = sum(train[p].double() * w for p, w in zip(parts, weights, strict=True))
    assert isinstance(total, Tensor)
    return total.round().to(torch.uint8)[None]


@pytest.mark.parametrize(
    ("parts", "weights"),
    [([3, 17], [0.5, 0.5]), ([3, 17], [0.2, 0.8]), ([1, 5, 11], [0.5, 0.3, 0.2]), ([4], [1.0]),
     ([0, 1, 2], [1 / 3, 1 / 3, 1 / 3])],
)  # fmt: skip
def test_where_there_is_a_mixture_it_is_found(parts: list[int], weights: list[float]) -> None:
    train = noise(40)
    # Rounding to 8 bits is all that is left.
    assert float(mixture(mixed(train, parts, weights), train)) <= 0.5 / 255


def test_it_is_never_worse_than_the_nearest_image_and_rarely_than_any_three() -> None:
    train, outputs = noise(9, 3), noise(10, 4)
    found = mixture(outputs, train)
    assert bool((found <= nearest(outputs, train).rmse + 1e-12).all())
    # With 9 images every one is a start: against all triples, each fitted by scipy.
    best = []
    for output in outputs:
        fits = []
        for triple in itertools.combinations(range(9), 3):
            columns = train[list(triple)].flatten(1).double().T / 255
            # A heavy last row makes the weights add up to 1.
            rows = torch.cat([columns, 1e4 * torch.ones(1, 3, dtype=torch.float64)])
            right = torch.cat([output.flatten().double() / 255, torch.tensor([1e4]).double()])
            fits.append(nnls(rows.numpy(), right.numpy())[1] / (3 * 64) ** 0.5)
        best.append(min(fits))
    assert bool((found >= torch.tensor(best) - 1e-6).all())
    assert found.tolist() == pytest.approx(best, rel=0.02)


def test_of_one_image_there_is_one_mixture() -> None:
    train, outputs = noise(1, 5), noise(4, 6)
    assert torch.equal(mixture(outputs, train), rmse_matrix(outputs, train)[:, 0])
    faded = train // 2
    assert float(mixture(faded, train)) > 0.2  # not half of it


def test_doubles_in_the_training_set_do_no_harm() -> None:
    train = noise(2, 7)[[0, 0, 1, 1, 1]]
    assert float(mixture(mixed(train, [0, 2], [0.5, 0.5]), train)) <= 0.5 / 255


def test_chunks_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    train, outputs = noise(20, 8), noise(11, 9)
    whole = mixture(outputs, train)
    monkeypatch.setattr(module, "CHUNK", 3)
    assert torch.equal(whole, mixture(outputs, train))


def test_the_order_of_the_training_set_does_not_matter() -> None:
    train = noise(20, 10)
    outputs = torch.cat([mixed(train, [2, 9], [0.5, 0.5]), noise(5, 11)])
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(mixture(outputs, train), mixture(outputs, train[order]))
