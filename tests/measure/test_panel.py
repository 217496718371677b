"""The field's measures beside independent implementations and beside what is known by hand."""

from __future__ import annotations

import math
from itertools import pairwise

import imagehash
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from skimage.metrics import structural_similarity
from support.images import grey, noise
from torch import Tensor

from byheart.measure import distance
from byheart.measure import panel as room
from byheart.measure.alterations import noisy
from byheart.measure.distance import nearest
from byheart.measure.panel import Metric, panel

NAMES = ["ratio", "correlation", "ssim", "patch_max", "phash", "sscd"]


def pictures(count: int, side: int = 32, seed: int = 0) -> Tensor:
    """Smooth blots: their neighbouring pixels are alike, as a picture's are."""
    blots = []
    for image in noise(count, seed, side):
        soft = Image.fromarray(image.permute(1, 2, 0).numpy()).filter(ImageFilter.GaussianBlur(3))
        blots.append(torch.from_numpy(np.array(soft)).permute(2, 0, 1))
    values = torch.stack(blots).double()
    return ((values - values.mean()) * 6 + 128).clamp(0, 255).to(torch.uint8)


def stirred(images: Tensor, steps: float) -> Tensor:
    return noisy(images, steps / 255, torch.Generator().manual_seed(0))


def embed(images: Tensor) -> Tensor:
    """Descriptors of length 1: an image, centred, seen from 512 directions."""
    draws = torch.Generator().manual_seed(0)
    directions = torch.randn(512, images[0].numel(), generator=draws, dtype=torch.float64)
    seen = [directions @ (image.double().flatten() - 127.3) for image in images]
    return torch.stack([one / one.norm() for one in seen]).float()


def measured(
    name: str,
    outputs: Tensor,
    train: Tensor,
    held_out: Tensor | None = None,
    reference: float = 0.2,
) -> Metric | None:
    held_out = noise(3, 9, side=outputs.shape[-1]) if held_out is None else held_out
    closest = nearest(outputs, train).index
    return panel(outputs, train, held_out, closest, reference)[name]


def array(image: Tensor) -> np.ndarray:
    return image.numpy().astype(float)


def rmse(a: Tensor, b: Tensor) -> float:
    return float(np.sqrt(np.mean((array(a) - array(b)) ** 2))) / 255


# ---------------------------------------------------------------------------------------- ratio


def test_the_ratio_is_that_of_the_two_shortest_distances() -> None:
    outputs, train = noise(6, side=12), noise(9, 1, side=12)
    loop = [sorted(rmse(a, b) for b in train) for a in outputs]
    metric = measured("ratio", outputs, train, reference=0.01)
    assert metric.values.tolist() == pytest.approx([row[0] / row[1] for row in loop], abs=1e-12)
    by_hand = measured("ratio", grey(10, 24, 26, 200), grey(0, 100, 200), reference=0.3)
    expected = [10 / 90, 24 / 76, 26 / 74, 0]
    assert by_hand.values.tolist() == pytest.approx(expected, abs=1e-12)
    assert by_hand.passes["< 1/3"].tolist() == [True, True, False, True]


def test_near_duplicates_are_taken_out_before() -> None:
    # δ = 30 steps: whatever is within 10 of an image that stayed goes.
    def ratio(*train: int) -> float:
        return measured("ratio", grey(2), grey(*train), reference=30 / 255).values.item()

    assert ratio(0, 5, 100, 200) == pytest.approx(2 / 98)
    assert ratio(0, 10, 100, 200) == pytest.approx(2 / 98)
    assert ratio(0, 11, 100, 200) == pytest.approx(2 / 9)
    assert ratio(5, 0, 100, 200) == pytest.approx(3 / 98)  # of twins the first stays
    assert ratio(0, 8, 16, 100) == pytest.approx(2 / 14)  # 8 is gone, so 16 has no twin
    assert ratio(0, 0, 0, 100, 100, 200) == pytest.approx(2 / 98)


@pytest.mark.parametrize("train", [grey(0), grey(0, 100), grey(0, 5, 100), grey(0, 100, 0, 100)])
def test_with_fewer_than_three_different_images_there_is_no_ratio(train: Tensor) -> None:
    assert measured("ratio", grey(2), train, reference=30 / 255) is None
    assert measured("correlation", grey(2), train, reference=30 / 255) is not None


# ---------------------------------------------------------------------------------- correlation


def test_the_correlation_is_numpys() -> None:
    outputs, train = noise(5, side=12), noise(7, 1, side=12)
    outputs[0] = stirred(train[3:4], 15)[0]
    loop = [
        max(float(np.corrcoef(array(a).ravel(), array(b).ravel())[0, 1]) for b in train)
        for a in outputs
    ]
    metric = measured("correlation", outputs, train)
    assert metric.values.tolist() == pytest.approx(loop, abs=1e-12)
    assert metric.passes["> 0.95"].tolist() == [value > 0.95 for value in loop]
    assert metric.passes["> 0.95"].tolist() == [True] + [False] * 4


