"""New pictures or old ones: known answers, and the published definitions written out."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import mannwhitneyu
from torch import Tensor

from byheart.measure.denoising_gap import Level
from byheart.measure.generalization import gap_verdict, generalization, manifold, nearness


def some(count: int, seed: int, low: int = 0, high: int = 256) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(low, high, (count, 3, 4, 4), generator=draws, dtype=torch.uint8)


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


@pytest.mark.parametrize("steps", [1000, 6])  # with 6 there are many ties
def test_z_is_the_rank_test_s(steps: int) -> None:
    draws = torch.Generator().manual_seed(0)
    a = (torch.rand(40, generator=draws) * steps).round().double()
    b = (torch.rand(70, generator=draws) * steps * 1.3).round().double()
    found = nearness(a, b)
    assert found is not None and found.z is not None
    theirs = mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
    assert math.erfc(abs(found.z) / math.sqrt(2)) == pytest.approx(theirs.pvalue, rel=1e-9)
    assert found.z < 0  # the first lie lower
    assert found.counts == (40, 70)


def test_copies_lie_nearer_than_new_pictures_and_new_pictures_do_not() -> None:
    train, held_out, new = some(200, 0), some(100, 1), some(100, 2)
    copies = generalization(train[:50], train, held_out, [])["nearest"]
    fresh = generalization(new, train, held_out, [])["nearest"]
    assert copies["ratio"] == 0 and copies["z"] < -8
    assert fresh["ratio"] == pytest.approx(1, abs=0.02) and abs(fresh["z"]) < 3


def test_precision_recall_density_and_coverage_as_published() -> None:
    outputs, real, k = some(9, 3, 60, 200), some(13, 4, 40, 180), 3
    found = manifold(outputs, real, k)
    assert found is not None

    def apart(a: Tensor, b: Tensor) -> float:
        return float((a.double() - b.double()).square().mean().sqrt())

    def radius(images: Tensor, i: int) -> float:
        return sorted(apart(images[i], images[j]) for j in range(len(images)) if j != i)[k - 1]

    inside = [[apart(o, real[i]) <= radius(real, i) for i in range(13)] for o in outputs]
    theirs = [[apart(r, outputs[j]) <= radius(outputs, j) for j in range(9)] for r in real]
    assert found.precision == pytest.approx(sum(map(any, inside)) / 9)
    assert found.recall == pytest.approx(sum(map(any, theirs)) / 13)
    assert found.density == pytest.approx(sum(map(sum, inside)) / (k * 9))
    assert found.coverage == pytest.approx(sum(map(any, zip(*inside, strict=True))) / 13)


def test_real_pictures_far_ones_and_a_single_one_over_and_over() -> None:
    real = some(60, 5)
    same = manifold(real, real)
    assert same is not None and (same.precision, same.recall, same.coverage) == (1, 1, 1)
    far = manifold(torch.zeros_like(real), real)
    assert far is not None and (far.precision, far.density, far.coverage) == (0, 0, 0)
    one = manifold(real[[0] * 20], real)
    assert one is not None and one.precision == 1 and one.recall is not None
    assert one.recall < 0.05 and one.coverage < 0.4


@pytest.mark.parametrize(
    ("train", "held_out", "ideal", "verdict"),
    [
        (0.0, 0.589, 0.591, "memorized"),  # one image, copied by every output
        (0.0184, 0.1831, 0.3005, "memorized"),  # ten, 93 % copies
        (0.0166, 0.0661, 0.2228, "between"),  # a hundred, 8 % copies
        (0.0288, 0.0587, 0.2228, "between"),  # a hundred, nothing copied, all broken
        (0.0061, 0.0070, 0.0190, "generalizing"),  # 3,000 avatars, new faces
        (0.0083, 0.0089, 0.0300, "generalizing"),  # 1,000
        (0.0245, 0.0232, 0.0182, "not yet learned"),  # 3,000 after a tenth of the steps
    ],
)
def test_the_gap_is_called_by_what_was_seen_in_runs(
    train: float, held_out: float, ideal: float, verdict: str
) -> None:
    levels = [
        Level(100, 0.4, train, held_out, 0.0, ideal),
        Level(999, 1.0, 0.23, 0.22, 0.2, 0.21),  # in pure noise there is nothing to know
        Level(500, 0.7, None, None, 0.0, 9.0),
    ]
    found = gap_verdict(levels)
    assert found is not None and (found.verdict, found.noise_level) == (verdict, 0.4)
    assert found.sentence


def test_what_is_undefined_is_nothing() -> None:
    train = some(4, 6)
    assert nearness(values(), values(1.0)) is None and nearness(values(1.0), values()) is None
    alike = nearness(values(1.0, 1.0), values(1.0))
    assert alike is not None and alike.z is None and alike.ratio == 1
    at_zero = nearness(values(0.0), values(0.0))
    assert at_zero is not None and at_zero.ratio is None
    assert manifold(some(3, 7), some(5, 8)) is None
    few = manifold(some(3, 7), some(9, 8))
    assert few is not None and few.recall is None
    found = generalization(train, train, train[:0], [])
    assert found == dict.fromkeys(("nearest", "manifold", "of_real", "gap", "agreement"))
