"""What each figure shows: every run its own point, the right number at the right n, no number no
point."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from support.sweep_pictures import looked, rate

from byheart.measure.intervals import wilson
from byheart.show.panels import figures
from byheart.show.plots import Panel, Point, Series, _figure
from byheart.show.runs import Finished
from byheart.show.study import study
from byheart.show.trends import laws, lead, sentences

Make = Callable[..., Finished]


def one(panels: Sequence[Panel], label: str, title: str = "") -> Series:
    (found,) = [s for p in panels if title in p.title for s in p.series if s.label == label]
    return found


def xy(series: Series) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in series.points]


# ------------------------------------------------------------------------------------ right numbers


def test_the_curve_has_a_point_for_every_seed_with_its_interval(make: Make) -> None:
    key = "conditions__unseen__kinds__copied"
    runs = [
        make(1, **{key: rate(8)}),
        make(10, **{key: rate(5)}),
        make(10, seed=1, **{key: rate(2)}),
    ]
    series = one(figures(runs)["curve"], "one caption for all, under unseen prompts")
    expected = [Point(1, 1.0, wilson(8, 8).low, 1.0)]
    expected += [Point(10, k / 8, wilson(k, 8).low, wilson(k, 8).high) for k in (5, 2)]
    assert list(series.points) == expected


def test_the_kinds_are_piled_run_by_run(make: Make) -> None:
    run = make(10, conditions__empty__kinds__broken=rate(3))
    panels = figures([run])["kinds"]
    assert [p.title for p in panels] == [
        f"one caption for all: {name}"
        for name in ("unseen prompts", "the empty prompt", "the training captions")
    ]
    assert xy(one(panels, "broken", "empty")) == [(10, 3 / 8)]
    two = [make(10, conditions__unseen__kinds__novel=rate(k)) for k in (1, 2)]
    piled = figures(two)["curve"][0]
    assert [s.label for s in piled.series] == ["copied", "blend", "broken", "novel"]
    assert all(s.bar for s in piled.series) and xy(piled.series[3]) == [(10, 1 / 8), (10, 2 / 8)]
    assert [bool(s.hatch) for s in piled.series] == [False, False, True, False]


def test_coverage_is_of_the_condition_that_asks_for_the_images(make: Make) -> None:
    runs = [
        make(10, "own", conditions__captions__coverage=0.7, conditions__unseen__coverage=0.1),
        make(10, conditions__unseen__coverage=0.4, conditions__unseen__uniform_coverage=0.6),
    ]
    panels = figures(runs)["coverage"]
    assert xy(one(panels, "own captions, under the training captions")) == [(10, 0.7)]
    assert xy(one(panels, "one caption for all, under unseen prompts")) == [(10, 0.4)]
    assert xy(one(panels, "one caption for all, as many copies drawn uniformly")) == [(10, 0.6)]


def test_tolerance_is_drawn_for_every_n_beside_chance(make: Make) -> None:
    curve = [{"tau": t, "copied": t / 2, "chance": t / 4} for t in (0.0, 1.0, 2.0)]
    unknown = [point | {"chance": None} for point in curve]
    (panel,) = figures([make(1, tolerance=unknown), make(10, tolerance=curve)])["tolerance"]
    assert xy(one([panel], "n = 1")) == [(0, 0), (1, 0.5), (2, 1)]
    assert xy(one([panel], "unseen real pictures, largest n")) == [(0, 0), (1, 0.25), (2, 0.5)]
    (panel,) = figures([make(1, tolerance=unknown)])["tolerance"]
    assert one([panel], "unseen real pictures, largest n").points == ()


def test_bits_are_the_smallest_codecs(make: Make) -> None:
    def found(bits: int) -> dict[str, Any]:
        entry = {"bits": bits, "out_of_reach": 0, "bits_per_parameter": bits / 1000}
        return {"jpeg": entry, "webp": entry | {"bits": 2 * bits}}

    runs = [make(1, ledger__memorized=found(500)), make(10, ledger__memorized=found(0)),
            make(100, ledger__memorized={})]  # fmt: skip
    panels = figures(runs)["bits"]
    assert [xy(p.series[0]) for p in panels] == [[(1, 500), (10, 0)], [(1, 0.5), (10, 0.0)]]
    assert "bits" not in figures(runs[2:])


def test_trajectories_stand_against_steps_and_looks_and_say_when_copying_began(make: Make) -> None:
    runs = [
        make(1, text=looked(0, 0.75, 1)),
        make(10, text=looked(0, 0.25, exposures=0.8)),
        make(100),
    ]
    made = figures(runs)
    steps, seen = made["trajectories"]
    assert xy(one([steps], "n = 1")) == [(1, 0), (10, 0.75), (100, 1)]
    assert xy(one([seen], "n = 10")) == [(0.8, 0), (8, 0.25)]
    assert one([steps], "n = 1").points[1] == Point(10, 0.75, wilson(6, 8).low, wilson(6, 8).high)
    first, in_looks = made["onset"]
    assert (first.x, in_looks.x) == ("training images", "training images")
    assert (first.y, in_looks.y) == ("optimizer steps", "looks at each image")
    # Every look where it was, by what most outputs were.
    assert xy(one([first], "most often copied")) == [(1, 10), (1, 100)]
    assert xy(one([first], "most often broken")) == [(1, 1), (10, 1), (10, 10)]
    # It began between two looks.
    assert in_looks.series[0].points == (Point(1, 80.0, 8.0, 80.0), Point(10, 8.0, censored=True))
    assert "unseen prompts" in first.title and "unseen prompts" in steps.title


def test_the_curve_is_told_from_its_first_n_to_its_last(make: Make) -> None:
    def kinds(copied: int, novel: int, broken: int) -> dict[str, Any]:
        names = {"copied": copied, "novel": novel, "broken": broken, "blend": 0}
        return {name: rate(hits) for name, hits in names.items()}

    family = {"outputs": 4, "members": 3, "trained_on": 1, "near": 0.03, "family": 9, "nearest": []}
    few = {"conditions__unseen__kinds": kinds(8, 0, 0), "conditions__unseen__copied": rate(8)}
    many = {"conditions__unseen__kinds": kinds(1, 6, 1), "conditions__unseen__copied": rate(1)}
    outputs = {"conditions__unseen__outputs": 8}
    (said,) = lead([make(1, **few, **outputs), make(1000, possible=family, **many, **outputs)])
    first, last = said.split("; ")
    assert "1 picture" in first and "8 are copies" in first and "new" not in first
    for words in (
        "1,000 pictures",
        "1 is a copy",
        "6 are new",
        "1 is broken",
        "(of 4,",
        " 2 are such",
    ):
        assert words in last, words
    assert lead([make(10)]) == []  # one n is no curve


def test_the_laws_of_drawing_and_of_copying_go_through_their_own_looks(make: Make) -> None:
    def looks(n: int, copied_from: int | None) -> str:
        rows = [
            {"step": step, "exposures": 8 * step / n, "outputs": 8, "copied": float(copies),
             "broken": float(step < 100), "novel": float(step >= 100 and not copies), "blend": 0.0}
            for step in (10, 30, 90, 100, 300, 900, 1000, 3000, 9000)
            for copies in [copied_from is not None and step >= copied_from]
        ]  # fmt: skip
        return "".join(json.dumps(row) + "\n" for row in rows)

    runs = [
        make(n, text=looks(n, by)) for n, by in ((1, 100), (10, 1000), (100, 9000), (999, None))
    ]
    found = laws(runs)
    assert found["drawing"].exponent == pytest.approx(0, abs=0.02)
    assert found["copying"].exponent == pytest.approx(1, abs=0.15)
    drawing, copying = (one(figures(runs)["onset"][:1], f"{w} begins") for w in found)
    assert [p.x for p in drawing.points] == [1, 999] and [p.x for p in copying.points] == [1, 100]
    assert all(90 < p.y < 101 for p in drawing.points)
    assert drawing.marker == copying.marker == "" and drawing.line != copying.line
    novel = one(figures(runs)["onset"][:1], "most often novel")
    assert (999, 9000) in xy(novel) and (10, 300) in xy(novel) and (1, 100) not in xy(novel)
    told = sentences(runs)
    assert ["no longer broken" in words for words in told[:2]] == [True, False]
    assert ["are copies goes" in words for words in told[:2]] == [False, True]


def test_piled_bars_are_drawn_to_their_tops() -> None:
    series = [Series(str(k), (Point(0, 10), Point(1, 3)), "#000000", bar=True) for k in range(2)]
    figure = _figure([Panel("", "x", "y", tuple(series), log_x=False)], 1)
    assert figure.axes[0].get_ylim()[1] >= 20


# -------------------------------------------------------------------------- settings, either axis


def test_runs_of_other_settings_are_joined_by_no_line(make: Make) -> None:
    key = "conditions__unseen__kinds__copied"
    runs = [
        make(n, config={"sample.guidance": g}, **{key: rate(hits)})
        for n, g, hits in ((1, 1.0, 8), (1, 4.0, 7), (10, 1.0, 5), (10, 4.0, 2))
    ]
    (panel,) = figures(runs)["curve"]
    assert "under unseen prompts" in panel.title
    assert xy(one([panel], "guidance 1")) == [(1, 1.0), (10, 5 / 8)]
    assert xy(one([panel], "guidance 4")) == [(1, 7 / 8), (10, 2 / 8)]
    assert one([panel], "chance: unseen real pictures").line == ""  # of several kinds of runs
    for name, count in (("kinds", 6), ("denoising", 4), ("tolerance", 2)):
        titles = [p.title for p in figures(runs)[name]]
        assert len(set(titles)) == len(titles) == count, name


@pytest.mark.parametrize(
    ("against", "words", "xs"),
    [("steps", "optimizer steps", {10: (100, 400), 20: (100, 400)}),
     ("exposures", "looks at each image", {10: (80.0, 320.0), 20: (40.0, 160.0)})],
)  # fmt: skip
def test_against_a_budget_each_n_has_its_line(
    make: Make, against: str, words: str, xs: dict[int, tuple[float, ...]]
) -> None:
    runs = [
        make(n, steps=steps, exposures_per_image=8 * steps / n, config={"budget.steps": steps})
        for n in (10, 20)
        for steps in (100, 400)
    ]
    made = figures(runs, against=against)
    assert {"curve", "kinds", "coverage", "prompt"} <= set(made)
    assert not {"trajectories", "onset", "denoising", "tolerance", "study"} & set(made)
    assert {p.x for panels in made.values() for p in panels} == {words}
    for n, places in xs.items():
        assert tuple(p.x for p in one(made["curve"], f"n = {n}").points) == places
    assert one(made["curve"], "chance: unseen real pictures").line == ""
    # Against n the same runs have a line for each budget.
    curve = figures(runs)["curve"]
    assert [p.x for p in one(curve, "100 steps").points] == [10, 20]


def test_the_same_runs_have_the_same_values_against_either_axis(make: Make) -> None:
    runs = [make(n, mode, steps=100 * n) for n in (1, 10) for mode in ("shared", "own")]
    for name, panels in figures(runs, against="steps").items():
        # The curve has more to show where runs differ in n only.
        values = [{p.y for panel in which for s in panel.series for p in s.points
                   if name != "curve" or "copies of a training" in panel.title.lower()}
                  for which in (panels, figures(runs)[name])]  # fmt: skip
        assert values[0] == values[1], name


# ------------------------------------------------------------------------- the figure of a study


def test_the_share_of_the_first_image_where_it_is_there_several_times(make: Make) -> None:
    def of(times: int, hits: int | None) -> Finished:
        share = None if hits is None else rate(hits)
        return make(5, config={"images.duplicates": times}, conditions__unseen__first_image=share)

    panels = study([of(1, 1), of(4, 4), of(16, None)])
    assert [p.title for p in panels][:2] == ["Copied", "Copies of the first image"]
    words = "one caption for all, n = 5"
    found = one(panels, f"{words}, under unseen prompts", "Copies of the first image")
    assert xy(found) == [(1, 1 / 8), (4, 4 / 8)]  # undefined is no point
    seen = one(panels, f"{words}: its share of what is seen", "Copies of the first image")
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
        assert [x for x, _ in xy(one(panels, label, title))] == [1], title


# --------------------------------------------------------------------------------- what is missing


def test_what_another_version_left_is_a_key_error(make: Make) -> None:
    run = make(1)
    del run.measures["conditions"]["unseen"]["kinds"]["copied"]
    with pytest.raises(KeyError):
        figures([run])
