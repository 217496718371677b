"""Tensors computed once, and again when their file is damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from byheart.data.cache import stored


class Counting:
    """A computation that tells how often it was done: the number is its result."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> dict[str, Tensor]:
        self.times += 1
        return {"a": torch.full((4, 5), float(self.times)), "b": torch.arange(3)}


def test_what_was_computed_is_read_the_next_time(tmp_path: Path) -> None:
    compute = Counting()
    first = stored(tmp_path / "new" / "cache", ("word", "x"), compute)
    again = stored(tmp_path / "new" / "cache", ("word", "x"), compute)
    assert compute.times == 1
    assert first["a"].eq(1).all() and torch.equal(again["a"], first["a"])
    assert torch.equal(again["b"], torch.arange(3)) and again.keys() == {"a", "b"}
    (file,) = (tmp_path / "new" / "cache").iterdir()  # and nothing half beside it
    assert file.name.startswith("word-") and file.suffix == ".safetensors"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut short": lambda content: content[:-1],
    "empty": lambda content: b"",
    "garbage": lambda content: b"\xff" * len(content),
    "flipped": lambda content: bytes([content[0] ^ 1]) + content[1:],
    "lengthened": lambda content: content + b"more",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_computed_anew_and_mended(tmp_path: Path, damage: str) -> None:
    compute = Counting()
    stored(tmp_path, ("word", "x"), compute)
    (file,) = tmp_path.iterdir()
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    assert stored(tmp_path, ("word", "x"), compute)["a"].eq(2).all()
    assert stored(tmp_path, ("word", "x"), compute)["a"].eq(2).all()
    assert compute.times == 2 and list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_nothing_half(tmp_path: Path) -> None:
    one = torch.zeros(4)
    with pytest.raises(RuntimeError, match="share memory"):  # safetensors does not write these
        stored(tmp_path, ("word",), lambda: {"a": one, "b": one})
    assert list(tmp_path.iterdir()) == []


keys = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=3), max_size=3
)


@settings(max_examples=50, deadline=None)
@given(one=keys, other=keys)
def test_different_keys_do_not_collide(
    tmp_path_factory: pytest.TempPathFactory, one: list[str], other: list[str]
) -> None:
    cache, compute = tmp_path_factory.mktemp("cache"), Counting()
    first = stored(cache, ("word", *one), compute)["a"]
    second = stored(cache, ("word", *other), compute)["a"]
    assert torch.equal(first, second) == (one == other)


def test_keys_that_read_alike_are_told_apart(tmp_path: Path) -> None:
    compute = Counting()
    alike = [("w", "ab", "c"), ("w", "a", "bc"), ("w", "abc"), ("w", "abc", ""), ("wa", "bc")]
    results = [float(stored(tmp_path, key, compute)["a"][0, 0]) for key in alike]
    assert results == [1, 2, 3, 4, 5]
