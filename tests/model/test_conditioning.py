"""Which caption an image is trained with, and what stands for a dropped one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from byheart.config import Captions
from byheart.model.batch import Batch
from byheart.model.conditioning import Conditioning, conditioning_for, training_captions

OWN = ("a fox", "a cup", "a fox")
ALL = slice(None)


def captions(mode: str) -> Captions:
    return Captions(mode=mode, shared="an image", dropout=0.1)


def rows_of(texts: list[str]) -> Tensor:
    """Vectors in which a text can be told: row k is full of k, the second word's place is empty."""
    rows = torch.arange(float(len(texts)))[:, None, None].repeat(1, 2, 3)
    rows[:, 1] = 0
    return rows


def built(mode: str) -> Conditioning:
    trained = training_captions(captions(mode), OWN)
    texts = list(dict.fromkeys(["", *trained, "something else"]))
    return conditioning_for(captions(mode), trained, texts, rows_of(texts))


def batch(image: list[int], drop: list[bool]) -> Batch:
    b = len(image)
    return Batch(
        torch.tensor(image), torch.zeros(b, dtype=torch.long), torch.zeros(b, 1, 1, 1),
        torch.tensor(drop),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("shared", ("an image",) * 3),
        ("own", OWN),
        ("none", ("",) * 3),
        ("random", ("",) * 3),
    ],
)
def test_the_mode_decides_the_captions(mode: str, expected: tuple[str, ...]) -> None:
    assert training_captions(captions(mode), OWN) == expected


@pytest.mark.parametrize(
    ("mode", "told"), [("shared", [1, 1, 1]), ("own", [1, 2, 1]), ("none", [0, 0, 0])]
)
def test_every_image_gets_its_captions_vectors(mode: str, told: list[int]) -> None:
    prompt = built(mode).prompt(batch([2, 1, 0, 1], [False] * 4), 0, 0, ALL)
    assert prompt[:, 0, 0].tolist() == [told[2], told[1], told[0], told[1]]
    assert torch.equal(prompt, rows_of([""] * 3)[prompt[:, 0, 0].long()])


@pytest.mark.parametrize("mode", ["shared", "own", "none", "random"])
def test_a_dropped_caption_is_the_empty_one(mode: str) -> None:
    conditioning = built(mode)
    empty = torch.full((2, 3), -5.0)
    conditioning.rows[0] = empty
    prompt = conditioning.prompt(batch([0, 1, 2], [True, False, True]), 0, 0, ALL)
    assert torch.equal(prompt[0], empty) and torch.equal(prompt[2], empty)
    assert torch.equal(prompt[1], empty) == (mode == "none")


@pytest.mark.parametrize("mode", ["own", "random"])
def test_parts_of_a_batch_have_the_vectors_they_have_in_the_whole(mode: str) -> None:
    whole = batch([0, 1, 2, 1, 0, 2], [False, True, False, False, True, False])
    conditioning = built(mode)
    full = conditioning.prompt(whole, 3, 4, ALL)
    for rows in (1, 2, 3):
        parts = [slice(k, k + rows) for k in range(0, 6, rows)]
        made = [conditioning.prompt(whole, 3, 4, part) for part in parts]
        assert torch.equal(torch.cat(made), full)


def test_random_captions_are_fresh_every_step_and_of_the_stated_scale() -> None:
    rows = torch.randn(7, 16, 64, generator=torch.Generator().manual_seed(0)) * 0.3
    rows[:, 10:] = 0  # padding
    texts = ["", *(f"text {k}" for k in range(6))]
    trained = training_captions(captions("random"), ("",) * 8)
    conditioning = conditioning_for(captions("random"), trained, texts, rows)
    # The root mean square of the numbers where words are, 0.3; padding does not count.
    assert conditioning.random_like == pytest.approx(float(rows[:, :10].square().mean().sqrt()))
    assert conditioning.random_like == pytest.approx(0.3, rel=0.05)
    whole = batch(list(range(8)), [False] * 8)
    one, again, other_step, other_seed = (
        conditioning.prompt(whole, seed, step, ALL)
        for seed, step in ((0, 0), (0, 0), (0, 1), (1, 0))
    )
    assert torch.equal(one, again)
    assert not torch.equal(one, other_step) and not torch.equal(one, other_seed)
    everything = torch.stack([one, other_step, other_seed]).flatten(0, 1).flatten(1)
    assert len(everything.unique(dim=0)) == 24
    assert float(everything.std()) == pytest.approx(0.3, rel=0.05)
    assert abs(float(everything.mean())) < 5 * 0.3 / everything.numel() ** 0.5
    assert float(torch.corrcoef(everything).fill_diagonal_(0).abs().max()) < 0.2
