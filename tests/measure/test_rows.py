"""Parts of results and results of parts: one is the other's way back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from byheart.runtime.processes import joined, rows_of


@dataclass(frozen=True)
class Inner:
    name: str
    values: Tensor
    passes: dict[str, Tensor]


@dataclass(frozen=True)
class Outer:
    inner: Inner
    more: dict[str, Inner | None]
    number: float


def result(rows: list[int]) -> Outer:
    values = torch.tensor(rows, dtype=torch.float64)
    inner = Inner("same for all", values, {"> 2": values > 2})
    return Outer(inner, {"there": inner, "not": None}, 0.5)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (Inner, Outer)):
        return type(a) is type(b) and same(vars(a), vars(b))
    return a == b


@pytest.mark.parametrize(
    ("rows", "kept"),
    [
        (slice(1, 3), [4, 1]),
        (slice(None), [3, 4, 1, 5]),
        (slice(0, 0), []),
        (torch.tensor([3, 0, 0]), [5, 3, 3]),
        (torch.tensor([True, False, False, True]), [3, 5]),
    ],
)
def test_the_rows_of_every_tensor_are_taken_and_all_else_stays(rows: Any, kept: list[int]) -> None:
    whole = result([3, 4, 1, 5])
    assert same(rows_of(whole, rows), result(kept))
    assert same(whole, result([3, 4, 1, 5]))  # untouched


@pytest.mark.parametrize("cuts", [[4], [1, 3], [2, 2], [0, 4], [1, 1, 1, 1]])
def test_joining_the_parts_gives_the_whole(cuts: list[int]) -> None:
    whole = result([3, 4, 1, 5])
    ends = [sum(cuts[:k]) for k in range(len(cuts) + 1)]
    parts = [rows_of(whole, slice(*ends[k : k + 2])) for k in range(len(cuts))]
    assert same(joined(parts), whole)


def test_a_tensor_and_nothing_are_results_too() -> None:
    assert rows_of(None, slice(1)) is None and joined([None, None]) is None
    assert joined([torch.tensor([1]), torch.tensor([2, 3])]).tolist() == [1, 2, 3]
    assert joined([{"a": torch.tensor([1])}, {"a": torch.tensor([2])}])["a"].tolist() == [1, 2]


def test_a_dataclass_stays_of_its_class() -> None:
    @dataclass(frozen=True)
    class Special(Inner):
        extra: Tensor

    one = Special("x", torch.zeros(2), {}, torch.ones(2))
    assert type(rows_of(one, slice(1))) is Special and type(joined([one, one])) is Special
    assert joined([one, one]).extra.tolist() == [1, 1, 1, 1]