def test_the_correlation_of_two_patterns_at_right_angles_is_a_cosine() -> None:
    stripes = torch.ones(3, 4, 4)
    stripes[:, ::2] = -1
    bars = stripes.transpose(1, 2)
    train = (100 + 20 * stripes)[None].to(torch.uint8)
    outputs = torch.stack([100 + 20 * stripes + k * bars for k in (0, 6, 7, 20)]).to(torch.uint8)
    metric = measured("correlation", outputs, train)
    cosines = [20 / math.hypot(20, k) for k in (0, 6, 7, 20)]  # 1, 0.958, 0.944, 0.707
    assert metric.values.tolist() == pytest.approx(cosines, abs=1e-12)
    assert metric.passes["> 0.95"].tolist() == [True, True, False, False]


def test_an_even_image_has_no_correlation_and_never_passes() -> None:
    pictures_and_blank = torch.cat([noise(2, side=12), grey(7, side=12)])
    metric = measured("correlation", pictures_and_blank, noise(3, 1, side=12))
    assert metric.values.isnan().tolist() == [False, False, True]
    assert metric.passes["> 0.95"].dtype == torch.bool and not metric.passes["> 0.95"][2]
    # Among training images it is passed over, even where the best of the rest is negative.
    train = noise(1, side=12)
    values = measured("correlation", 255 - train, torch.cat([grey(7, side=12), train])).values
    assert values.tolist() == pytest.approx([-1], abs=1e-12)
    assert measured("correlation", noise(2, side=12), grey(0, 255, side=12)).values.isnan().all()


def test_the_correlation_of_large_images_stays_exact() -> None:
    # At this size N Σab is beyond 2^53: in float64 the last digits of the difference would go.
    image = grey(255, side=360)
    image[0, 0, 0, 0], image[0, 1, 5, 5] = 254, 254
    other = grey(255, side=360)
    other[0, 0, 0, 0], other[0, 1, 7, 7] = 254, 254
    numbers = 3 * 360 * 360
    expected = (1 / numbers - (2 / numbers) ** 2) / (2 / numbers - (2 / numbers) ** 2)
    assert measured("correlation", image, other).values.item() == pytest.approx(expected, rel=1e-12)


# ----------------------------------------------------------------------------------------- SSIM


