"""What the tests of audited models share."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.pictures_for_audit import photographs, save_all


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of ten photographs, one with a caption. Read it, never write to it."""
    folder = save_all(tmp_path_factory.mktemp("photographs") / "train", photographs()[:10])
    (folder / "001.txt").write_text("a wall of bricks", encoding="utf-8")
    return folder
