"""The small sweep that the lesson's tests are about."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from support.lesson_runs import small_sweep


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it: it is swept once, whichever of pytest's processes needs it first."""
    base = tmp_path_factory.getbasetemp()
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "lesson"
    with FileLock(f"{place}.lock"):
        if not place.exists():
            small_sweep(place.with_name("lesson-sweep"))
            place.with_name("lesson-sweep").rename(place)
    return Path(shutil.copytree(place, tmp_path_factory.mktemp("lesson") / "root")) / "small"
