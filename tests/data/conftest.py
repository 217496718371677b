"""What the tests of the data wing share: settings, and the emoji drawn once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from byheart.data.sources import Pictures, emoji


@pytest.fixture(scope="session")
def emoji_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emoji")


@pytest.fixture(scope="session")
def all_emoji(emoji_cache: Path) -> Pictures:
    return emoji(64, emoji_cache)


@pytest.fixture
def settings() -> Callable[..., SimpleNamespace]:
    """The section `images` of a configuration: photographs, unless a test says otherwise."""

    def make(**changes: object) -> SimpleNamespace:
        plain = {"source": "photos", "size": 16, "seed": 0, "held_out": 0, "near_duplicate": 0.0}
        none = {"path": None, "repo": None, "unreadable": "refuse"}
        return SimpleNamespace(**(plain | none | changes))

    return make


@pytest.fixture
def noise_folder(tmp_path: Path) -> Path:
    """Ten pictures of noise, 00.png to 09.png, 8 x 8 pixels."""
    random = np.random.default_rng(0)
    for index in range(10):
        pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index:02}.png")
    return tmp_path
