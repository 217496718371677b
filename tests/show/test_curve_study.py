"""The figure of a study: the right setting along x, a line for each n, the right numbers."""

from __future__ import annotations

from collections.abc import Callable

from support.sweep_pictures import rate

from byheart.show.plots import Panel, Series
from byheart.show.runs import Finished
from byheart.show.study import study

Make = Callable[..., Finished]


def series(panels: list[Panel], title: str, label: str) -> Series:
    (panel,) = [p for p in panels if p.title == title]
    (found,) = [s for s in panel.series if s.label == label]
    return found


def xy(found: Series) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in found.points]


def test_the_share_of_the_first_image_where_it_is_there_several_times(make: Make) -> None:
    def of(times: int, hits: int | None) -> Finished:
        share = None if hits is None else rate(hits)
        return make(5, config={"images.duplicates": times}, conditions__unseen__first_image=share)

    panels = study([of(1, 1), of(4, 4), of(16, None)])
    assert [p.title for p in panels][:2] == ["Copied", "Copies of the first image"]
    words = "one caption for all, n = 5"
    found = series(panels, "Copies of the first image", f"{words}, under unseen prompts")
    assert xy(found) == [(1, 1 / 8), (4, 4 / 8)]  # undefined is no point
    seen = series(panels, "Copies of the first image", f"{words}: its share of what is seen")
    assert xy(seen) == [(1, 1 / 5), (4, 4 / 8), (16, 16 / 20)]
    # Runs of before it was measured.
    older = [of(1, 1), of(4, 4)]
    for run in older:
        del run.measures["conditions"]["unseen"]["first_image"]
    assert "Copies of the first image" not in [p.title for p in study(older)]
    other = [make(5, config={"sample.guidance": d}) for d in (1, 4)]
    assert "Copies of the first image" not in [p.title for p in study(other)]


def test_of_several_settings_the_one_of_most_values_is_along_x(make: Make) -> None:
    runs = [
        make(10, config={"unet.preset": unet, "budget.steps": steps})
        for unet in ("tiny", "tuned") for steps in (100, 200, 400)
    ]  # fmt: skip
    panels = study(runs)
    assert (panels[0].x, panels[0].ticks) == ("optimizer steps", ("100", "200", "400"))
    assert [s.label for s in panels[0].series] == [
        f"n = 10, unet {unet}, under unseen prompts" for unet in ("tiny", "tuned")
    ]


def test_a_condition_that_was_not_measured_is_no_point(make: Make) -> None:
    runs = [make(10, "own", config={"sample.guidance": g}) for g in (1, 4)]
    runs[0].measures["conditions"]["captions"] = None
    runs[0].measures["prompt_effect"]["captions"] = None
    panels = study(runs)
    label = "own captions, n = 10, under the training captions"
    for title in ("Copied", "Training images that came out", "Broken"):
        assert [x for x, _ in xy(series(panels, title, label))] == [1], title
