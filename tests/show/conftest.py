"""What the tests of this room share: a finished run, and runs of other numbers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sweep_pictures import finished_run

from byheart.runtime.files import Run
from byheart.show.runs import Finished


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Read it, never write to it."""
    return finished_run(tmp_path_factory.mktemp("base"))


@pytest.fixture
def make(base: Run) -> Callable[..., Finished]:
    """Runs with other numbers; `chance__rate=0` for measures["chance"]["rate"]."""

    def make(
        n: int, captions: str = "shared", text: str = "", config: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Finished:  # fmt: skip
        own = json.loads(base.file("measures.json").read_text("utf-8"))
        own |= {"n_images": n, "captions_mode": captions}
        for name, value in changes.items():
            *inner, last = name.split("__")
            place = own
            for key in inner:
                place = place[key]
            place[last] = value
        trajectory = [json.loads(line) for line in text.splitlines()]
        return Finished(Path(f"{captions}-{n}-{config}"), config or {}, own, trajectory)

    return make
