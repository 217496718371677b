"""Windows that show the same, wherever and however they lie."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from byheart.auditing import matching as altered
from byheart.auditing.matching import SEARCHES, Matches, search

BY_NAME = {how.name: how for how in SEARCHES}


def pictures(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 8, 8, generator=draws)
    fine = interpolate(coarse, (96, 96), mode="bicubic").clamp(0, 1)
    return (fine * 255).round().to(torch.uint8)


TRAIN = pictures(12, 0)


def resized(images: Tensor, side: int) -> Tensor:
    small = interpolate(images.float(), (side, side), mode="bilinear", antialias=True)
    return small.round().to(torch.uint8)


def one(outputs: Tensor, name: str, result: str | None = None) -> Matches:
    return search(outputs, TRAIN, BY_NAME[name])[result or name]


def test_a_mirrored_and_recoloured_copy_is_the_whole_picture() -> None:
    found = one(TRAIN.flip(3) // 2 + 60, "whole")
    assert found.nearest.tolist() == [*range(12)] and found.mirrored.all()
    assert (found.distance < 0.1).all()
    upright = one(TRAIN, "whole")
    assert not upright.mirrored.any() and (upright.distance < 1e-3).all()


def test_a_crop_is_found_where_it_was_cut_and_if_mirrored_in_the_picture_as_it_is() -> None:
    crops = resized(TRAIN[:, :, 10:70, 24:84], 96)
    truth = torch.tensor([24 / 96, 10 / 96, 60 / 96, 60 / 96])
    for outputs, mirrored in ((crops, False), (crops.flip(3), True)):
        found = one(outputs, "crop")
        assert found.nearest.tolist() == [*range(12)] and (found.distance < 0.12).all()
        assert ((found.its_box - truth).abs() < 0.04).all()
        assert (found.box == torch.tensor([0.0, 0, 1, 1])).all()
        assert found.mirrored.tolist() == [mirrored] * 12


def test_a_shift_is_compared_over_all_that_is_left_of_it() -> None:
    moved = pictures(12, 1)
    moved[:, :, 12:, 24:] = TRAIN[:, :, :-12, :-24]
    found = one(moved, "part", "shift")
    assert found.nearest.tolist() == [*range(12)] and (found.distance < 0.15).all()
    truth = torch.tensor([0.25, 0.125, 0.75, 0.875])
    assert ((found.box - truth).abs() < 0.05).all()


def test_a_picture_pasted_into_another_is_found_with_its_box() -> None:
    ground = pictures(12, 2)
    ground[:, :, 30:72, 40:82] = resized(TRAIN, 42)
    found = one(ground, "inside")
    assert found.nearest.tolist() == [*range(12)] and (found.distance < 0.2).all()
    truth = torch.tensor([40, 30, 42, 42]) / 96
    assert ((found.box - truth).abs() < 0.05).all()


@pytest.mark.parametrize("name", [*BY_NAME])
def test_the_size_of_a_piece_changes_no_finding(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = torch.cat([TRAIN[:2].flip(3), pictures(3, 4)])
    whole = search(outputs, TRAIN, BY_NAME[name])
    for size, few in (("BYTES", 2**16), ("COLUMNS", 3), ("BLOCK", 2**12)):
        monkeypatch.setattr(altered, size, few)
    for key, found in search(outputs, TRAIN, BY_NAME[name]).items():
        assert torch.equal(found.nearest, whole[key].nearest)
        assert torch.allclose(found.distance, whole[key].distance, atol=1e-4)


@pytest.mark.parametrize("name", [*BY_NAME])
def test_mirroring_every_training_image_mirrors_what_is_found(name: str) -> None:
    outputs = torch.cat([TRAIN[:2].flip(3), TRAIN[2:4]])
    if name == "inside":
        outputs, alone = pictures(4, 4), resized(outputs, 40)
        outputs[:, :, 20:60, 30:70] = alone
    found, mirrored = (search(outputs, train, BY_NAME[name]) for train in (TRAIN, TRAIN.flip(3)))
    for key, one in found.items():
        other = mirrored[key]
        assert one.nearest.tolist() == other.nearest.tolist() == [0, 1, 2, 3]
        assert torch.allclose(one.distance, other.distance, atol=2e-3)
        assert one.mirrored.tolist() == [True, True, False, False]
        assert other.mirrored.tolist() == [False, False, True, True]


def test_an_image_is_not_compared_with_what_it_must_be_apart_from() -> None:
    found = search(TRAIN, TRAIN, BY_NAME["whole"], lambda row: [row])["whole"]
    assert (found.nearest != torch.arange(12)).all() and (found.distance > 0.1).all()
    alone = search(TRAIN[:1], TRAIN[:1], BY_NAME["crop"], lambda row: [0])["crop"]
    assert alone.distance.isinf().all()
