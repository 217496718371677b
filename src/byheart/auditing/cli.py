"""The flags of `byheart audit`, and what it prints. torch is needed only once it runs."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable
from typing import Any

from byheart.auditing.arguments import DEFAULTS
from byheart.runtime.environment import quiet_libraries

KEPT = {"do", "fail_above"}  # of what argparse leaves: not an argument of `audit`, or told apart


def add_door(doors: Any, do: Callable[[argparse.Namespace], int]) -> None:
    door = doors.add_parser(
        "audit",
        help="are a model's outputs copies of its training pictures?",
        description="Compare a folder of outputs, or what a diffusers pipeline makes, with the "
        "training pictures: plain, mirrored, recoloured, cropped and shifted copies. Of every "
        "picture the largest centred square is compared at --size pixels. Writes audit.html, "
        "audit.csv, outputs.csv and measures.json; the same command goes on where it was stopped, "
        "and with another --held-out, --size or --fail-above it judges the same outputs anew.",
        allow_abbrev=False,
    )
    door.add_argument("--train", required=True, help="folder of the training pictures")
    door.add_argument("--outputs", help="folder of pictures that the model made")
    door.add_argument(
        "--held-out", help="folder of pictures of the same kind that were not trained on: without "
        "them nobody knows what would pass by chance",
    )  # fmt: skip
    door.add_argument(
        "--pipeline", help="instead of --outputs: a diffusers pipeline's folder or hub id, or a "
        "finished run outputs/<name>/<run>",
    )  # fmt: skip
    door.add_argument("--lora", help="a LoRA on top of it: safetensors file, folder or hub id")
    door.add_argument("--prompts", help="text file, a prompt a line, instead of the bank's")
    door.add_argument("--bank", type=int, help=f"unseen prompts of the bank ({DEFAULTS['bank']})")
    door.add_argument(
        "--captions",
        type=int,
        help=f"training captions asked for, at most ({DEFAULTS['captions']})",
    )
    door.add_argument(
        "--noises",
        type=int,
        help=f"noise seeds of each prompt ({DEFAULTS['noises']}); of the empty one 4x",
    )
    door.add_argument("--seed", type=int, help=f"of all noises ({DEFAULTS['seed']})")
    door.add_argument("--steps", type=int, help="sampling steps (the pipeline's or run's own)")
    door.add_argument("--guidance", type=float, help="guidance scale (the pipeline's or run's own)")
    door.add_argument("--side", type=int, help="pixels a side of what is made (its own)")
    door.add_argument("--device", help="cpu, cuda, mps (cuda where there is one)")
    door.add_argument("--half", action="store_true", help="half precision, for a GPU")
    door.add_argument(
        "--allow-pickle", action="store_true",
        help="read weights that are no safetensors: opening such a file can run any program",
    )  # fmt: skip
    door.add_argument("--size", type=int, help=f"pixels a side compared ({DEFAULTS['size']})")
    door.add_argument(
        "--fail-above", type=_rate, metavar="RATE",
        help="exit code 3 if the lower end of the 95 %% interval of the rate of copies, plain or "
        "altered, is above RATE under any kind of prompt; with 0, if there is any copy",
    )  # fmt: skip
    door.add_argument("--out", help="folder to write to (outputs/audit/<name of --train>)")
    door.set_defaults(do=do)


def _rate(word: str) -> float:
    try:
        if 0 <= (value := float(word)) <= 1:
            return value
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{word!r} is not a rate from 0 to 1, such as 0.05")


def run_audit(typed: argparse.Namespace) -> bool:
    """Do it and print the verdict. Whether more copies were found than --fail-above allows."""
    quiet_libraries()
    from byheart.auditing.audit import audit
    from byheart.auditing.report import fail_line, heading, verdict

    if typed.allow_pickle and typed.pipeline:
        print(
            "byheart: warning: --allow-pickle: opening weights that are no safetensors can run any "
            "program that whoever made them put in",
            file=sys.stderr,
        )
    given = {name: value for name, value in vars(typed).items() if name not in KEPT}
    found = audit(**given, fail_above=typed.fail_above)
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    unreadable = found.measures["unreadable"]
    lost = sum(len(unreadable[where]) for where in ("train", "outputs", "held_out"))
    notes = found.measures["notes"]
    if lost:
        notes = [*notes, f"{lost} file{'s' * (lost > 1)} could not be read: listed on the page."]
    for words in [f"{heading(found.measures)}.", *verdict(found.measures), *notes]:
        print(*textwrap.wrap(words, terminal), sep="\n", end="\n\n")
    print(found.page)
    if found.failed and typed.fail_above is not None:
        print(f"byheart: {fail_line(found.measures, typed.fail_above)}", file=sys.stderr)
    return found.failed
