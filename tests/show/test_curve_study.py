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
from byheart.show.panels import BY_MODE, studied, study
from byheart.show.plots import Panel, Series, drawn
from byheart.show.runs import Finished

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


def test_numbers_within_a_decade_have_places_side_by_side(make: Make) -> None:
    runs = [
        make(n, "own", {"sample.guidance": g}, copied=k + (n == 10), seed=seed)
        for n in (10, 100) for k, g in enumerate((1.0, 2.0, 8.0)) for seed in (0, 1)
    ]  # fmt: skip
    panels = study(runs)
    assert [p.title for p in panels] == [
        "Copied", "Training images that came out", "Another prompt, same noise", "Broken",
    ]  # fmt: skip
    assert all((p.x, p.ticks, p.log_x) == ("guidance", ("1", "2", "8"), False) for p in panels)
    found = series(panels, "Copied", "n = 10, under the training captions")
    assert xy(found) == [(k, (k + 1) / 8) for k in (0, 0, 1, 1, 2, 2)]
    assert found.points[0].high == wilson(1, 8).high
    assert xy(series(panels, "Copied", "n = 100, under the training captions"))[0] == (0, 0)
    assert drawn([p for p in panels if any(s.points for s in p.series)])["svg"]


def test_numbers_over_a_decade_stand_on_a_logarithmic_axis(make: Make) -> None:
    runs = [make(100, "shared", {"images.duplicates": d}) for d in (1, 3, 10, 30)]
    panels = study(runs)
    assert all(p.log_x and p.ticks == () for p in panels)
    label = "one caption for all, n = 100, under unseen prompts"
    assert [x for x, _ in xy(series(panels, "Copied", label))] == [1, 3, 10, 30]
    # From nothing on, no logarithm.
    runs = [make(100, "shared", {"captions.dropout": d}) for d in (0.0, 0.1, 1.0)]
    assert study(runs)[0].ticks == ("0", "0.1", "1")


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


def test_names_are_places_in_the_order_of_the_networks_sizes(make: Make) -> None:
    runs = [
        make(10, "shared", {"unet.preset": name}, copied=k, parameters=size)
        for k, (name, size) in enumerate((("small", 36), ("narrow", 3), ("tiny", 9)))
    ]
    panels = study(runs)
    assert panels[0].ticks == ("narrow", "tiny", "small")
    label = "one caption for all, n = 10, under unseen prompts"
    assert sorted(xy(series(panels, "Copied", label))) == [(0, 1 / 8), (1, 2 / 8), (2, 0)]


def test_captions_modes_are_studied_where_there_are_more_than_two(make: Make) -> None:
    runs = [make(n, mode, {}) for n in (1, 10) for mode in ("shared", "own")]
    assert studied(runs) is None and study(runs) == []
    for run in runs:
        run.measures["conditions"]["captions"]["kinds"]["copied"] = rate(8)
    runs += [make(n, "none", {}) for n in (1, 10)]
    panels = study(runs)
    assert panels[0].ticks == ("one caption for all", "own captions", "no captions")
    found = series(panels, "Copied", f"n = 10, {BY_MODE}")
    # Each as it is asked for: own captions under the training captions.
    assert sorted(xy(found)) == [(0, 3 / 8), (1, 1.0), (2, 3 / 8)]
    # Another setting comes first.
    runs.append(make(10, "shared", {"sample.guidance": 4.0}))
    runs[1].config["sample.guidance"] = 1.0
    assert studied(runs) == "sample.guidance"


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


def test_there_is_no_study_without_a_line(make: Make) -> None:
    assert study([make(1, "shared", {})]) == []
    # Steps that differ only as n does.
    assert study([make(n, "shared", {"budget.steps": 100 * n}) for n in (1, 10)]) == []
    # Halves of a source have their own figure.
    assert study([make(1, "shared", {"split": split}) for split in "ab"]) == []
    guided = [make(1, "shared", {"split": s, "sample.guidance": g}) for s in "ab" for g in (1, 4)]
    assert studied(guided) == "sample.guidance"
    assert [s.label for s in study(guided)[0].series] == [
        f"n = 1, half {split}, under unseen prompts" for split in "ab"
    ]


def test_a_condition_that_was_not_measured_is_no_point(make: Make) -> None:
    runs = [make(10, "own", {"sample.guidance": g}) for g in (1, 4)]
    runs[0].measures["conditions"]["captions"] = None
    runs[0].measures["prompt_effect"]["captions"] = None
    panels = study(runs)
    label = "own captions, n = 10, under the training captions"
    for title in ("Copied", "Training images that came out", "Broken"):
        assert [x for x, _ in xy(series(panels, title, label))] == [1], title
