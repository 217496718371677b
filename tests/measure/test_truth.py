"""The measure against truth, on every kind of pictures that a run may have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from support.composing import composed
from torch import Tensor

from byheart.data.images import load_images
from byheart.measure.truth import Row, truth

SOURCES = {
    "emoji": ("images=emoji",),
    "photos": ("images=photos",),
    "moods": ("images=avatars",),
    "critters": ("images=avatars", "images.style=critters", "images.held_out=300"),
    "pixel-art": ("images=avatars", "images.style=pixel-art", "images.size=16", "codec.patch=2",
                  "images.held_out=300"),
    "digits": (),
}  # fmt: skip
COUNTS = {"photos": 10, "emoji": 300, "moods": 1000, "critters": 300, "pixel-art": 300}
# Where the measure errs, and how far: 64 grey numbers leave noise of 0.1 little to be told by, as
# do 256 pixels, where JPEG's coarse squares exchange some figures as well; of three photographs
# that play the unseen ones two lie beyond the other three.
ERRS = {
    ("digits", "noise 0.1"): ("copied", 0.8),
    ("digits", "unseen"): ("novel", 0.8),
    ("pixel-art", "noise 0.1"): ("copied", 0.9),
    ("pixel-art", "JPEG 50"): ("copied", 0.9),
    ("pixel-art", "JPEG 75"): ("copied", 0.95),
    ("photos", "unseen"): ("copied", 0.0),
}


def pictures(source: str, cache: Path) -> tuple[Tensor, Tensor]:
    """Those to train on, and those held out."""
    if source == "digits":  # 1,797 scanned digits of 8 x 8
        grey = (load_digits().images / 16 * 255).round().astype(np.uint8)
        order = torch.randperm(len(grey), generator=torch.Generator().manual_seed(0))
        digits = torch.from_numpy(grey)[order, None].expand(-1, 3, -1, -1).contiguous()
        return digits[:1000], digits[1000:]
    images = load_images(composed(*SOURCES[source]).images, COUNTS[source], cache)
    return images.train, images.held_out


@pytest.fixture(scope="module", params=SOURCES)
def judged(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[int, list[Row]]]:
    train, held_out = pictures(request.param, tmp_path_factory.mktemp("truth"))
    sizes = {1, 10, len(train)}
    return request.param, {n: truth(train[:n], held_out, 0, count=50) for n in sizes}


def test_everything_is_called_what_it_is(judged: tuple[str, dict[int, list[Row]]]) -> None:
    source, tables = judged
    for n, rows in tables.items():
        for row in rows:
            kind, least = ERRS.get((source, row.made), ("", 0.0))
            assert row.shares[kind] >= least if kind else row.met, (source, n, row)
            assert sum(row.shares.values()) == pytest.approx(1)


def test_a_copier_of_constant_quality_scores_the_same_at_every_n(
    judged: tuple[str, dict[int, list[Row]]],
) -> None:
    source, tables = judged
    for made in ("exact", "noise 0.05", "noise 0.1", "JPEG 75", "JPEG 50"):
        rates = [row.shares["copied"] for rows in tables.values() for row in rows
                 if row.made == made]  # fmt: skip
        apart = max(rates) - min(rates)
        assert apart <= (0.12 if (source, made) in ERRS else 0.02), (source, made, rates)
