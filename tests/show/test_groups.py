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
    settings,
    varied,
)
from byheart.show.runs import Finished
from byheart.show.values import AXES

PLAIN: dict[str, Any] = flatten(
    OmegaConf.to_container(OmegaConf.structured(composed()))  # type: ignore[arg-type]
)


def run(path: str = "run", n: int = 1, mode: str = "shared", **changes: Any) -> Finished:
    config = PLAIN | {key.replace("__", "."): value for key, value in changes.items()}
    measures = {"n_images": n, "captions_mode": mode, "parameters": sum(config["unet.widths"])}
    return Finished(Path(path), config, measures, [])


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
        {"seed": 1}, {"run": "other"}, {"name": "other"}, {"threads": 8}, {"sample__batch": 1},
        {"fit__accumulate": 4}, {"fit__non_finite": 1}, {"fit__gradient_checkpointing": True},
        {"checkpoint__every": 5}, {"evaluate__prompts": 2}, {"trajectory__points": 0},
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


def test_whose_weights_the_numbers_are_of_is_said_and_an_older_run_is_of_no_half() -> None:
    assert varied([run("a"), run("b", evaluate__weights="raw")]) == ["evaluate.weights"]
    # One image takes fewer evaluations by itself; that parts no curve. At the same n it does.
    one = run("a", n=1, sample__steps=4)
    assert varied([one, run("b", n=10, sample__steps=16)]) == []
    assert varied([one, run("b", n=1, sample__steps=16)]) == ["sample.steps"]
    older = run("old")
    older.config.pop("split", None)
    assert [len(g.runs) for g in groups([older, run("a", split="none")])] == [2]
    assert len(groups([older, run("a", split="a")])) == 2


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