def test_ssim_of_one_window_is_the_papers_formula() -> None:
    # 11 x 11 pixels hold one window of the paper, so the mean is one value a channel.
    steps = np.arange(-5, 6)
    weight = np.exp(-(steps[:, None] ** 2 + steps[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    a, b = noise(1, side=11), noise(1, 1, side=11)
    c1, c2 = 0.01**2, 0.03**2
    expected = []
    for x, y in zip(array(a[0]) / 255, array(b[0]) / 255, strict=True):
        mean_x, mean_y = (weight * x).sum(), (weight * y).sum()
        var_x = (weight * (x - mean_x) ** 2).sum()
        var_y = (weight * (y - mean_y) ** 2).sum()
        cov = (weight * (x - mean_x) * (y - mean_y)).sum()
        luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
        expected.append(luminance * (2 * cov + c2) / (var_x + var_y + c2))
    metric = measured("ssim", a, b)
    assert metric.values.tolist() == pytest.approx([np.mean(expected)], abs=1e-12)
    assert metric.passes == {}


def test_ssim_is_taken_against_the_nearest_image_by_rmse() -> None:
    train = pictures(4)
    outputs = stirred(train[[2, 0]], 10)
    for chosen in ([2, 0], [1, 3]):
        metric = panel(outputs, train, train, torch.tensor(chosen), 0.2)["ssim"]
        expected = [
            structural_similarity(
                outputs[k].permute(1, 2, 0).numpy(), train[j].permute(1, 2, 0).numpy(),
                channel_axis=2, data_range=255, gaussian_weights=True, use_sample_covariance=False,
            )
            for k, j in enumerate(chosen)
        ]  # fmt: skip
        assert metric.values.tolist() == pytest.approx(expected, abs=1e-9)


# ---------------------------------------------------------------------------------------- tiles


def by_tiles(a: Tensor, b: Tensor) -> float:
    edges = [a.shape[-1] * k // 4 for k in range(5)]
    return max(
        rmse(a[:, top:bottom, left:right], b[:, top:bottom, left:right])
        for top, bottom in pairwise(edges)
        for left, right in pairwise(edges)
    )


@pytest.mark.parametrize("side", [4, 15])
def test_the_tile_distance_and_its_reference_are_what_a_loop_gives(side: int) -> None:
    train, held_out = pictures(6, side), pictures(5, side, seed=2)
    outputs = torch.cat([stirred(train[:4], 20), pictures(4, side, seed=3)])
    loop = [min(by_tiles(a, b) for b in train) for a in outputs]
    others = [
        min(by_tiles(a, b) for k, b in enumerate(held_out) if k != j)
        for j, a in enumerate(held_out)
    ]
    metric = measured("patch_max", outputs, train, held_out)
    assert metric.values.tolist() == pytest.approx(loop, abs=1e-12)
    passes = [value / float(np.median(others)) <= 1 / 3 for value in loop]
    assert metric.passes["<= 1/3"].tolist() == passes
    assert not all(passes)


def test_a_third_of_the_reference_of_tiles_still_passes() -> None:
    held_out = grey(100, 130, 190)  # to the nearest other: 30, 30, 60 -> median 30
    metric = measured("patch_max", grey(10, 11, 4), grey(0), held_out)
    assert metric.values.tolist() == pytest.approx([10 / 255, 11 / 255, 4 / 255])
    assert metric.passes["<= 1/3"].tolist() == [True, False, True]


def test_without_a_reference_of_tiles_there_is_nothing_to_pass() -> None:
    outputs, train = grey(1, 2), grey(0, 5)
    for held_out in (grey(), grey(9), grey(9, 9, 9, 9)):
        assert measured("patch_max", outputs, train, held_out) is None
    small = (grey(1, 2, side=3), grey(0, 5, side=3), grey(1, 9, side=3))
    assert measured("patch_max", *small) is None


# --------------------------------------------------------------------------------- hashes, SSCD


def test_the_hash_distance_is_imagehashs_own() -> None:
    train = pictures(5)
    other = pictures(1, seed=8).double()
    fade = [train[1] * (1 - k / 60) + other[0] * (k / 60) for k in range(61)]
    outputs = torch.cat([torch.stack(fade).to(torch.uint8), train])
    hashes = [
        [imagehash.phash(Image.fromarray(image.permute(1, 2, 0).numpy())) for image in images]
        for images in (outputs, train)
    ]
    loop = [min(int(a - b) for b in hashes[1]) for a in hashes[0]]
    metric = measured("phash", outputs, train)
    assert metric.values.tolist() == loop
    assert metric.passes["<= 10"].tolist() == [value <= 10 for value in loop]
    assert {0, 10, 12} <= set(loop)  # both sides of the threshold were seen


def test_the_cosine_is_the_largest_and_a_threshold_is_not_passed_by_meeting_it() -> None:
    directions = {0: (1, 0), 1: (0.5, 0.75**0.5), 2: (0.6, 0.8), 3: (0.8, 0.6), 4: (-0.6, 0.8)}

    def look(images: Tensor) -> Tensor:
        seen = [directions[int(image[0, 0, 0])] for image in images]
        return torch.tensor(seen, dtype=torch.float32)

    def cosines(train: Tensor) -> Metric:
        outputs = grey(0, 1, 2, 3, 4)
        metric = panel(outputs, train, grey(0, 9), torch.zeros(5, dtype=torch.long), 0.2, look)
        assert metric["sscd"] is not None
        return metric["sscd"]

    alone = cosines(grey(0))
    assert alone.values.tolist() == pytest.approx([1, 0.5, 0.6, 0.8, -0.6], abs=1e-7)
    assert alone.values[1] == 0.5
    assert alone.passes["> 0.5"].tolist() == [True, False, True, True, False]
    assert alone.passes["> 0.75"].tolist() == [True, False, False, True, False]
    assert list(alone.passes) == ["> 0.5", "> 0.6", "> 0.75"]
    best = cosines(grey(0, 4)).values.tolist()
    assert best == pytest.approx([1, 0.5, 0.6, 0.8, 1], abs=1e-7)


# ----------------------------------------------------------------------------------- all of them


def whole(outputs: Tensor, train: Tensor, held_out: Tensor) -> dict[str, Metric]:
    """The panel where every measure is defined."""
    found = panel(outputs, train, held_out, nearest(outputs, train).index, 0.2, embed)
    assert list(found) == NAMES
    return {name: metric for name, metric in found.items() if metric is not None}


def scene() -> tuple[Tensor, Tensor, Tensor]:
    train, held_out = pictures(8, 16), pictures(6, 16, seed=1)
    outputs = torch.cat([stirred(train[[3, 3, 0]], 25), pictures(4, 16, seed=2), grey(9, side=16)])
    return outputs, train, held_out


def same(a: dict[str, Metric], b: dict[str, Metric]) -> None:
    assert list(a) == list(b) == NAMES
    for name in NAMES:
        assert torch.equal(a[name].values.nan_to_num(-9), b[name].values.nan_to_num(-9)), name
        assert list(a[name].passes) == list(b[name].passes)
        for key, passes in a[name].passes.items():
            assert torch.equal(passes, b[name].passes[key]), (name, key)


def test_the_order_of_the_training_images_does_not_matter() -> None:
    outputs, train, held_out = scene()
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    same(whole(outputs, train, held_out), whole(outputs, train[order], held_out.flip(0)))


@pytest.mark.parametrize("chunk", [1, 3])
def test_the_size_of_a_chunk_changes_no_bit(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    expected = whole(*scene())
    monkeypatch.setattr(distance, "CHUNK", chunk)
    monkeypatch.setattr(room, "CHUNK", chunk)
    same(whole(*scene()), expected)


def test_what_one_training_image_and_no_weights_leave_defined() -> None:
    outputs, train, held_out = scene()
    nearest = torch.zeros(8, dtype=torch.long)
    for lacking, given in ((["ratio"], (embed,)), (["ratio", "sscd"], ())):
        found = panel(outputs, train[:1], held_out, nearest, 0.2, *given)
        assert [name for name, metric in found.items() if metric is None] == lacking
