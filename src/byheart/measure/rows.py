"""Results with one entry per output: tensors, or dictionaries and dataclasses of such."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor


def rows_of(found: Any, rows: Any) -> Any:
    """The part of a result that belongs to some rows; None stays None."""
    if isinstance(found, Tensor):
        return found[rows]
    if isinstance(found, dict):
        return {key: rows_of(value, rows) for key, value in found.items()}
    if is_dataclass(found) and not isinstance(found, type):
        inner = {f.name: rows_of(getattr(found, f.name), rows) for f in fields(found)}
        return replace(found, **inner)
    return found


def joined(parts: Sequence[Any]) -> Any:
    """Results for consecutive rows as one; what does not vary with the rows is the first's."""
    first = parts[0]
    if isinstance(first, Tensor):
        return torch.cat(list(parts))
    if isinstance(first, dict):
        return {key: joined([part[key] for part in parts]) for key in first}
    if is_dataclass(first) and not isinstance(first, type):
        inner = {f.name: [getattr(part, f.name) for part in parts] for f in fields(first)}
        return replace(first, **{name: joined(values) for name, values in inner.items()})
    return first
