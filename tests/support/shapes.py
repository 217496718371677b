"""The shapes in byheart's signatures, checked at every call that a test makes. Stand-ins for
networks and configurations may be what they like: only tensors and arrays are looked at."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import jaxtyping
from beartype import beartype

_jaxtyped = jaxtyping.jaxtyped


def check_shapes() -> None:
    """From here on, in whatever of byheart is imported."""
    jaxtyping.jaxtyped = _where_there_are_any
    jaxtyping.install_import_hook("byheart", f"{__name__}.{_checked.__name__}")


def _where_there_are_any(*, typechecker: Any) -> Callable[[Any], Any]:
    """jaxtyping's own decorator, which slows every call, left off where no shape is said."""

    def decorate(one: Any) -> Any:
        try:
            hints = inspect.get_annotations(one, eval_str=True).values()
        except NameError:  # a class that comes later
            hints = one.__annotations__.values()
        said = any("jaxtyping." in repr(hint) or isinstance(hint, str) for hint in hints)
        return _jaxtyped(typechecker=typechecker)(one) if said else one

    return decorate


def _checked(function: Callable[..., Any]) -> Callable[..., Any]:
    hints = function.__annotations__
    function.__annotations__ = {
        name: hint for name, hint in hints.items() if "jaxtyping." in repr(hint)
    }
    return beartype(function)
