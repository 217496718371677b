"""What held-out images say of their source."""

from __future__ import annotations

import pytest
import torch

from byheart.measure.copying import reference_distance
from byheart.measure.distance import rmse_matrix
from byheart.measure.kinds import natural_ranges, reference


def test_it_is_made_of_the_held_out_images_alone() -> None:
    draws = torch.Generator().manual_seed(0)
    images = torch.randint(256, (7, 3, 4, 4), generator=draws, dtype=torch.uint8)
    found = reference(images, "seven")
    assert found.distance == reference_distance(images)
    assert found.ranges == natural_ranges(images)
    apart = rmse_matrix(images, images).square().sum() / (7 * 6)
    assert found.spread == pytest.approx(float(apart.sqrt()))
    assert found.source == "seven"


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_are_no_reference(count: int) -> None:
    with pytest.raises(ValueError, match="two"):
        reference(torch.zeros(count, 3, 4, 4, dtype=torch.uint8), "")
