"""What may be typed for an audit: what is as it comes, what is allowed, what has no effect."""

from __future__ import annotations

import os
import shlex
from argparse import ArgumentTypeError
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Flag:
    help: str
    type: Callable[[str], Any] | None = str  # None: a switch
    default: Any = None  # None: as it comes
    allowed: tuple[float, float] | None = None
    asks: bool = True  # says how a model is asked, so that it means nothing beside --outputs


def _rate(word: str) -> float:
    try:
        if 0 <= (value := float(word)) <= 1:
            return value
    except ValueError:
        pass
    raise ArgumentTypeError(f"{word!r} is not a rate from 0 to 1, such as 0.05")


FLAGS = {
    "train": Flag("folder of the training pictures", asks=False),
    "outputs": Flag("folder of pictures that the model made", asks=False),
    "held_out": Flag(
        "folder of pictures of the same kind that were not trained on: without them nobody knows "
        "what would pass by chance", asks=False,
    ),
    "pipeline": Flag(
        "instead of --outputs: a diffusers pipeline's folder or hub id, or a finished run "
        "outputs/<name>/<run>; several, such as the checkpoints of one training, make one page",
        asks=False,
    ),
    "lora": Flag("a LoRA on top of it: safetensors file, folder or hub id; or several"),
    "prompts": Flag("text file, a prompt a line, instead of the bank's"),
    "bank": Flag("unseen prompts of the bank (16)", int, 16, (1, 10**4)),
    "captions": Flag("training captions asked for, at most (32)", int, 32, (0, 10**6)),
    "noises": Flag("noise seeds of each prompt (2); of the empty one 4x", int, 2, (1, 10**4)),
    "seed": Flag("of all noises (0)", int, 0, (0, 2**31)),
    "steps": Flag("sampling steps (the pipeline's or run's own)", int, None, (1, 10**4)),
    "guidance": Flag("guidance scale (the pipeline's or run's own)", float, None, (0, 100)),
    "side": Flag("pixels a side of what is made (its own)", int, None, (8, 4096)),
    "gap": Flag("show the model training and held-out pictures: how well it cleans each", None),
    "cycles": Flag(
        "rounds of a little noise and cleaning, from outputs, training and held-out pictures: what "
        "comes up that plain sampling did not (100 and more)", int, None, (1, 10**5),
    ),
    "device": Flag("cpu, cuda, mps (cuda where there is one)"),
    "half": Flag("half precision, for a GPU", None),
    "allow_pickle": Flag(
        "read weights that are no safetensors: opening such a file can run any program", None
    ),
    "whole": Flag(
        "take each file of --outputs as one picture; as it comes, a sheet of equal tiles is cut",
        None, asks=False,
    ),
    "descriptor": Flag(
        "weights of the descriptor SSCD (safetensors, its TorchScript file), or one as ONNX: "
        "finds crops and redrawn copies; its threshold comes from held-out pictures", asks=False,
    ),
    "size": Flag("pixels a side compared (64)", int, 64, (16, 256), asks=False),
    "fail_above": Flag(
        "exit code 3 if the lower end of the 95 %% interval of the rate of copies, plain or "
        "altered, is above this rate under any kind of prompt; with 0, if there is any copy",
        _rate, None, (0, 1), asks=False,
    ),
    "out": Flag("folder to write to (outputs/audit/<name of --train>)", asks=False),
}  # fmt: skip
PATHS = ("train", "outputs", "held_out", "pipeline", "prompts", "lora", "descriptor", "out")


@dataclass(frozen=True)
class Arguments:
    """What was typed, as far as the result depends on it."""

    train: str
    outputs: str | None
    held_out: str | None
    pipeline: str | None
    prompts: str | None
    lora: str | None
    descriptor: str | None
    size: int
    bank: int
    captions: int
    noises: int
    seed: int
    steps: int | None
    guidance: float | None
    side: int | None
    half: bool
    gap: bool
    cycles: int | None
    whole: bool
    allow_pickle: bool

    def command(self, **others: Any) -> str:
        """As it may be typed again; what is as it comes is left out. others: flags that the result
        does not depend on."""
        words = ["byheart", "audit"]
        for name, value in (asdict(self) | others).items():
            if value is not None and value is not False and value != FLAGS[name].default:
                words += [flag(name)] + ([] if value is True else [str(value)])
        return shlex.join(words)


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def checked(given: dict[str, Any]) -> tuple[Arguments, dict[str, Any]]:
    """What the result depends on, defaults filled in, and the rest.

    given: a value for each of FLAGS as it came, None and False where nothing was typed.
    ValueError: outside its range, of no effect beside the others, or ~somebody unknown.
    """
    came: dict[str, Any] = {name: _expanded(v) if name in PATHS else v for name, v in given.items()}
    if (came["outputs"] is None) == (came["pipeline"] is None):
        which = "both came" if came["outputs"] else "neither came"
        raise ValueError(
            f"--outputs and --pipeline: {which}: type --outputs <a folder of pictures> or "
            "--pipeline <a model's folder or hub id>"
        )
    # What is passed over in silence would be believed to have been done. (0 is a value that was
    # typed, and equal to False.)
    typed = [name for name, v in came.items() if v is not None and v is not False]
    asking = [name for name in typed if FLAGS[name].asks]
    if came["pipeline"] is None and asking:
        raise ValueError(
            f"{flag(asking[0])} is for asking a model: leave it out, or type --pipeline instead of "
            "--outputs"
        )
    if came["pipeline"] is not None and came["whole"]:
        raise ValueError("--whole is for files that are there already: leave it out")
    if came["prompts"] is not None and came["bank"] is not None:
        raise ValueError(
            "--bank and --prompts: your prompts take the place of the bank's: type one of the two"
        )
    for name in typed:
        low, high = FLAGS[name].allowed or (None, None)
        if low is not None and high is not None and not low <= came[name] <= high:
            raise ValueError(f"{flag(name)} {came[name]}: allowed is {low:g} to {high:g}")
    filled = {name: FLAGS[name].default if v is None else v for name, v in came.items()}
    mine = Arguments.__dataclass_fields__
    rest = {name: value for name, value in filled.items() if name not in mine}
    return Arguments(**{name: filled[name] for name in mine}), rest


def _expanded(path: str | Path | None) -> str | None:
    if path is None:
        return None
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise ValueError(f"{path}: there is no such user: type the whole path")
    return whole
