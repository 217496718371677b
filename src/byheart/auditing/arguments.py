"""What was typed for an audit: what is as it comes, what is allowed, what would have no effect."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

SIZES = (16, 256)  # pixels a side that pictures may be compared at
# The one place where these stand: until here None means that nothing was typed.
DEFAULTS: dict[str, Any] = {"size": 64, "bank": 16, "captions": 32, "noises": 2, "seed": 0}
ASKING = (
    "prompts", "lora", "bank", "captions", "noises", "seed", "steps", "guidance", "side", "device",
    "half", "allow_pickle",
)  # how a model is asked  # fmt: skip


@dataclass(frozen=True)
class Typed:
    """What was typed, as far as the result depends on it."""

    train: str
    outputs: str | None
    held_out: str | None
    pipeline: str | None
    prompts: str | None
    lora: str | None
    size: int
    bank: int
    captions: int
    noises: int
    seed: int
    steps: int | None
    guidance: float | None
    side: int | None
    half: bool
    allow_pickle: bool

    def command(self, **others: Any) -> str:
        """As it may be typed again; what is as it comes is left out. others: flags that the result
        does not depend on."""
        words = ["byheart", "audit"]
        for name, value in (asdict(self) | others).items():
            if value is None or value is False or DEFAULTS.get(name) == value:
                continue
            words += [flag(name)] + ([] if value is True else [str(value)])
        return shlex.join(words)


def filled(given: dict[str, Any]) -> Typed:
    """given: an argument of `audit` for each field; the rest as it comes."""
    return Typed(**given | {name: value for name, value in DEFAULTS.items() if given[name] is None})


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def word(path: str | Path | None) -> str | None:
    """ValueError: ~somebody whom nobody knows here."""
    if path is None:
        return None
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise ValueError(f"{path}: there is no such user: type the whole path")
    return whole


def check(given: dict[str, Any], device: str | None, fail_above: float | None) -> None:
    """given: as it came, None and False where nothing was typed.

    ValueError: outside its range, or of no effect beside the others.
    """
    if (given["outputs"] is None) == (given["pipeline"] is None):
        came = "both came" if given["outputs"] else "neither came"
        raise ValueError(
            f"--outputs and --pipeline: {came}: type --outputs <a folder of pictures> or "
            "--pipeline <a model's folder or hub id>"
        )
    _check_effect(given | {"device": device})
    ranges: dict[str, tuple[float, float]] = {
        "size": SIZES, "bank": (1, 10**4), "captions": (0, 10**6), "noises": (1, 10**4),
        "seed": (0, 2**31), "steps": (1, 10**4), "guidance": (0, 100), "side": (8, 4096),
    }  # fmt: skip
    for name, (low, high) in ranges.items():
        value = given[name]
        if value is not None and not low <= value <= high:
            raise ValueError(f"{flag(name)} {value}: allowed is {low:g} to {high:g}")
    if fail_above is not None and not 0 <= fail_above <= 1:
        raise ValueError(f"--fail-above {fail_above}: allowed is a rate from 0 to 1")


def _check_effect(given: dict[str, Any]) -> None:
    """What is passed over in silence would be believed to have been done."""
    # 0 is a value that was typed, and equal to False.
    typed = [name for name in ASKING if given[name] is not None and given[name] is not False]
    if given["pipeline"] is None and typed:
        raise ValueError(
            f"{flag(typed[0])} is for asking a model: leave it out, or type --pipeline instead of "
            "--outputs"
        )
    if given["prompts"] is not None and given["bank"] is not None:
        raise ValueError(
            "--bank and --prompts: your prompts take the place of the bank's: type one of the two"
        )
