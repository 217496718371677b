"""The shapes in byheart's signatures, checked at every call that a test makes. Stand-ins for
networks and configurations may be what they like: only tensors and arrays are looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beartype import beartype


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = function.__annotations__
    function.__annotations__ = {
        name: hint for name, hint in hints.items() if "jaxtyping." in repr(hint)
    }
    return beartype(function)
