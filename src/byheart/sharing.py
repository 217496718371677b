"""Work on many outputs in bounded memory, dealt out among the processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import accumulate
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from byheart.measure.rows import joined, rows_of

Found = TypeVar("Found")
PIECE = 2048  # outputs looked at together


def in_shares(
    work: Callable[[Tensor], Found],
    rows: Tensor,
    accelerator: Accelerator,
    advance: Callable[[int], object] = lambda rows: None,
) -> Found:
    """`work(rows)`, every process doing its part of the rows and all of them getting the whole.

    `work` must treat every row by itself. What it returns is a tensor with one entry per row, or a
    dictionary or dataclass of such. ValueError: no rows.
    """
    if len(rows) == 0:
        raise ValueError("no outputs to look at")
    shares = rows.split(-(-len(rows) // accelerator.num_processes))
    found = []
    for share in shares[accelerator.process_index : accelerator.process_index + 1]:
        for piece in share.split(PIECE):
            found.append(work(piece))
            advance(len(piece))
    return joined(gather_object(found) if accelerator.num_processes > 1 else found)


def in_sets(
    work: Callable[[Tensor], Found],
    sets: Mapping[str, Tensor],
    accelerator: Accelerator,
    advance: Callable[[int], object] = lambda rows: None,
) -> dict[str, Found]:
    """`in_shares` on the rows of all sets at once; the results by the names of the sets."""
    found = in_shares(work, torch.cat(list(sets.values())), accelerator, advance)
    ends = list(accumulate(len(rows) for rows in sets.values()))
    starts = [0, *ends[:-1]]
    return {
        name: rows_of(found, slice(start, end))
        for name, start, end in zip(sets, starts, ends, strict=True)
    }
