"""Chance collision: a known exponent and a known probability, far below what was seen."""

from __future__ import annotations

import math

import pytest
import torch
from support.images import noise
from torch import Tensor

from byheart.measure import collision
from byheart.measure.collision import chance_collision, from_distances
from byheart.measure.distance import rmse_matrix


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def torus(points: int, dimension: int, seed: int) -> Tensor:
    """Distances of uniform points where space has no edge: F(r) = V_k r^k exactly, up to 1/2."""
    x = torch.rand(points, dimension, generator=seeded(seed), dtype=torch.float64)
    apart = (x[:, None] - x[None]).abs()
    return torch.minimum(apart, 1 - apart).square().sum(-1).sqrt()


def truth(dimension: int, tolerance: float) -> float:
    """-log2 of the volume of a ball."""
    volume = math.pi ** (dimension / 2) / math.gamma(dimension / 2 + 1) * tolerance**dimension
    return -math.log2(volume)


@pytest.mark.parametrize(("points", "dimension", "tolerance"), [(200, 2, 0.003), (300, 4, 0.03)])
def test_a_known_probability_lies_within_the_interval(
    points: int, dimension: int, tolerance: float
) -> None:
    known, inside, exponents = truth(dimension, tolerance), 0, []
    for seed in range(20):
        matrix = torus(points, dimension, seed)
        assert (matrix + torch.eye(points)).min() > tolerance / 10
        found = from_distances(matrix, tolerance, 1, seeded(seed))
        low, middle, high = found.low, found.bits, found.high
        assert low < middle < high < low + 8
        inside += low <= known <= high
        exponents.append(found.dimension)
    assert inside >= 18
    assert sum(exponents) / 20 == pytest.approx(dimension, rel=0.04)


def test_by_hand() -> None:
    # 20 images, 190 pairs; u is the 31st smallest distance.
    matrix = torch.full((20, 20), 0.9, dtype=torch.float64)
    upper = torch.triu_indices(20, 20, offset=1)
    values = torch.full((190,), 0.9, dtype=torch.float64)
    values[:30] = 0.2  # log2(0.4 / 0.2) = 1 for each
    values[30] = 0.4
    matrix[upper[0], upper[1]] = values
    matrix = torch.minimum(matrix, matrix.T)
    found = from_distances(matrix, 0.1, 64, seeded(0))
    assert found.threshold == 0.4 and (found.pairs, found.all_pairs) == (30, 190)
    exponent = 1 / math.log(2)  # 30 / (30 ln 2)
    assert found.dimension == pytest.approx(exponent)
    expected = -math.log2(30 / 190) + exponent * 2  # log2(0.4 / 0.1) = 2
    assert found.bits == pytest.approx(expected)
    assert found.uuid_matches == pytest.approx(expected / 122)
    assert found.hash_matches == pytest.approx(expected / 9.965784284662087)
    assert found.any_bits == 0.0  # 64 images: 6 bits off 5.55, capped
    assert from_distances(matrix, 0.1, 2, seeded(0)).any_bits == pytest.approx(expected - 1)
    # What is within the tolerance counts as being at it: 15 of 30 seen, half as far observed.
    values[:15], values[15:30] = 0.0, 0.2
    matrix[upper[0], upper[1]] = values
    matrix = torch.minimum(matrix, matrix.T).fill_diagonal_(0.0)
    half = from_distances(matrix, 0.1, 1, seeded(0))
    assert half.dimension == pytest.approx(15 / (15 * math.log(4) + 15 * math.log(2)))


def test_frequent_collisions_are_counted_and_not_extrapolated() -> None:
    matrix = torus(60, 2, 0)
    upper = torch.triu_indices(60, 60, offset=1)
    share = float((matrix[upper[0], upper[1]] <= 0.3).double().mean())
    found = from_distances(matrix, 0.3, 1, seeded(0))
    low, middle, high = found.low, found.bits, found.high
    assert middle == pytest.approx(-math.log2(share)) and low < middle < high
    assert found.dimension is None and str(found.assumption).startswith("none")
    assert found.pairs == round(share * found.all_pairs)
    # Everything collides: probability 1.
    assert from_distances(matrix, 1.0, 1, seeded(0)).bits == 0.0


def test_a_law_that_is_no_power_law_shows_in_the_fits() -> None:
    pure = from_distances(torus(300, 4, 1), 0.02, 1, seeded(0)).bits_by_share
    # Two scales: pairs in the same of 50 clusters, and all others.
    points = torus(50, 4, 2).repeat_interleave(6, 0).repeat_interleave(6, 1)
    mixed = (points.square() + 0.05**2 * torus(300, 2, 3).square()).sqrt()
    both = from_distances(mixed, 0.002, 1, seeded(0)).bits_by_share
    assert set(pure) == {"0.005", "0.01", "0.02", "0.05", "0.1"}
    assert max(pure.values()) - min(pure.values()) < 2.5
    assert max(both.values()) - min(both.values()) > 4


def test_the_order_of_images_changes_only_the_draws() -> None:
    matrix, order = torus(100, 3, 0), torch.randperm(100, generator=seeded(1))
    one = from_distances(matrix, 0.02, 1, seeded(0))
    two = from_distances(matrix[order][:, order], 0.02, 1, seeded(0))
    assert one.bits == pytest.approx(two.bits) and one.dimension == pytest.approx(two.dimension)
    assert one == from_distances(matrix, 0.02, 1, seeded(0))
    assert one.low != from_distances(matrix, 0.02, 1, seeded(5)).low


def test_images_are_resampled_and_not_pairs() -> None:
    # One image near to every other makes all close pairs: whether it is drawn decides all.
    matrix = 0.8 + 0.1 * torus(40, 3, 0)
    matrix[0] = matrix[:, 0] = torch.linspace(0.05, 0.3, 40, dtype=torch.float64)
    matrix.fill_diagonal_(0.0)
    found = from_distances(matrix, 0.01, 1, seeded(0))
    # Without it (in 1 resample of e) no close pair is left: the bits have no upper end.
    assert found.bits is not None and found.low is not None and found.high is None


def test_images_give_what_their_distances_give_and_of_too_many_an_even_choice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = noise(50, side=4)
    found = chance_collision(images, 0.3, 5, seeded(0))
    assert found == from_distances(rmse_matrix(images, images), 0.3 / 3, 5, seeded(0))
    assert found.tolerance == pytest.approx(0.1) and found.images == 50 and found.n_images == 5
    assert found.bits > 10
    monkeypatch.setattr(collision, "MOST_IMAGES", 20)
    chosen = [0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37, 40, 42, 45, 47]
    found = chance_collision(images, 0.3, 1, seeded(0))
    assert found == chance_collision(images[chosen], 0.3, 1, seeded(0)) and found.images == 20
