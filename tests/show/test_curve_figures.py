"""What each figure shows: every run its own point, the right number at the right n, no number no
point."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from support.sweep_pictures import finished_run, looked

from byheart.measure.intervals import wilson
from byheart.show.panels import figures
from byheart.show.plots import Panel, Point, Series, drawn
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
        n: int, captions: str = "shared", text: str = "", config: dict[str, Any] | None = None,
        **changes: Any,
    ) -> Finished:  # fmt: skip
        own = copy.deepcopy(measures) | {"n_images": n, "captions_mode": captions}
        for name, value in changes.items():
            *inner, last = name.split("__")
            place = own
            for key in inner:
                place = place[key]
            place[last] = value
        trajectory = [json.loads(line) for line in text.splitlines()]
        return Finished(Path(f"{captions}-{n}"), config or {}, own, trajectory)

    return make


def rate(hits: int, count: int = 8) -> dict[str, Any]:
    found = wilson(hits, count)
    return {"rate": found.rate, "low": found.low, "high": found.high, "count": count}


def one(panels: Sequence[Panel], label: str, title: str = "") -> Series:
    (found,) = [s for p in panels if title in p.title for s in p.series if s.label == label]
    return found


def xy(series: Series) -> list[tuple[float, float]]:
    return [(point.x, point.y) for point in series.points]


def blank(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: blank(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [blank(item) for item in tree]
    return tree if isinstance(tree, str) else None


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


def test_own_captions_have_a_line_under_unseen_prompts_and_one_under_captions(make: Make) -> None:
    run = make(
        10, "own", conditions__unseen__kinds__copied=rate(1),
        conditions__captions__kinds__copied=rate(7),
    )  # fmt: skip
    (panel,) = figures([run, make(10)])["curve"]
    assert xy(one([panel], "own captions, under unseen prompts")) == [(10, 1 / 8)]
    assert xy(one([panel], "own captions, under the training captions")) == [(10, 7 / 8)]
    shared = [s.label for s in panel.series if s.points and "one caption" in s.label]
    assert shared == ["one caption for all, under unseen prompts"]  # its caption names no image
    assert len(one([panel], "chance: unseen real pictures").points) == 2


def test_the_kinds_stand_beside_chance_and_the_controls(make: Make) -> None:
    run = make(10, conditions__empty__kinds__broken=rate(3))
    panels = figures([run])["kinds"]
    assert [p.title for p in panels] == [
        f"one caption for all: {name}"
        for name in ("unseen prompts", "the empty prompt", "the training captions")
    ]
    assert xy(one(panels, "broken", "empty")) == [(10, 3 / 8)]
    control = run.measures["controls"]["held_out"]
    found = one(panels, "control: held-out images, copied", "empty").points[0]
    assert (found.x, found.y) == (10, control["copied"])
    assert found.high == wilson(round(control["copied"] * 8), control["outputs"]).high
    assert one(panels, "control: ideal memorizer, copied", "unseen").points[0].y == 1.0


def test_coverage_is_of_the_condition_that_asks_for_the_images(make: Make) -> None:
    runs = [
        make(10, "own", conditions__captions__coverage=0.7, conditions__unseen__coverage=0.1),
        make(10, conditions__unseen__coverage=0.4, conditions__unseen__uniform_coverage=0.6),
    ]
    panels = figures(runs)["coverage"]
    assert xy(one(panels, "own captions, under the training captions")) == [(10, 0.7)]
    assert xy(one(panels, "one caption for all, under unseen prompts")) == [(10, 0.4)]
    assert xy(one(panels, "one caption for all, as many copies drawn uniformly")) == [(10, 0.6)]


def test_the_prompt_is_shown_under_what_was_asked_for(make: Make) -> None:
    effect = {"value": 0.2, "low": 0.1, "high": 0.3, "pairs": 4}
    led = {"value": 0.9, "low": 0.7, "high": 1.0, "pairs": 10, "chance": 0.1}
    own = make(10, "own", prompt_effect__captions=effect, steering=led)
    panels = figures([own, make(10, noise_effect__unseen=effect)])["prompt"]
    captions = "own captions, under the training captions"
    assert one(panels, captions, "Another prompt").points == (Point(10, 0.2, 0.1, 0.3),)
    assert one(panels, captions, "asked for").points == (Point(10, 0.9, 0.7, 1.0),)
    assert xy(one(panels, "chance", "asked for")) == [(10, 0.1)]
    assert xy(one(panels, "one caption for all, under unseen prompts", "Another noise")) == [
        (10, 0.2)
    ]


def test_the_denoising_gap_has_a_panel_for_each_mode_and_n(make: Make) -> None:
    panels = figures([make(1), make(10), make(10, "own"), make(10, seed=1)])["denoising"]
    assert [p.title for p in panels] == [
        "one caption for all, n = 1", "one caption for all, n = 10", "own captions, n = 10",
    ]  # fmt: skip
    assert xy(one(panels, "network, training images", "all, n = 10")) == [
        (0.5, 0.01), (1.0, 0.1), (0.5, 0.01), (1.0, 0.1),
    ]  # fmt: skip
    # One level has no error of held-out images; the ideal's 0 is a number.
    assert xy(one(panels, "network, held-out images", "own")) == [(0.5, 0.04)]
    assert xy(one(panels, "ideal memorizer, training images", "own")) == [(0.5, 0.0), (1.0, 0.1)]


def test_one_size_looks_the_same_wherever_it_stands(make: Make) -> None:
    runs = [make(1), make(10), make(10, "own"), make(100, "own")]
    for run in runs:
        run.trajectory.extend(json.loads(line) for line in looked(0, 1).splitlines())
    for name in ("tolerance", "trajectories"):
        looks: dict[str, set[Any]] = {}
        for panel in figures(runs)[name]:
            for s in panel.series:
                looks.setdefault(s.label, set()).add((s.colour, s.marker, s.line))
        assert {"n = 1", "n = 10", "n = 100"} <= set(looks)
        assert all(len(found) == 1 for found in looks.values()), name


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
    # It began between two looks.
    assert first.series[0].points == (Point(1, 10, 1, 10), Point(10, 10, censored=True))
    assert in_looks.series[0].points == (Point(1, 80.0, 8.0, 80.0), Point(10, 8.0, censored=True))
    assert "unseen prompts" in first.title and "unseen prompts" in steps.title


def test_without_trajectories_there_is_no_figure_of_them(make: Make) -> None:
    assert {"trajectories", "onset"}.isdisjoint(figures([make(1)]))


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


def test_captions_asked_for_have_their_own_panel_where_settings_vary(make: Make) -> None:
    runs = [make(10, mode, config={"captions.dropout": d})
            for mode in ("shared", "own") for d in (0.0, 0.5)]  # fmt: skip
    unseen, asked = figures(runs)["curve"]
    lines = [s.label for s in unseen.series if s.points]
    assert lines[:2] == [f"one caption for all, captions dropout {d}" for d in ("0", "0.5")]
    assert lines[2:4] == [f"own captions, captions dropout {d}" for d in ("0", "0.5")]
    assert [s.label for s in asked.series if s.points][:2] == lines[2:4]
    came, uniform = figures(runs)["coverage"]
    assert [s.label for s in came.series] == [s.label for s in uniform.series]
    values = [(p.x, p.y) for s in uniform.series for p in s.points]
    part = runs[0].measures["conditions"]["unseen"]
    assert values[0] == (10, part["uniform_coverage"])


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
        values = [{p.y for panel in which for s in panel.series for p in s.points}
                  for which in (panels, figures(runs)[name])]  # fmt: skip
        assert values[0] == values[1], name


# ------------------------------------------------------------------------------------- readability


def test_no_two_series_of_a_panel_differ_by_colour_alone(make: Make) -> None:
    runs = [
        make(n, mode, looked(0, 1))
        for n in (1, 3, 10, 30, 100, 300, 1000)
        for mode in ("shared", "own", "none", "random")
    ]
    for name, panels in figures(runs).items():
        for panel in panels:
            shown = [s for s in panel.series if s.points]
            for a, b in combinations(shown, 2):
                same = (a.marker, a.line, a.filled) == (b.marker, b.line, b.filled)
                # Of seven sizes two share a marker and a line: more kinds no one tells apart.
                sizes = {a.label, b.label} <= {f"n = {n:,}" for n in (1, 3, 300, 1000)}
                assert not same or sizes, (name, panel.title, a.label, b.label)
                assert not same or a.colour != b.colour


def test_many_settings_in_several_modes_are_told_apart(make: Make) -> None:
    runs = [
        make(n, mode, looked(0, 1), config={"captions.dropout": k / 10})
        for n in (1, 10)
        for mode in ("shared", "own", "none")
        for k in range(8)
    ]
    for name, panels in figures(runs).items():
        for panel in panels:
            shown = [s for s in panel.series if s.points]
            assert len({s.label for s in shown}) == len(shown)
            looks = {(s.colour, s.marker, s.line, s.filled) for s in shown}
            assert len(looks) == len(shown), (name, panel.title)
    (unseen, _) = figures(runs)["curve"]
    of = {s.label: s for s in unseen.series if s.points}
    for k in range(8):
        mine = [of[f"{mode}, captions dropout {k / 10:g}"]
                for mode in ("one caption for all", "own captions", "no captions")]  # fmt: skip
        assert len({s.colour for s in mine}) == 1 and len({s.line for s in mine}) == 3


def test_a_label_looks_the_same_in_all_panels_of_a_figure(make: Make) -> None:
    runs = [make(n, mode, looked(0, 1)) for n in (1, 10) for mode in ("shared", "own", "none")]
    for name, panels in figures(runs).items():
        looks: dict[str, Any] = {}
        for s in (s for p in panels for s in p.series if s.points):
            assert looks.setdefault(s.label, (s.colour, s.marker, s.line)) == (
                s.colour, s.marker, s.line,
            ), (name, s.label)  # fmt: skip


# --------------------------------------------------------------------------------- what is missing


def test_where_nothing_is_known_there_is_no_figure(make: Make) -> None:
    run = make(1)
    run.measures.update(blank(run.measures) | {"n_images": 1, "captions_mode": "shared"})
    run.measures["ledger"]["memorized"] = {}
    assert figures([run]) == {}
    run.measures.update(dict.fromkeys(("chance", "controls", "steering", "prompt_effect")))
    run.measures["conditions"] = dict.fromkeys(("unseen", "empty", "captions"))
    run.measures.update(denoising=[], tolerance=[])
    assert figures([run]) == {}


def test_a_run_alone_and_a_run_of_another_mode_are_drawn(make: Make) -> None:
    for mode in ("shared", "random"):
        panels = figures([make(1, mode)])
        assert {"curve", "kinds", "coverage", "prompt", "denoising", "tolerance"} <= set(panels)
        assert drawn(panels["curve"])["svg"]


def test_what_another_version_left_is_a_key_error(make: Make) -> None:
    run = make(1)
    del run.measures["conditions"]["unseen"]["kinds"]["copied"]
    with pytest.raises(KeyError):
        figures([run])
