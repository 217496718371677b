"""Distances between 8-bit images: exact, and the same however they are computed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jaxtyping import TypeCheckError
from support.images import noise
from torch import Tensor

from byheart.measure import distance
from byheart.measure.distance import nearest, nearest_other, psnr, rmse_matrix


def test_a_call_with_shapes_that_do_not_fit_ends_while_tests_run() -> None:
    with pytest.raises(TypeCheckError):
        nearest(noise(2, side=5), noise(2, side=6))
    with pytest.raises(TypeCheckError):
        nearest(noise(2).float(), noise(2))


def by_hand(a: Tensor, b: Tensor) -> float:
    """One pair's RMSE in [0, 1], from a whole number of squared steps."""
    steps = int(((a.numpy().astype(int) - b.numpy().astype(int)) ** 2).sum())
    return math.sqrt(steps / a.numel()) / 255


def test_every_distance_is_exactly_what_a_loop_gives() -> None:
    outputs, images = noise(7), noise(11, 1)
    loop = [[by_hand(a, b) for b in images] for a in outputs]
    assert rmse_matrix(outputs, images).tolist() == loop
    match = nearest(outputs, images)
    assert match.rmse.tolist() == [min(row) for row in loop]
    assert match.index.tolist() == [row.index(min(row)) for row in loop]
    assert match.second.tolist() == [sorted(row)[1] for row in loop]
    others = [
        min(by_hand(a, b) for k, b in enumerate(images) if k != j) for j, a in enumerate(images)
    ]
    assert nearest_other(images).tolist() == others


@pytest.mark.parametrize("chunk", [1, 3, 1000])
def test_the_size_of_a_chunk_changes_no_bit(monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    outputs, images = noise(10, side=16), noise(13, 1, side=16)
    images[7] = outputs[4]
    images[9], images[12] = images[2], images[2]
    whole, others = nearest(outputs, images), nearest_other(images)
    matrix = rmse_matrix(outputs, images)
    monkeypatch.setattr(distance, "CHUNK", chunk)
    again = nearest(outputs, images)
    assert torch.equal(again.index, whole.index) and torch.equal(again.rmse, whole.rmse)
    assert torch.equal(again.second, whole.second)
    assert torch.equal(nearest_other(images), others)
    assert torch.equal(rmse_matrix(outputs, images), matrix)


def test_of_equally_near_images_the_first_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.full((1, 3, 4, 4), 100, dtype=torch.uint8)
    around = torch.cat([image + 50, image + 3, image - 3, image + 3, image])
    for chunk in (1, 2, 256):
        monkeypatch.setattr(distance, "CHUNK", chunk)
        match = nearest(image, around[:4])
        assert match.index.tolist() == [1] and match.second is not None
        assert match.rmse.tolist() == match.second.tolist() == [3 / 255]
        assert nearest(image, around).index.tolist() == [4]
        assert nearest(image, around[[4, 4, 4]]).index.tolist() == [0]
    crowd = around[torch.arange(1000) % 4]  # a sort that is not stable loses the order of many
    assert nearest(image, crowd).index.tolist() == [1]


def test_one_step_of_one_pixel_of_a_large_image_still_counts() -> None:
    image = noise(1, side=512)
    image[0, 1, 300, 200] = 100
    other = image.clone()
    other[0, 1, 300, 200] = 101
    expected = math.sqrt(1 / (3 * 512 * 512)) / 255
    assert nearest(image, other).rmse.tolist() == [expected] and expected > 0
    assert nearest_other(torch.cat([image, other])).tolist() == [expected, expected]
    white = torch.full_like(image, 255)  # the largest sums there are
    almost = white.clone()
    almost[0, 0, 0, 0] = 254
    assert nearest(white, almost).rmse.tolist() == [expected]


def test_decibels_of_known_distances() -> None:
    levels = psnr(torch.tensor([1.0, 0.1, 0.01, 0.5, 0.0], dtype=torch.float64)).tolist()
    assert levels[:3] == pytest.approx([0, 20, 40], abs=1e-12)
    assert levels[3] == pytest.approx(6.020599913279624)
    assert levels[4] == math.inf


def test_without_images_there_is_no_nearest() -> None:
    with pytest.raises(ValueError, match="no images"):
        nearest(noise(2), noise(0))
    for count in (0, 1):
        with pytest.raises(ValueError, match=f"^{count} image"):
            nearest_other(noise(count))


IMAGES = arrays(np.uint8, (3, 1, 2, 2)).map(torch.from_numpy)


@settings(max_examples=100, deadline=None)
@given(IMAGES)
def test_the_distance_is_a_metric(images: Tensor) -> None:
    matrix = rmse_matrix(images, images)
    assert torch.equal(matrix, matrix.T)
    for i in range(3):
        for j in range(3):
            assert (matrix[i, j] == 0) == torch.equal(images[i], images[j])
            assert 0 <= matrix[i, j] <= 1
            for k in range(3):
                assert matrix[i, k] <= matrix[i, j] + matrix[j, k] + 1e-12


@settings(max_examples=50, deadline=None)
@given(IMAGES, IMAGES, st.permutations(range(3)))
def test_the_order_of_the_images_does_not_matter(a: Tensor, b: Tensor, order: list[int]) -> None:
    assert torch.equal(nearest(a, b).rmse, nearest(a, b[order]).rmse)
    assert torch.equal(nearest(a[order], b).rmse, nearest(a, b).rmse[order])
