"""The share of copies as the tolerance grows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from byheart.measure.copying import TOLERANCES, judge, tolerance_curve, unseen_pictures


def noise(count: int, seed: int) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 4, 4), generator=draws, dtype=torch.uint8)


def grey(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).clone()


def test_by_hand() -> None:
    # rho 0, 0.5 and 1.5; the last is nearer to the held-out 200 than to its training image.
    verdicts = judge(grey(100, 110, 160), grey(100, 130), grey(165, 200), 20 / 255)
    curve = {point["tau"]: point for point in tolerance_curve(verdicts, None, 20 / 255)}
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
    verdicts = judge(outputs, train, held_out, 0.5)
    curve = tolerance_curve(verdicts, unseen_pictures(train, held_out), 0.5)
    for key in ("copied", "chance", "within", "chance_within"):
        values = [point[key] for point in curve]
        assert values == sorted(values)  # type: ignore[type-var]
    assert all(point["copied"] <= point["within"] for point in curve)  # type: ignore[operator]
    share = float(verdicts.copied.double().mean())
    below = max(t for t in TOLERANCES if t <= 1 / 3)
    above = min(t for t in TOLERANCES if t >= 1 / 3)
    at = {point["tau"]: point["copied"] for point in curve}
    assert at[below] <= share <= at[above]  # type: ignore[operator]
