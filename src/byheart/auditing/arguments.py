"""What may be typed for an audit: what is as it comes, what is allowed, what has no effect."""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Flag:
    help: str
    type: Callable[[str], Any] | None = str  # None: a switch
    default: Any = None  # None: as it comes
    allowed: tuple[float, float] | None = None
    asks: bool = True  # says how a model is asked, so that it means nothing beside --outputs


FLAGS = {  # in the order in which a command is written down
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
    "prompts": Flag("text file, a prompt a line, instead of the bank's"),
    "lora": Flag("a LoRA on top of it: safetensors file, folder or hub id; or several"),
    "descriptor": Flag(
        "weights of the descriptor SSCD (safetensors, its TorchScript file), or one as ONNX: "
        "finds crops and redrawn copies; its threshold comes from held-out pictures", asks=False,
    ),
    "size": Flag("pixels a side compared (64)", int, 64, (16, 256), asks=False),
    "bank": Flag("unseen prompts of the bank (16)", int, 16, (1, 10**4)),
    "captions": Flag("training captions asked for, at most (32)", int, 32, (0, 10**6)),
    "noises": Flag("noise seeds of each prompt (2); of the empty one 4x", int, 2, (1, 10**4)),
    "seed": Flag("of all noises (0)", int, 0, (0, 2**31)),
    "steps": Flag("sampling steps (the pipeline's or run's own)", int, None, (1, 10**4)),
    "guidance": Flag("guidance scale (the pipeline's or run's own)", float, None, (0, 100)),
    "side": Flag("pixels a side of what is made (its own)", int, None, (8, 4096)),
    "half": Flag("half precision, for a GPU", None),
    "gap": Flag("show the model training and held-out pictures: how well it cleans each", None),
    "cycles": Flag(
        "rounds of a little noise and cleaning, from outputs, training and held-out pictures: what "
        "comes up that plain sampling did not (100 and more)", int, None, (1, 10**5),
    ),
    "whole": Flag(
        "take each file of --outputs as one picture; as it comes, a sheet of equal tiles is cut",
        None, asks=False,
    ),
    "allow_pickle": Flag(
        "read weights that are no safetensors: opening such a file can run any program", None
    ),
    "device": Flag("cpu, cuda, mps (cuda where there is one)"),
    "fail_above": Flag(
        "exit code 3 if the lower end of the 95 %% interval of the rate of copies, plain or "
        "altered, is above this rate under any kind of prompt; with 0, if there is any copy",
        float, None, (0, 1), asks=False,
    ),
    "out": Flag("folder to write to (outputs/audit/<name of --train>)", asks=False),
}  # fmt: skip
PATHS = ("train", "outputs", "held_out", "pipeline", "prompts", "lora", "descriptor", "out")


def flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def command(typed: Namespace) -> str:
    """As it may be typed again; what is as it comes is left out."""
    words = ["byheart", "audit"]
    for name, value in vars(typed).items():
        if value is not None and value is not False and value != FLAGS[name].default:
            words += [flag(name)] + ([] if value is True else [str(value)])
    return shlex.join(words)


def checked(given: dict[str, Any]) -> Namespace:
    """What was typed, defaults filled in.

    given: a value for each of FLAGS as it came, None and False where nothing was typed.
    ValueError: outside its range, of no effect beside the others, or ~somebody unknown.
    """
    came: dict[str, Any] = {name: given[name] for name in FLAGS}
    came |= {name: _expanded(came[name]) for name in PATHS if came[name] is not None}
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
        if (allowed := FLAGS[name].allowed) and not allowed[0] <= came[name] <= allowed[1]:
            low, high = allowed
            raise ValueError(f"{flag(name)} {came[name]}: allowed is {low:g} to {high:g}")
    return Namespace(**{name: FLAGS[name].default if v is None else v for name, v in came.items()})


def _expanded(path: str | Path) -> str:
    whole = os.path.expanduser(path)
    if whole.startswith("~"):
        raise ValueError(f"{path}: there is no such user: type the whole path")
    return whole
