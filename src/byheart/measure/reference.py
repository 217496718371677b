"""The yardstick: held-out pictures of the same source, the same for every training set."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import UInt8
from torch import Tensor

from byheart.measure.copying import reference_distance
from byheart.measure.effect import spread
from byheart.measure.traits import natural_ranges


@dataclass(frozen=True)
class Reference:
    """Held-out images and what they say of their source."""

    images: UInt8[Tensor, "h c s s"]
    distance: float  # median distance to the nearest other: how far apart neighbours are
    spread: float  # RMS distance of two different images
    ranges: dict[str, tuple[float, float]]  # of every trait, where real pictures lie
    source: str  # where they come from, as it stands in the report


def reference(images: UInt8[Tensor, "h c s s"], source: str) -> Reference:
    """ValueError: fewer than two images, or images that are all alike."""
    return Reference(
        images, reference_distance(images), spread(images), natural_ranges(images), source
    )
