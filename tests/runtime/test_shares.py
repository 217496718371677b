"""The whole is the whole, however many share the work and however small the pieces."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from support.processes import Process, together
from torch import Tensor

from byheart.measure.panel import Metric
from byheart.runtime import processes as sharing
from byheart.runtime.processes import in_sets, in_shares


@dataclass(frozen=True)
class Looked:
    twice: Tensor
    metrics: dict[str, Metric | None]


def look(rows: Tensor) -> Looked:
    values = rows.double().sum(1)
    metric = Metric(values, {"> 3": values > 3}, "by hand")
    return Looked(2 * rows, {"sum": metric, "none": None})


def rows_(count: int, first: int = 0) -> Tensor:
    return torch.arange(first, first + count)[:, None] + torch.tensor([[0, 100]])


def check(found: Looked, rows: Tensor) -> None:
    assert torch.equal(found.twice, 2 * rows)
    metric = found.metrics["sum"]
    assert metric is not None and found.metrics["none"] is None
    assert metric.values.tolist() == rows.double().sum(1).tolist()
    assert metric.passes["> 3"].tolist() == [value > 3 for value in metric.values.tolist()]
    assert metric.source == "by hand"


@pytest.mark.parametrize("piece", [1, 2, 3, 2048])
@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("total", [1, 2, 3, 4, 7, 10])
def test_every_process_gets_the_whole_in_order(
    total: int, world: int, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "PIECE", piece)
    rows = rows_(total)
    for found in together(world, lambda process: in_shares(look, rows, process)):
        check(found, rows)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_row_is_worked_on_once_and_no_share_is_larger_than_it_must_be(
    world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "PIECE", 2)
    rows = rows_(7)

    def work(process: Process) -> tuple[list[int], list[int], list[int]]:
        seen: list[int] = []
        sizes: list[int] = []
        told: list[int] = []

        def note(piece: Tensor) -> Tensor:
            seen.extend(piece[:, 0].tolist())
            sizes.append(len(piece))
            return piece

        in_shares(note, rows, process, told.append)
        return seen, sizes, told

    done = together(world, work)
    assert sorted(row for seen, _, _ in done for row in seen) == [*range(7)]
    assert max(len(seen) for seen, _, _ in done) == -(-7 // world)
    for seen, sizes, told in done:
        assert told == sizes and sum(told) == len(seen)  # progress counts rows, not pieces
        assert max(sizes, default=0) <= 2


@pytest.mark.parametrize("world", [1, 2, 3])
def test_the_sets_come_back_by_their_names(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "PIECE", 2)
    sets = {"a": rows_(3), "none": rows_(0), "b": rows_(1, 50), "c": rows_(5, 70)}
    for found in together(world, lambda process: in_sets(look, sets, process)):
        assert list(found) == list(sets)
        for name, rows in sets.items():
            check(found[name], rows)
