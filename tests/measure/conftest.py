"""The pictures of the default settings."""

from __future__ import annotations

import pytest
from support.composing import composed

from byheart.data.images import ImageSet, load_images


@pytest.fixture(scope="session")
def emoji(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    """1,000 to train on, and all that are held out."""
    return load_images(composed("images=emoji").images, 1000, tmp_path_factory.mktemp("emoji"))
