"""Groups: what parts runs, what does not, and how each part is called."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from support.composing import composed

from byheart.runtime.files import flatten
from byheart.show.groups import (
    CHOICES,
    MODES,
    NAMES,
    YOUNGER,
    groups,
    said,
    settings,
    value_words,
    varied,
)
from byheart.show.panels import AXES
from byheart.show.runs import Finished

PLAIN: dict[str, Any] = flatten(
    OmegaConf.to_container(OmegaConf.structured(composed()))  # type: ignore[arg-type]
)


def run(path: str = "run", n: int = 1, mode: str = "shared", **changes: Any) -> Finished:
    config = PLAIN | {key.replace("__", "."): value for key, value in changes.items()}
    measures = {"n_images": n, "captions_mode": mode, "parameters": sum(config["unet.widths"])}
    return Finished(Path(path), config, measures, [])


def shape(preset: str, width: int) -> dict[str, Any]:
    return {
        "unet__preset": preset, "unet__widths": [width, 2 * width], "unet__heads": [width // 8, 1],
        "unet__groups": width // 4,
    }  # fmt: skip


# ------------------------------------------------------------------------------------- what parts


@pytest.mark.parametrize(
    ("key", "values", "words"),
    [
        ("captions__dropout", (0.0, 0.1), ["captions dropout 0", "captions dropout 0.1"]),
        ("sample__guidance", (1.0, 4.0), ["guidance 1", "guidance 4"]),
        ("images__size", (32, 64), ["32 px", "64 px"]),
        ("images__duplicates", (1, 30), ["first image × 1", "first image × 30"]),
        ("split", ("a", "b"), ["half a", "half b"]),
        ("split", ("none", "a"), ["half a", "without split"]),
        ("unet__pretrained", (None, "sd"), ["without unet.pretrained", "pretrained sd"]),
        ("fit__prediction", ("epsilon", "sample"), ["prediction epsilon", "prediction sample"]),
        ("budget__steps", (100, 1000), ["100 steps", "1,000 steps"]),
        ("fit__lr", (0.001, 0.002), ["fit lr 0.001", "fit lr 0.002"]),
        ("unet__zero_init", (False, True), ["without unet.zero_init", "with unet.zero_init"]),
        ("unet__widths", ([16, 32], [32, 64]), ["widths 16/32", "widths 32/64"]),
    ],
)
def test_a_setting_that_differs_parts_runs_and_is_named(
    key: str, values: tuple[Any, Any], words: list[str]
) -> None:
    runs = [run(str(k), **{key: value}) for k, value in enumerate(values)]
    found = groups(runs)
    assert [group.words for group in found] == [group.variant for group in found] == words
    assert sorted(r.path.name for group in found for r in group.runs) == ["0", "1"]
    assert varied(runs) == [key.replace("__", ".")]
    both = groups([*runs, *(run(f"own{k}", mode="own", **{key: v}) for k, v in enumerate(values))])
    assert [group.words for group in both] == [
        f"{MODES[mode][0]}, {w}" for mode in ("shared", "own") for w in words
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1}, {"run": "other"}, {"name": "other"}, {"root": "elsewhere"},
        {"tracker": "wandb"}, {"threads": 8}, {"sample__batch": 1}, {"fit__accumulate": 4},
        {"checkpoint__every": 5}, {"live__every": 0}, {"evaluate__prompts": 2},
        {"trajectory__points": 0}, {"trajectory__share": 0.5},
    ],
    ids=lambda changes: next(iter(changes)),
)  # fmt: skip
def test_what_changes_nothing_that_is_learned_parts_no_runs(changes: dict[str, Any]) -> None:
    (group,) = groups([run("a"), run("b", **changes), run("c", 10)])
    assert len(group.runs) == 3 and group.variant == ""
    assert (group.words, group.colour, group.marker, group.line) == MODES["shared"]


def test_every_setting_named_here_exists() -> None:
    known = {*PLAIN, *YOUNGER}
    assert {*NAMES, *CHOICES, *(key for keys in CHOICES.values() for key in keys)} <= known
    for axis in AXES.values():
        assert axis.along <= known


def test_without_settings_that_vary_each_mode_looks_as_ever() -> None:
    runs = [run(mode, n, mode) for n in (1, 10) for mode in MODES]
    found = groups(runs)
    looks = [(group.words, group.colour, group.marker, group.line) for group in found]
    assert looks == list(MODES.values())
    assert [group.asked for group in found] == ["unseen", "captions", "unseen", "unseen"]
    assert found[1].under == "own captions, under the training captions"


def test_what_follows_from_a_choice_is_not_said() -> None:
    tiny, small = shape("tiny", 32), shape("small", 64)
    large = shape("sd15", 320)
    runs = [run("large", **large), run("tiny", **tiny), run("small", **small)]
    assert varied(runs) == ["unet.preset"]
    # By size, not by letter.
    assert [g.words for g in groups(runs)] == ["unet tiny", "unet small", "unet sd15"]
    photos = {"images__source": "photos", "images__seed": 1025, "images__held_out": 8}
    assert varied([run("a"), run("b", **photos)]) == ["images.source"]


def test_what_a_preset_sets_besides_the_network_is_said() -> None:
    """Six times the steps at another rate is no matter of size."""
    tiny, small = shape("tiny", 32), shape("small", 64)
    runs = [run("a", **tiny), run("b", **small, fit__lr=1e-3, budget__steps=6000)]
    assert varied(runs) == ["unet.preset", "fit.lr", "budget.steps"]


def test_whose_weights_the_numbers_are_of_is_said_and_an_older_run_is_of_no_half() -> None:
    assert varied([run("a"), run("b", evaluate__weights="raw")]) == ["evaluate.weights"]
    older = run("old")
    older.config.pop("split", None)
    assert [len(g.runs) for g in groups([older, run("a", split="none")])] == [2]
    assert len(groups([older, run("a", split="a")])) == 2


def test_what_does_not_follow_is_said() -> None:
    tiny, small = shape("tiny", 32), shape("small", 64)
    runs = [run("a", **tiny), run("b", **small), run("c", **small, fit__lr=0.1)]
    assert varied(runs) == ["unet.preset", "fit.lr"]
    # Two settings of no common choice are both named, though they vary together.
    runs = [run("a"), run("b", sample__guidance=4.0, captions__dropout=0.5)]
    assert [g.words for g in groups(runs)][1] == "captions dropout 0.5, guidance 4"


def test_steps_or_looks_are_one_budget() -> None:
    runs = [run("a", budget__steps=1000), run("b", budget__steps=None, budget__exposures=80)]
    words = {group.words for group in groups(runs)}
    assert words == {"1,000 steps", "80 looks at each image"}
    assert varied(runs, AXES["steps"].along) == []


def test_a_run_of_an_older_version_has_no_say_in_what_came_later() -> None:
    old = run("old")
    for key in ("images.duplicates", "fit.clip"):
        old.config.pop(key, None)
    assert varied([old, run("new", images__duplicates=1)]) == []
    assert settings(old)["images.duplicates"] == 1
    found = groups([old, run("new", images__duplicates=4)])
    assert [g.words for g in found] == ["first image × 1", "first image × 4"]


# ----------------------------------------------------------------------------------- along an axis


def test_no_line_runs_through_what_its_axis_does_not_show() -> None:
    runs = [run(f"{n}-{s}", n, budget__steps=s) for n in (1, 10) for s in (100, 200)]
    for axis, words in (("n", ["100 steps", "200 steps"]), ("steps", ["n = 1", "n = 10"])):
        found = groups(runs, AXES[axis].along)
        assert [group.words for group in found] == words
        for group in found:
            for a, b in combinations(group.runs, 2):
                same = {k for k, v in settings(a).items() if v == settings(b)[k]}
                assert {*settings(a)} - same <= AXES[axis].along
    # A line at one n says which.
    (alone,) = groups(runs[:2], AXES["steps"].along)
    assert alone.words == "one caption for all, n = 1"


def test_a_line_through_captions_modes_holds_all_of_them() -> None:
    runs = [run(f"{n}{mode}", n, mode) for n in (1, 10) for mode in ("own", "none", "random")]
    found = groups(runs, frozenset({"captions.mode"}))
    assert [(group.words, len(group.runs)) for group in found] == [("n = 1", 3), ("n = 10", 3)]


def test_the_order_of_the_runs_changes_no_look() -> None:
    runs = [run(f"{g}{mode}", mode=mode, sample__guidance=g)
            for g in (8.0, 1.0, 2.0) for mode in ("own", "shared")]  # fmt: skip

    def looks(runs: list[Finished]) -> list[tuple[Any, ...]]:
        return [(g.words, g.colour, g.marker, g.line) for g in groups(runs)]

    assert looks(runs) == looks(runs[::-1])
    assert [words.split()[-1] for words, *_ in looks(runs)] == ["1", "2", "8"] * 2


# ---------------------------------------------------------------------------------------- in words


def test_a_long_value_is_shortened_from_its_front_unless_two_would_be_alike() -> None:
    one, two = "/models/a/" + "x" * 40, "/models/b/" + "x" * 40
    assert value_words(one, {one, None}) == "…" + "x" * 31
    assert {value_words(v, {one, two}) for v in (one, two)} == {one, two}
    words = said("unet.pretrained", one, {one, two})
    assert words == f"pretrained {one}"


def test_what_cannot_be_printed_is_a_question_mark() -> None:
    assert said("captions.shared", "a\x07b\u202e", ()) == "caption “a?b?”"
