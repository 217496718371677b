"""New pictures or old ones: known answers, and the published definitions written out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import mannwhitneyu
from support.images import noise
from torch import Tensor

from byheart.measure import distance
from byheart.measure.denoising_gap import Level
from byheart.measure.generalization import (
    gap_verdict,
    generalization,
    manifold,
    nearness,
)

some = partial(noise, side=4)


def values(*numbers: float) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


# --------------------------------------------------------------- distances to the training set


@pytest.mark.parametrize("steps", [100_000, 6])  # with 6 there are many ties
@pytest.mark.parametrize("shift", [0.8, 1.0, 1.3])
def test_z_is_the_rank_test_s(steps: int, shift: float) -> None:
    random = np.random.default_rng(0)
    a, b = (
        torch.from_numpy((random.random(count) * steps * by).round())
        for count, by in ((40, shift), (70, 1.0))
    )
    found = nearness(a, b)
    theirs = mannwhitneyu(a, b, use_continuity=False, method="asymptotic")
    assert found.counts == (40, 70)
    assert math.erfc(abs(found.z) / math.sqrt(2)) == pytest.approx(theirs.pvalue, rel=1e-9)
    # Pairs in which an output is farther away, against half of all.
    assert np.sign(found.z) == np.sign(theirs.statistic - 40 * 70 / 2)
    other = nearness(b, a)
    assert other.z == pytest.approx(-found.z, abs=1e-12)


def test_copies_lie_nearer_than_new_pictures_and_new_pictures_do_not() -> None:
    train, held_out, new = some(200, 0), some(100, 1), some(100, 2)
    copies = generalization(train[:50], train, held_out)["nearest"]
    fresh = generalization(new, train, held_out)["nearest"]
    assert copies["outputs"] == copies["ratio"] == 0 and copies["z"] < -8
    assert fresh["ratio"] == pytest.approx(1, abs=0.02) and abs(fresh["z"]) < 3


def test_of_an_even_number_the_median_is_half_way() -> None:
    found = nearness(values(1, 2, 3, 10), values(4, 6))
    assert (found.outputs, found.fresh, found.ratio) == (2.5, 5, 0.5)


# ------------------------------------------------------------------------------------- the balls


def by_hand(outputs: Tensor, real: Tensor, k: int) -> tuple[float, float, float, float]:
    """Picture by picture, in whole numbers."""

    def apart(a: Tensor, b: Tensor) -> int:
        return int((a.int() - b.int()).square().sum())

    def radius(images: Tensor, i: int) -> int:
        return sorted(apart(images[i], images[j]) for j in range(len(images)) if j != i)[k - 1]

    own, theirs = ([radius(x, i) for i in range(len(x))] for x in (outputs, real))
    inside = [[apart(o, r) <= d for r, d in zip(real, theirs, strict=True)] for o in outputs]
    known = [[apart(o, r) <= d for o, d in zip(outputs, own, strict=True)] for r in real]
    s, r = len(outputs), len(real)
    return (
        sum(map(any, inside)) / s,
        sum(map(any, known)) / r,
        sum(map(sum, inside)) / (k * s),
        sum(map(any, zip(*inside, strict=True))) / r,
    )


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("high", [180, 43])  # with 43 outputs fall on real pictures' few values
def test_precision_recall_density_and_coverage_as_published(k: int, high: int) -> None:
    outputs, real = some(9, 3, low=40, high=high), some(13, 4, low=38, high=high)
    outputs[4], outputs[5], real[7] = real[2], real[2], real[3]  # ties at zero
    found = manifold(outputs, real, k)
    four = (found.precision, found.recall, found.density, found.coverage)
    assert four == pytest.approx(by_hand(outputs, real, k), abs=1e-12)
    assert (found.neighbours, found.counts) == (k, (9, 13))


@pytest.mark.parametrize("chunk", [1, 4])
def test_the_size_of_a_chunk_changes_nothing(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    outputs, real = some(11, 3, low=40, high=60), some(14, 4, low=38, high=60)
    whole = manifold(outputs, real)
    monkeypatch.setattr(distance, "CHUNK", chunk)
    assert manifold(outputs, real) == whole


def test_new_pictures_get_what_real_ones_get() -> None:
    # A family of two free numbers, as colours of the upper and the lower half.
    every = some(900, 6)[:, :, :1, :1].repeat_interleave(4, 2).repeat_interleave(4, 3)
    every[:, :, 2:] = some(900, 7)[:, :1, :1, :1]
    every[:, 1:, :2] = every[:, :1, :2]
    train, held_out, new = every[:300], every[300:700], every[700:800]
    found = generalization(new, train, held_out)
    assert found["manifold"]["counts"] == found["of_real"]["counts"] == (100, 200)
    for key in ("precision", "recall", "density", "coverage"):
        assert found["manifold"][key] == pytest.approx(found["of_real"][key], abs=0.1)
    # Held against twice as many, the same outputs cover a smaller share.
    against_all = manifold(new, held_out)
    assert against_all.coverage < found["of_real"]["coverage"] - 0.15


# ------------------------------------------------------------------------- the denoising gap

# Errors on training and on held-out pictures, the ideal's on these, variance; broken: 0 stands for
# less than half where the share was not written down.
RUNS = [
    (0.00000, 0.58949, 0.59136, 0.59136, 0.0, "memorized"),  # showcase, one image, copied
    (0.00590, 0.45587, 0.59136, 0.59136, 0.0, "memorized"),  # 64 steps, copied
    (0.01837, 0.18310, 0.30052, 0.25581, 0.0, "memorized"),  # ten, 93 % copies
    (0.00661, 0.10527, 0.22284, 0.24048, 0.0, "memorized"),  # a hundred, 93 % copies
    (0.00268, 0.31433, 0.46040, 0.46040, 0.0, "memorized"),  # one, 30 steps, copied
    (0.02875, 0.05874, 0.22284, 0.24048, 1.0, "not yet learned"),  # a hundred, all broken
    (0.01660, 0.06614, 0.22284, 0.24048, 0.86, "not yet learned"),  # a hundred, 86 % broken
    (0.04366, 0.06990, 0.16344, 0.21491, 1.0, "not yet learned"),  # ten avatars, all broken
    (0.02913, 0.23174, 0.29688, 0.29688, 1.0, "not yet learned"),  # one photograph, all broken
    (0.07655, 0.12076, 0.29688, 0.31554, 1.0, "not yet learned"),  # two, all broken
    (0.02448, 0.02324, 0.01818, 0.20893, 0.99, "not yet learned"),  # 3,000, a tenth of the steps
    (0.3066, 0.2980, 0.3381, 0.3381, 1.0, "not yet learned"),  # one, after 4 steps
    (0.1128, 0.1426, 0.1886, 0.1818, 1.0, "not yet learned"),  # ten, after 15
    (0.0595, 0.0614, 0.1275, 0.1716, 1.0, "not yet learned"),  # a hundred, after 120
    (0.00772, 0.00778, 0.01818, 0.20893, 0.0, "generalizing"),  # 3,000 avatars, new faces
    (0.0061, 0.0070, 0.0190, 0.209, 0.0, "generalizing"),
    (0.0083, 0.0089, 0.0300, 0.209, 0.0, "generalizing"),  # 1,000
    (0.01655, 0.01625, 0.04597, 0.16564, 0.0, "generalizing"),  # 10,000 people, 95 % new
    # Not seen yet: on the way from new pictures to copies; worse on new ones than the ideal.
    (0.0030, 0.0090, 0.0300, 0.209, 0.0, "between"),
    (0.0060, 0.0080, 0.0070, 0.209, 0.0, "between"),
    (0.00955, 0.03363, 0.09897, 0.16564, 0.0, "between"),  # 300 people, 69 % new
]


def plateau(train: float, held_out: float, ideal: float, *others: Level) -> list[Level]:
    noise = ((0, 0.006), (278, 0.43), (653, 0.86))
    return [Level(t, level, train, held_out, 0.0, ideal) for t, level in noise] + list(others)


@pytest.mark.parametrize(("train", "held_out", "ideal", "variance", "broken", "verdict"), RUNS)
def test_the_gap_is_called_by_what_was_seen_in_runs(
    train: float, held_out: float, ideal: float, variance: float, broken: float, verdict: str
) -> None:
    found = gap_verdict(plateau(train, held_out, ideal), broken, variance)
    assert (found.verdict, found.noise_level) == (verdict, 0.43)
    assert (found.train, found.held_out, found.ideal_held_out) == (train, held_out, ideal)
    assert found.variance == variance
    assert ("broken" in found.sentence) == (verdict == "not yet learned" and train <= ideal)
    # An error within rounding of zero is no reason to fail.
    exact = gap_verdict(plateau(0.0, held_out, ideal), broken)
    assert exact.verdict == "memorized" and exact.sentence


def test_it_is_said_in_the_middle_of_the_plateau() -> None:
    def level(noise: float, ideal: float) -> Level:
        # Nearly clean, whoever hands back what it is given is right about all pictures.
        return Level(0, noise, noise**2 / 10, noise**2 / 10, 0.0, ideal)

    of_one = [level(noise, 0.5) for noise in (0.01, 0.3, 0.6, 0.9, 1.0)]
    for levels in (of_one, of_one[::-1]):
        found = gap_verdict(levels, 0.0)
        assert found.noise_level == 0.6
    of_many = [level(0.01, 0.30), level(0.3, 0.31), level(0.6, 0.29), level(0.9, 0.1)]
    found = gap_verdict(of_many, 0.0)
    assert found.noise_level == 0.3


@pytest.mark.parametrize(("broken", "verdict"), [(0.49, "generalizing"), (0.5, "not yet learned")])
def test_a_family_that_noise_hides_is_learned_where_its_outputs_are_whole(
    broken: float, verdict: str
) -> None:
    """Photographs: whoever denoises them as well as can be has a large error."""
    found = gap_verdict(plateau(0.05, 0.05, 0.1), broken, variance=0.2)
    assert found.verdict == verdict
    none_whole = gap_verdict(plateau(0.3, 0.3, 0.2), 0.0)
    assert none_whole.verdict == "not yet learned"


# ------------------------------------------------------------------------------------- undefined


def nothing_but_numbers(found: object) -> bool:
    if isinstance(found, dict):
        return all(map(nothing_but_numbers, found.values()))
    if isinstance(found, Sequence) and not isinstance(found, str):
        return all(map(nothing_but_numbers, found))
    return found is None or type(found) in (float, int, str)


def test_the_entry_is_json() -> None:
    levels = plateau(0.001, 0.1, 0.2, Level(999, 1.0, None, None, None, None))
    found = generalization(some(20, 0), some(30, 1), some(40, 2), gap_verdict(levels, 0.0))
    assert list(found) == ["nearest", "manifold", "of_real", "gap", "agreement"]
    assert nothing_but_numbers(found) and json.dumps(found, allow_nan=False)
    assert found["gap"]["verdict"] == "memorized" and "100.0 times" in found["gap"]["sentence"]


def test_what_is_undefined_is_nothing() -> None:
    train = some(4, 6)
    assert nearness(values(), values(1.0)) is None and nearness(values(1.0), values()) is None
    alike = nearness(values(1.0, 1.0), values(1.0))
    assert alike.z is None and alike.ratio == 1
    at_zero = nearness(values(0.0), values(0.0))
    assert at_zero is not None and at_zero.ratio is None
    assert manifold(some(3, 7), some(5, 8)) is None and manifold(train[:0], some(9, 8)) is None
    few = manifold(some(5, 7), some(6, 8))
    assert few is not None and few.recall is None
    nothing = dict.fromkeys(("nearest", "manifold", "of_real", "gap", "agreement"))
    assert generalization(train, train, train[:0]) == nothing
    assert generalization(train, train[:0], train) == nothing
    assert generalization(train[:0], train, some(9, 8)) == nothing
    unknown = Level(500, 0.5, 0.1, None, 0.0, None)
    pure = Level(999, 1.0, 0.2, 0.2, 0.25, 0.24)  # the ideal knows nothing of either
    assert gap_verdict([unknown, pure], 0.0) is None
