"""What counts as a copy: known answers, and the promise that the training set's size bends none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.composing import composed
from torch import Tensor

from byheart.data.images import ImageSet, load_images
from byheart.measure.copying import (
    chance,
    judge,
    reference_distance,
    uniform_coverage,
)

SIZES = (1, 10, 100, 1000)


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """The pictures of the default settings: 1,000 to train on, and all that are held out."""
    images = composed("images=emoji").images
    return load_images(images, 1000, tmp_path_factory.mktemp("emoji"))


@pytest.fixture(scope="session")
def scale(emoji: ImageSet) -> float:
    return reference_distance(emoji.held_out)


def grey(*values: int) -> Tensor:
    """One even 4 x 4 image for each value: distances between them are differences / 255."""
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def noisy(images: Tensor, sigma: float | Tensor, seed: int) -> Tensor:
    """Gaussian noise of `sigma` on images in [0, 1], as 8 bits again."""
    draws = torch.Generator().manual_seed(seed)
    noise = torch.randn(images.shape, generator=draws) * sigma
    return ((images / 255 + noise) * 255).round().clamp(0, 255).to(torch.uint8)


# -------------------------------------------------------------------------------------- by hand


def test_the_reference_distance_is_the_median_of_the_nearest_others() -> None:
    # To the nearest other: 10, 10, 15, 30 and 30 -> of all five the median is 15.
    assert reference_distance(grey(0, 10, 25, 100, 130)) == 15 / 255
    assert reference_distance(grey(0, 51)) == 0.2
    assert reference_distance(grey(0, 10, 100, 130)) == pytest.approx(20 / 255)  # (10 + 30) / 2
    assert reference_distance(grey(130, 0, 100, 25, 10)) == 15 / 255


@pytest.mark.parametrize("held_out", [grey(), grey(1)])
def test_fewer_than_two_images_have_no_reference_distance(held_out: Tensor) -> None:
    with pytest.raises(ValueError, match="need two"):
        reference_distance(held_out)


def test_equal_images_have_no_reference_distance() -> None:
    with pytest.raises(ValueError, match="equal in pairs"):
        reference_distance(grey(7, 7, 9, 9))


def test_a_copy_is_within_a_third_and_nearer_than_any_held_out_image() -> None:
    train, held_out = grey(0, 100), grey(30, 200)
    #               exact, copied, at the third, past it, nearer to 30, nearer to 100 than to 200
    verdicts = judge(grey(100, 98, 10, 11, 29, 95), train, held_out, 30 / 255)
    assert verdicts.nearest.tolist() == [1, 1, 0, 0, 0, 1]
    assert (verdicts.rmse * 255).tolist() == pytest.approx([0, 2, 10, 11, 29, 5])
    assert (verdicts.held_out_rmse * 255).tolist() == pytest.approx([70, 68, 20, 19, 1, 65])
    assert verdicts.rho.tolist() == pytest.approx([0, 2 / 30, 1 / 3, 11 / 30, 29 / 30, 5 / 30])
    assert verdicts.exact.tolist() == [True] + [False] * 5
    assert verdicts.copied.tolist() == [True, True, True, False, False, True]


def test_an_output_as_near_to_a_held_out_image_is_no_copy() -> None:
    assert judge(grey(5, 4), grey(0), grey(10), 1.0).copied.tolist() == [False, True]


@pytest.mark.parametrize("train", [grey(50), grey(50, 50, 50), grey(50, 51, 50, 200)])
def test_exact_copies_are_copied_at_one_image_and_among_duplicates(train: Tensor) -> None:
    verdicts = judge(train[[0] * 8], train, grey(0, 90), 40 / 255)
    assert verdicts.copied.all() and verdicts.exact.all()
    assert verdicts.nearest.tolist() == [0] * 8 and verdicts.rmse.tolist() == [0.0] * 8


def test_a_uniform_copier_covers_what_dice_cover() -> None:
    assert uniform_coverage(1, 4) == 0.25
    assert uniform_coverage(2, 4) == 0.4375  # 1 - (3/4)²
    assert uniform_coverage(0, 4) == 0.0 and uniform_coverage(3, 1) == 1.0
    draws = np.random.default_rng(0).integers(0, 10, (20_000, 12))
    seen = np.mean([len(set(row)) / 10 for row in draws])
    assert uniform_coverage(12, 10) == pytest.approx(float(seen), abs=0.003)


def test_chance_lets_one_half_play_the_outputs() -> None:
    # Nearest others: 20, 20, 60, 40, 40, 60 -> reference 40; a copy is within 13.3 steps.
    held_out = grey(0, 20, 100, 160, 200, 255)
    # Outputs are 0, 100, 200; held out are 20, 160, 255.
    rate = chance(grey(5, 105, 150), held_out)
    assert (rate.hits, rate.count) == (2, 3)
    assert chance(grey(50), held_out).hits == 0
    assert chance(grey(12), held_out).hits == 1  # 0, 12 from the training image, 20 from the next
    assert chance(grey(12), grey(0, 8, 100, 160, 200, 255)).hits == 0  # here 8 is nearer


# ------------------------------------------------------------------------------ on real pictures


def test_the_emoji_have_the_reference_they_had(scale: float) -> None:
    assert 0.25 < scale < 0.31


@pytest.mark.parametrize("n", SIZES)
def test_a_copier_of_constant_quality_scores_the_same_at_every_n(
    emoji: ImageSet, scale: float, n: int
) -> None:
    chosen = torch.randint(n, (64,), generator=torch.Generator().manual_seed(n))
    rates = {}
    for sigma in (0.0, 0.02, 0.05, 0.15):
        outputs = noisy(emoji.train[chosen], sigma, seed=n)
        verdicts = judge(outputs, emoji.train[:n], emoji.held_out, scale)
        assert torch.equal(verdicts.nearest[verdicts.copied], chosen[verdicts.copied])
        rates[sigma] = float(verdicts.copied.double().mean())
    assert rates[0.0] == rates[0.02] == rates[0.05] == 1.0
    assert rates[0.15] <= 1 / 64


def test_adding_a_thousand_images_changes_no_verdict_on_noisy_copies(
    emoji: ImageSet, scale: float
) -> None:
    # From faithful to hopeless copies of the first image, the verdict turns somewhere between.
    sigma = torch.linspace(0.05, 0.2, 61)[:, None, None, None]
    outputs = noisy(emoji.train[[0] * 61], sigma, seed=0)
    alone = judge(outputs, emoji.train[:1], emoji.held_out, scale)
    assert 10 < alone.copied.sum() < 51
    for n in SIZES[1:]:
        among = judge(outputs, emoji.train[:n], emoji.held_out, scale)
        assert torch.equal(among.copied, alone.copied) and torch.equal(among.rmse, alone.rmse)


def test_real_pictures_the_model_never_saw_are_copied_at_chance(emoji: ImageSet) -> None:
    rates = {n: chance(emoji.train[:n], emoji.held_out) for n in SIZES}
    assert {n: rate.count for n, rate in rates.items()} == dict.fromkeys(SIZES, 193)
    assert [rates[n].hits for n in (1, 10)] == [0, 0]
    assert rates[100].hits <= 2 and rates[1000].hits <= 6


# -------------------------------------------------------------------------------------- property

IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(1), st.just(2), st.just(2)))


@settings(max_examples=100, deadline=None)
@given(IMAGES, IMAGES, IMAGES, IMAGES, st.floats(0.01, 1))
def test_adding_training_images_never_unmakes_a_copy(
    outputs: np.ndarray, train: np.ndarray, more: np.ndarray, held_out: np.ndarray, delta: float
) -> None:
    made, old, new, rest = map(torch.from_numpy, (outputs, train, more, held_out))
    before = judge(made, old, rest, delta)
    after = judge(made, torch.cat([old, new]), rest, delta)
    assert not (before.copied & ~after.copied).any()
    assert not (before.exact & ~after.exact).any()
    assert (after.rho <= before.rho).all()
    assert torch.equal(before.held_out_rmse, after.held_out_rmse)
