"""What the model is asked: every prompt with the same noises, no caption twice, none made up."""

from __future__ import annotations

from typing import Any

import pytest
from support.composing import composed

from byheart.data.prompts import CONDITIONS, Question, questions
from byheart.data.text import unseen_prompts
from byheart.model.conditioning import training_captions


def asked(*own: str, **changes: Any) -> list[Question]:
    """What pictures with these captions are asked."""
    config = composed(images__size=8, codec__patch=1, **changes)
    return questions(config, training_captions(config.captions, own))


def by_condition(asked: list[Question]) -> dict[str, dict[str, list[int]]]:
    table: dict[str, dict[str, list[int]]] = {}
    for question in asked:
        table.setdefault(question.condition, {}).setdefault(question.prompt, []).append(
            question.noise
        )
    return table


def test_every_prompt_is_asked_with_the_same_noises() -> None:
    table = by_condition(asked(
        "a dog", "a cat", "a dog", captions__mode="own", evaluate__prompts=5, evaluate__noises=3,
        evaluate__noises_alone=7, evaluate__caption_noises=2,
    ))  # fmt: skip
    assert list(table) == ["unseen", "empty", "captions"]
    assert table["unseen"] == {prompt: [0, 1, 2] for prompt in unseen_prompts()[:5]}
    assert table["empty"] == {"": [0, 1, 2, 3, 4, 5, 6]}
    assert table["captions"] == {"a dog": [0, 1], "a cat": [0, 1]}  # each text once


def test_a_condition_of_one_prompt_gets_the_noises_alone() -> None:
    made = asked("x", "y", evaluate__prompts=1, evaluate__noises=3, evaluate__noises_alone=5)
    assert by_condition(made) == {
        "unseen": {unseen_prompts()[0]: [0, 1, 2, 3, 4]},
        "empty": {"": [0, 1, 2, 3, 4]},
        "captions": {"an image": [0, 1, 2, 3, 4]},
    }


@pytest.mark.parametrize(
    ("most", "kept"),
    [(100, range(10)), (10, range(10)), (5, [0, 2, 4, 6, 8]), (3, [0, 3, 6]), (1, [0])],
)
def test_captions_are_capped_and_spread_over_all(most: int, kept: list[int]) -> None:
    own = [f"caption {k}" for k in range(10)]
    table = by_condition(asked(*own, captions__mode="own", evaluate__captions=most))
    assert list(table["captions"]) == [own[k] for k in kept]


@pytest.mark.parametrize("mode", ["none", "random"])
def test_where_training_knew_no_captions_none_are_asked(mode: str) -> None:
    assert {q.condition for q in asked("x", "y", captions__mode=mode)} == {"unseen", "empty"}


def test_the_questions_of_a_condition_stand_in_a_grid_of_prompts_and_noises() -> None:
    made = asked(
        *(f"caption {k % 7}" for k in range(10)), captions__mode="own", evaluate__prompts=4,
        evaluate__noises=3, evaluate__caption_noises=2,
    )  # fmt: skip
    conditions = [q.condition for q in made]
    assert conditions == sorted(conditions, key=CONDITIONS.index)
    for prompts, noises, name in ((4, 3, "unseen"), (1, 16, "empty"), (7, 2, "captions")):
        mine = [q for q in made if q.condition == name]
        grid = [mine[k : k + noises] for k in range(0, len(mine), noises)]
        assert len(grid) == len({row[0].prompt for row in grid}) == prompts
        for row in grid:
            assert [q.noise for q in row] == [*range(noises)]
            assert {q.prompt for q in row} == {row[0].prompt}
