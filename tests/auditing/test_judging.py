"""Many outputs at once are judged as each alone, and from both sides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from byheart.auditing import judging
from byheart.auditing.judging import altered_copies, calibrate, judge_all, own_reference
from byheart.auditing.views import Looks, squares_only
from byheart.measure.kinds import KINDS, examine


def blobs(count: int, seed: int) -> Tensor:
    """Soft pictures of 32 pixels a side."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=draws)
    fine = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    return (fine * 255).round().to(torch.uint8)


def looks(images: Tensor) -> Looks:
    return Looks(images, squares_only(images))


TRAIN, HELD_OUT = blobs(20, 1), blobs(12, 2)


@pytest.mark.parametrize("piece", [1, 3])
def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    half = ((TRAIN[4:5].float() + TRAIN[9:10].float()) / 2).round().to(torch.uint8)
    outputs = torch.cat([TRAIN[:3], blobs(4, 3), HELD_OUT[:2], half])
    against = own_reference(TRAIN, HELD_OUT, "")
    whole = examine(outputs, TRAIN, against)
    monkeypatch.setattr(judging, "PIECE", piece)
    found = judge_all(outputs, TRAIN, against)
    outside = found.findings.outside
    for name, value in (vars(whole) | whole.outside).items():
        if name != "outside":
            same = outside[name] if name in outside else getattr(found.findings, name)
            assert torch.equal(same.nan_to_num(), value.nan_to_num()), name
    assert found.output[:3].tolist() == [0, 1, 2] and found.rmse[:3].tolist() == [0, 0, 0]
    assert (found.rmse[3:] > 0).all() and KINDS[int(found.findings.kind[-1])] == "blend"


def test_without_held_out_images_nothing_unseen_is_closer() -> None:
    against = own_reference(TRAIN, HELD_OUT[:0], "")
    found = judge_all(torch.cat([TRAIN[:2], HELD_OUT[:2]]), TRAIN, against).findings
    assert found.copied.tolist() == [True, True, False, False]
    assert found.held_out_rmse.isinf().all()
    noise = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    kinds = judge_all(noise, TRAIN, against).findings.kind.tolist()
    assert [KINDS[kind] for kind in kinds] == ["broken", "broken"]


def test_real_pictures_are_never_broken_by_the_reference_they_made() -> None:
    against = own_reference(TRAIN, HELD_OUT, "")
    kinds = judge_all(HELD_OUT, TRAIN, against).findings.kind.tolist()
    assert {KINDS[kind] for kind in kinds} == {"novel"}


def test_altered_copies_are_searched_where_asked_and_told_from_chance() -> None:
    seen, unseen = looks(TRAIN), looks(HELD_OUT)
    calibration = calibrate(seen, unseen, range(20))
    assert calibration.chance.count == 12 and calibration.chance.hits <= 2
    turned = TRAIN[4:5].transpose(2, 3)
    outputs = torch.cat([TRAIN[:3].flip(3), 255 - TRAIN[3:4] // 2, turned, blobs(4, 5)])
    asked = torch.ones(9, dtype=torch.bool)
    asked[1] = False
    found = altered_copies(looks(outputs), asked, seen, unseen, calibration)
    words = ["mirrored", "", "mirrored", "a negative", "mirrored along its diagonal"]
    assert found.kind[:5] == words
    assert found.nearest[[0, 2, 3, 4]].tolist() == [0, 2, 3, 4]
    assert found.rho[1].isinf() and float(found.rho[0]) < 1 / 3
    assert found.kind[5:].count("") >= 3  # chance lets one in twenty pass


def test_no_more_real_pictures_pass_a_search_than_may() -> None:
    seen, unseen = looks(TRAIN), looks(blobs(22, 4))  # 5 % lie between two of them
    calibration = calibrate(seen, unseen, range(20))
    found, _ = judging._searched(unseen, seen, lambda row: [])
    passing = [found[name].distance < limit for name, limit in calibration.tolerance.items()]
    assert int(torch.stack(passing).any(0).sum()) <= judging.FALSE * len(unseen)
    assert calibration.either.hits >= calibration.chance.hits and calibration.either.count == 22
    assert calibrate(seen, unseen.only([0, 1, 2]), range(20)).either.count == 0


def test_a_search_is_calibrated_without_an_images_own_near_duplicates() -> None:
    twins, none = looks(torch.cat([TRAIN, TRAIN])), looks(TRAIN[:0])
    apart = calibrate(twins, none, [*range(20), *range(20)])
    assert all(value > 0.05 for value in apart.reference.values())
    alone = calibrate(twins, none, range(40))
    assert alone.reference["whole"] < 0.01


def test_what_a_descriptor_finds_is_calibrated_on_held_out_pictures() -> None:
    """Descriptors of one family are alike (0.9 and more, where a paper's threshold is 0.75), and
    only what is more alike than held-out pictures ever are to a training picture is found."""
    draws = torch.Generator().manual_seed(0)
    common = torch.nn.functional.normalize(torch.randn(64, generator=draws), dim=0)

    def described(images: Tensor) -> Looks:
        noise = torch.randn(len(images), 64, generator=draws) / 8
        rows = torch.nn.functional.normalize(common + 0.3 * noise, dim=1)
        return Looks(images, squares_only(images), rows)

    seen, unseen = described(TRAIN), described(blobs(40, 4))
    assert float((unseen.descriptors @ seen.descriptors.T).min()) > 0.75
    calibration = calibrate(seen, unseen, range(20))
    assert calibration.either.hits <= 0.05 * 40 + 1
    outputs = described(blobs(6, 5))
    outputs.descriptors[2] = seen.descriptors[7]
    asked = torch.ones(6, dtype=torch.bool)
    found = altered_copies(outputs, asked, seen, unseen, calibration)
    assert found.kind[2] == "by the descriptor" and int(found.nearest[2]) == 7
    assert found.kind.count("by the descriptor") <= 2
