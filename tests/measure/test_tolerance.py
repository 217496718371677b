"""The share of copies as the tolerance grows."""

from __future__ import annotations

import pytest
import torch
from support.setups import against
from torch import Tensor

from byheart.measure.copying import (
    TOLERANCES,
    judge,
    margin_curve,
    tolerance_curve,
    unseen_pictures,
)


def noise(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 4, 4), generator=draws, dtype=torch.uint8)


def grey(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def test_by_hand() -> None:
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
    train, held_out = noise(6, 0), noise(40, 1)
    outputs = torch.cat([train, noise(20, 2)])
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
