"""What counts as a copy: known answers, and the promise that the training set's size bends none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.images import grey, noise
from support.setups import against
from torch import Tensor

from byheart.data.images import ImageSet
from byheart.measure.alterations import jpeg, noisy
from byheart.measure.copying import (
    SENSES,
    TOLERANCES,
    Reference,
    chance,
    judge,
    margin_curve,
    reference_distance,
    tolerance_curve,
    uniform_coverage,
    unseen_pictures,
)
from byheart.measure.prompt_effect import spread

SIZES = (1, 10, 100, 1000)


@pytest.fixture(scope="module")
def scale(emoji: ImageSet) -> Reference:
    held_out = emoji.held_out
    return against(held_out, reference_distance(held_out), spread(held_out))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# -------------------------------------------------------------------------------------- by hand


def test_the_reference_distance_is_the_median_of_the_nearest_others() -> None:
    # To the nearest other: 10, 10, 15, 30 and 30 -> of all five the median is 15.
    assert reference_distance(grey(0, 10, 25, 100, 130)) == 15 / 255
    assert reference_distance(grey(0, 51)) == 0.2
    assert reference_distance(grey(0, 10, 100, 130)) == pytest.approx(20 / 255)  # (10 + 30) / 2
    assert reference_distance(grey(130, 0, 100, 25, 10)) == 15 / 255


@pytest.mark.parametrize(
    ("held_out", "words"),
    [(grey(), "need two"), (grey(1), "need two"), (grey(7, 7, 9, 9), "equal in pairs")],
)
def test_where_no_two_images_differ_there_is_no_reference_distance(
    held_out: Tensor, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        reference_distance(held_out)


def test_a_copy_is_within_a_third_and_nearer_than_any_held_out_image() -> None:
    train, held_out = grey(0, 100), grey(30, 200)
    #               exact, copied, at the third, past it, nearer to 30, nearer to 100 than to 200
    verdicts = judge(grey(100, 98, 10, 11, 29, 95), train, against(held_out, 30 / 255))
    assert verdicts.nearest.tolist() == [1, 1, 0, 0, 0, 1]
    assert (verdicts.rmse * 255).tolist() == pytest.approx([0, 2, 10, 11, 29, 5])
    assert (verdicts.held_out_rmse * 255).tolist() == pytest.approx([70, 68, 20, 19, 1, 65])
    assert verdicts.rho.tolist() == pytest.approx([0, 2 / 30, 1 / 3, 11 / 30, 29 / 30, 5 / 30])
    assert verdicts.exact.tolist() == [True] + [False] * 5
    assert verdicts.copied.tolist() == [True, True, True, False, False, True]
    # As near to a held-out image is no copy.
    assert judge(grey(5, 4), grey(0), against(grey(10), 1.0)).copied.tolist() == [False, True]


@pytest.mark.parametrize("train", [grey(50), grey(50, 50, 50), grey(50, 51, 50, 200)])
def test_exact_copies_are_copied_at_one_image_and_among_duplicates(train: Tensor) -> None:
    verdicts = judge(train[[0] * 8], train, against(grey(0, 90), 40 / 255))
    assert verdicts.copied.all() and verdicts.exact.all()
    assert verdicts.nearest.tolist() == [0] * 8 and verdicts.rmse.tolist() == [0.0] * 8


def test_a_uniform_copier_covers_what_dice_cover() -> None:
    assert uniform_coverage(1, 4) == 0.25
    assert uniform_coverage(2, 4) == 0.4375  # 1 - (3/4)²
    assert uniform_coverage(0, 4) == 0.0 and uniform_coverage(3, 1) == 1.0


def test_chance_lets_one_half_play_the_outputs() -> None:
    # Nearest others: 20, 20, 60, 40, 40, 60 -> reference 40; a copy is within 13.3 steps.
    def passing(train: Tensor, held_out: Tensor) -> tuple[int, int]:
        rate = chance(unseen_pictures(train, against(held_out, reference_distance(held_out))))
        return rate.hits, rate.count

    held_out = grey(0, 20, 100, 160, 200, 255)
    # Outputs are 0, 100, 200; held out are 20, 160, 255.
    assert passing(grey(5, 105, 150), held_out) == (2, 3)
    assert passing(grey(50), held_out) == (0, 3)
    assert passing(grey(12), held_out) == (1, 3)  # 0, 12 from the training image, 20 from the next
    assert passing(grey(12), grey(0, 8, 100, 160, 200, 255)) == (0, 3)  # here 8 is nearer


def test_the_margin_by_hand() -> None:
    # Between 0 and its nearest other, 100: at 0 it is 1, half-way 0, at 100 it is -1.
    train, held_out = grey(0, 200), grey(100)
    verdicts = judge(grey(0, 25, 50, 75), train, against(held_out, 1e-6, 1.0))
    assert verdicts.margin.tolist() == pytest.approx([1, 0.5, 0, -0.5])
    assert [SENSES[k] for k in verdicts.sense] == ["close", "no copy", "no copy", "no copy"]
    # Training images nearer than a third of the reference distance to the closest are it again.
    twins = judge(grey(0), grey(0, 9, 200), against(held_out, 30 / 255, 1.0))
    assert twins.margin.tolist() == pytest.approx([1])
    # Nothing else in the world: no margin, and no copy but a close one.
    alone = judge(grey(0, 50), grey(0), against(grey(), 30 / 255, 1.0))
    assert alone.margin.isnan().all() and alone.copied.tolist() == [True, False]


def test_noise_keeps_the_margin_and_another_mouth_is_no_noise() -> None:
    train, held_out = noise(12, side=16, low=96, high=160).split(6)  # low contrast: neighbours near
    reference = against(held_out, 0.01, 1.0)
    verdicts = judge(noisy(train, 0.1, seeded(1)), train, reference)
    assert verdicts.margin.tolist() == pytest.approx([1.0] * 6, abs=0.25)
    assert [SENSES[k] for k in verdicts.sense] == ["distinct"] * 6
    changed = train.clone()
    changed[:, :, 8:12, 8:12] += 60  # as large a difference, all in one place
    verdicts = judge(changed, train, reference)
    assert (verdicts.margin > 0.8).all() and not verdicts.copied.any()


def test_what_a_jpeg_file_leaves_of_a_picture_is_a_copy_of_it(
    emoji: ImageSet, scale: Reference
) -> None:
    train = emoji.train[:40]
    for quality in (90, 50):
        assert judge(jpeg(train, quality), train, scale).copied.all()
    unseen = jpeg(emoji.held_out[:40], 50)
    assert judge(unseen, train, scale, own=torch.arange(40)).copied.sum() <= 1


def test_a_held_out_image_is_not_compared_with_itself() -> None:
    held_out = grey(0, 40, 100)
    verdicts = judge(held_out, grey(95), against(held_out, 1.0), own=torch.arange(3))
    assert (verdicts.held_out_rmse * 255).tolist() == pytest.approx([40, 40, 60])
    assert verdicts.copied.tolist() == [False, False, True]


# ------------------------------------------------------------------------------------ the curves


def test_the_share_within_a_tolerance_by_hand() -> None:
    # rho 0, 0.5 and 1.5; the last is nearer to the held-out 200 than to its training image.
    reference = against(grey(165, 200), 20 / 255)
    verdicts = judge(grey(100, 110, 160), grey(100, 130), reference)
    curve = {point["tau"]: point for point in tolerance_curve(verdicts, None, reference)}
    assert curve[0.0]["copied"] == pytest.approx(1 / 3)
    assert curve[0.45]["copied"] == pytest.approx(1 / 3)
    assert curve[0.5]["copied"] == pytest.approx(2 / 3)
    assert curve[1.5]["copied"] == pytest.approx(2 / 3)
    assert curve[1.5]["within"] == 1
    assert curve[0.5]["rmse"] == pytest.approx(10 / 255)
    assert curve[0.5]["chance"] is None and curve[0.5]["chance_within"] is None


def test_the_curve_never_falls_and_passes_the_criterion() -> None:
    train, held_out = noise(6, 0, side=4), noise(40, 1, side=4)
    outputs = torch.cat([train, noise(20, 2, side=4)])
    reference = against(held_out, 0.5)
    verdicts = judge(outputs, train, reference)
    curve = tolerance_curve(verdicts, unseen_pictures(train, reference), reference)
    for key in ("copied", "chance", "within", "chance_within"):
        values = [point[key] for point in curve]
        assert values == sorted(values)  # type: ignore[type-var]
    assert all(point["copied"] <= point["within"] for point in curve)  # type: ignore[operator]
    share = float(verdicts.copied.double().mean())
    below = max(t for t in TOLERANCES if t <= 1 / 3)
    above = min(t for t in TOLERANCES if t >= 1 / 3)
    at = {point["tau"]: point["copied"] for point in curve}
    assert at[below] <= share <= at[above]  # type: ignore[operator]


def test_the_share_that_reaches_a_margin_by_hand() -> None:
    # Margins 1, 0.5, 0 and -0.5 between the training image 0 and the held-out 100.
    reference = against(grey(100), 1e-6, 1.0)
    verdicts = judge(grey(0, 25, 50, 75), grey(0), reference)
    curve = {point["margin"]: point for point in margin_curve(verdicts, None, reference)}
    assert [curve[m]["copied"] for m in (-1.0, -0.5, 0.0, 0.05, 0.5, 0.8, 1.0)] == [
        1.0, 1.0, 0.75, 0.5, 0.5, 0.25, 0.25,
    ]  # fmt: skip
    # Farther than half the spread from the training image it is none of it, whatever the margin.
    near = against(grey(100), 1e-6, 40 / 255)
    assert margin_curve(verdicts, None, near)[0]["copied"] == 0.25
    assert curve[0.0]["chance"] is None


# ------------------------------------------------------------------------------ on real pictures


def test_the_emoji_have_the_reference_they_had(scale: Reference) -> None:
    assert 0.25 < scale.distance < 0.31


@pytest.mark.parametrize("n", SIZES)
def test_a_copier_of_constant_quality_scores_the_same_at_every_n(
    emoji: ImageSet, scale: Reference, n: int
) -> None:
    chosen = torch.randint(n, (64,), generator=seeded(n))
    rates = {}
    for sigma in (0.0, 0.02, 0.05, 0.1, 0.15):
        outputs = noisy(emoji.train[chosen], sigma, seeded(n))
        verdicts = judge(outputs, emoji.train[:n], scale)
        assert torch.equal(verdicts.nearest[verdicts.copied], chosen[verdicts.copied])
        rates[sigma] = float(verdicts.copied.double().mean())
    assert rates[0.0] == rates[0.02] == rates[0.05] == rates[0.1] == 1.0
    assert rates[0.15] >= 0.95  # by the distance alone none of them is


def test_adding_a_thousand_images_changes_no_verdict_on_what_is_close(
    emoji: ImageSet, scale: Reference
) -> None:
    # From faithful to hopeless copies of the first image, the verdict turns somewhere between.
    outputs = torch.cat([noisy(emoji.train[:1], 0.05 + 0.0025 * k, seeded(k)) for k in range(61)])
    close = against(scale.images, scale.distance)
    alone = judge(outputs, emoji.train[:1], close)
    assert 10 < alone.copied.sum() < 51
    for n in SIZES[1:]:
        among = judge(outputs, emoji.train[:n], close)
        assert torch.equal(among.copied, alone.copied) and torch.equal(among.rmse, alone.rmse)


def test_real_pictures_the_model_never_saw_are_copied_at_chance(
    emoji: ImageSet, scale: Reference
) -> None:
    rates = {n: chance(unseen_pictures(emoji.train[:n], scale)) for n in SIZES}
    assert {n: rate.count for n, rate in rates.items()} == dict.fromkeys(SIZES, 193)
    assert [rates[n].hits for n in (1, 10)] == [0, 0]
    assert rates[100].hits <= 2 and rates[1000].hits <= 6


# -------------------------------------------------------------------------------------- property

IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(1), st.just(2), st.just(2)))


@settings(max_examples=100, deadline=None)
@given(IMAGES, IMAGES, IMAGES, IMAGES, st.floats(0.01, 1))
def test_adding_training_images_never_unmakes_a_close_copy(
    outputs: np.ndarray, train: np.ndarray, more: np.ndarray, held_out: np.ndarray, delta: float
) -> None:
    made, old, new, rest = map(torch.from_numpy, (outputs, train, more, held_out))
    before = judge(made, old, against(rest, delta))
    after = judge(made, torch.cat([old, new]), against(rest, delta))
    assert not (before.copied & ~after.copied).any()
    assert not (before.exact & ~after.exact).any()
    assert (after.rho <= before.rho).all()
    assert torch.equal(before.held_out_rmse, after.held_out_rmse)
