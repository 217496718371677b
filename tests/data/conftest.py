"""What the tests of the data wing share: the emoji, drawn once."""

from __future__ import annotations

from pathlib import Path

import pytest

from byheart.data.sources import Pictures, emoji


@pytest.fixture(scope="session")
def emoji_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("emoji")


@pytest.fixture(scope="session")
def all_emoji(emoji_cache: Path) -> Pictures:
    return emoji(64, emoji_cache)
