"""The figure of a study: the right setting along x, a line for each n, the right numbers."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.sweep_pictures import finished_run

from byheart.measure.intervals import wilson
from byheart.show.plots import Panel, Series
from byheart.show.runs import Finished
from byheart.show.study import study

Make = Callable[..., Finished]


@pytest.fixture(scope="module")
def measures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    run = finished_run(tmp_path_factory.mktemp("base"))
    found: dict[str, Any] = json.loads(run.file("measures.json").read_text("utf-8"))
    return found


@pytest.fixture
def make(measures: dict[str, Any]) -> Make:
    def make(
        n: int, mode: str, config: dict[str, Any], copied: int = 3, seed: int = 0, **more: Any
    ) -> Finished:
        own = copy.deepcopy(measures) | {"n_images": n, "captions_mode": mode, "seed": seed} | more
        for part in own["conditions"].values():
            part["kinds"]["copied"] = rate(copied)
            part.pop("first_image", None)
        return Finished(Path(f"{n}{mode}{config}{seed}"), config, own, [])

    return make


def rate(hits: int, count: int = 8) -> dict[str, Any]:
    found = wilson(hits, count)
    return {"rate": found.rate, "low": found.low, "high": found.high, "count": count}


def series(panels: list[Panel], title: str, label: str) -> Series:
    (panel,) = [p for p in panels if p.title == title]
    (found,) = [s for s in panel.series if s.label == label]
    return found


def xy(found: Series) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in found.points]


def test_the_share_of_the_first_image_where_it_is_there_several_times(make: Make) -> None:
    def of(times: int, hits: int | None) -> Finished:
        run = make(5, "shared", {"images.duplicates": times})
        for part in run.measures["conditions"].values():
            part["first_image"] = None if hits is None else rate(hits)
        return run

    panels = study([of(1, 1), of(4, 4), of(16, None)])
    assert [p.title for p in panels][:2] == ["Copied", "Copies of the first image"]
    words = "one caption for all, n = 5"
    found = series(panels, "Copies of the first image", f"{words}, under unseen prompts")
    assert xy(found) == [(1, 1 / 8), (4, 4 / 8)]  # undefined is no point
    seen = series(panels, "Copies of the first image", f"{words}: its share of what is seen")
    assert xy(seen) == [(1, 1 / 5), (4, 4 / 8), (16, 16 / 20)]
    # Runs of before it was measured.
    older = [make(5, "shared", {"images.duplicates": d}) for d in (1, 4)]
    assert "Copies of the first image" not in [p.title for p in study(older)]
    other = [make(5, "shared", {"sample.guidance": d}) for d in (1, 4)]
    assert "Copies of the first image" not in [p.title for p in study(other)]


def test_of_several_settings_the_one_of_most_values_is_along_x(make: Make) -> None:
    runs = [
        make(10, "shared", {"unet.preset": unet, "budget.steps": steps})
        for unet in ("tiny", "tuned") for steps in (100, 200, 400)
    ]  # fmt: skip
    panels = study(runs)
    assert (panels[0].x, panels[0].ticks) == ("optimizer steps", ("100", "200", "400"))
    assert [s.label for s in panels[0].series] == [
        f"n = 10, unet {unet}, under unseen prompts" for unet in ("tiny", "tuned")
    ]


def test_a_condition_that_was_not_measured_is_no_point(make: Make) -> None:
    runs = [make(10, "own", {"sample.guidance": g}) for g in (1, 4)]
    runs[0].measures["conditions"]["captions"] = None
    runs[0].measures["prompt_effect"]["captions"] = None
    panels = study(runs)
    label = "own captions, n = 10, under the training captions"
    for title in ("Copied", "Training images that came out", "Broken"):
        assert [x for x, _ in xy(series(panels, title, label))] == [1], title
