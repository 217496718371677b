"""Many outputs at once are judged as each alone, and from both sides."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from byheart.auditing import judging
from byheart.auditing.judging import altered_copies, calibrate, judge_all, own_reference
from byheart.auditing.views import search_views, squares_only
from byheart.measure.kinds import KINDS, examine


def blobs(count: int, seed: int) -> Tensor:
    """Soft pictures of 32 pixels a side."""
    draws = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 6, 6, generator=draws)
    fine = torch.nn.functional.interpolate(coarse, (32, 32), mode="bicubic").clamp(0, 1)
    return (fine * 255).round().to(torch.uint8)


TRAIN, HELD_OUT = blobs(20, 1), blobs(12, 2)


@pytest.mark.parametrize("piece", [1, 3, 128])
def test_pieces_change_nothing(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    outputs = torch.cat([TRAIN[:3], blobs(4, 3), HELD_OUT[:2]])
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
    assert (found.rmse[3:] > 0).all()


def test_a_blend_is_told() -> None:
    half = ((TRAIN[4].float() + TRAIN[9].float()) / 2).round().to(torch.uint8)[None]
    found = judge_all(half, TRAIN, own_reference(TRAIN, HELD_OUT, "")).findings
    assert KINDS[int(found.kind[0])] == "blend"


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


def test_a_copier_of_constant_quality_is_seen_alike_at_every_n() -> None:
    draws = torch.Generator().manual_seed(0)
    noisy = (TRAIN[:1] + torch.randn(8, *TRAIN.shape[1:], generator=draws) * 10).clamp(0, 255)
    for n in (1, 2, 20):
        against = own_reference(TRAIN[:n], HELD_OUT, "")
        assert judge_all(noisy.to(torch.uint8), TRAIN[:n], against).findings.copied.all()


def test_altered_copies_are_searched_where_asked_and_told_from_chance() -> None:
    seen, unseen = squares_only(TRAIN), squares_only(HELD_OUT)
    calibration = calibrate(TRAIN, HELD_OUT, list(range(20)), seen, unseen)
    assert calibration.chance.count == 12 and calibration.chance.hits <= 2
    turned = TRAIN[4:5].transpose(2, 3)
    outputs = torch.cat([TRAIN[:3].flip(3), 255 - TRAIN[3:4] // 2, turned, blobs(4, 5)])
    asked = torch.ones(9, dtype=torch.bool)
    asked[1] = False
    views = squares_only(outputs), seen, unseen
    found = altered_copies(outputs, asked, TRAIN, HELD_OUT, calibration, views)
    words = ["mirrored", "", "mirrored", "a negative", "mirrored along its diagonal"]
    assert found.kind[:5] == words
    assert found.nearest[[0, 2, 3, 4]].tolist() == [0, 2, 3, 4]
    assert found.rho[1].isinf() and float(found.rho[0]) < 1 / 3
    assert found.kind[5:].count("") >= 3  # chance lets one in twenty pass


def test_no_more_real_pictures_pass_a_search_than_may() -> None:
    unseen = blobs(22, 4)  # 5 % lie between two of them
    seen, others = squares_only(TRAIN), squares_only(unseen)
    calibration = calibrate(TRAIN, unseen, list(range(20)), seen, others)
    found = judging._searched(unseen, TRAIN, lambda row: [], judging.silent)
    found["view"], _ = search_views(others, seen, len(unseen))
    passing = [found[name].distance < limit for name, limit in calibration.tolerance.items()]
    assert int(torch.stack(passing).any(0).sum()) <= judging.FALSE * len(unseen)
    assert calibration.either.hits >= calibration.chance.hits and calibration.either.count == 22
    few = squares_only(unseen[:3])
    assert calibrate(TRAIN, unseen[:3], list(range(20)), seen, few).either.count == 0


def test_a_search_is_calibrated_without_an_images_own_near_duplicates() -> None:
    twins = torch.cat([TRAIN, TRAIN])
    group = [*range(20), *range(20)]
    views, none = squares_only(twins), squares_only(TRAIN[:0])
    apart = calibrate(twins, TRAIN[:0], group, views, none)
    assert all(value > 0.05 for value in apart.reference.values())
    alone = calibrate(twins, TRAIN[:0], list(range(40)), views, none)
    assert alone.reference["whole"] < 0.01
