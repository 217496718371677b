"""The arguments of `byheart audit`, and what it prints. torch is needed only once it runs."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from typing import Any

from byheart.auditing.arguments import FLAGS, flag
from byheart.runtime.environment import quiet_libraries
from byheart.runtime.errors import INTERRUPTED

ABOVE = 3  # exit code: more copies than --fail-above allows


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "audit",
        help="are a model's outputs copies of its training pictures?",
        description="Compare a folder of outputs, or what a diffusers pipeline makes, with the "
        "training pictures: plain, mirrored, recoloured, cropped and shifted copies. Of every "
        "picture the largest centred square is compared at --size pixels. Writes audit.html, "
        "audit.csv, outputs.csv and measures.json; the same command goes on where it was stopped, "
        "and with another --held-out, --size or --fail-above it judges the same outputs anew.",
        allow_abbrev=False,
    )
    for name, one in FLAGS.items():
        how: dict[str, Any] = {"action": "store_true"} if one.type is None else {"type": one.type}
        if name == "train":
            how["required"] = True
        command.add_argument(flag(name), help=one.help, **how)
    command.set_defaults(do=_audit)


def _audit(typed: argparse.Namespace) -> int:
    """Do it, print the verdict, and return the exit code."""
    quiet_libraries()
    from byheart.auditing.audit import audit
    from byheart.auditing.report import fail_line, heading, verdict

    if typed.allow_pickle and typed.pipeline:
        print(
            "byheart: warning: --allow-pickle: opening weights that are no safetensors can run any "
            "program that whoever made them put in",
            file=sys.stderr,
        )
    try:
        found = audit(**{name: value for name, value in vars(typed).items() if name != "do"})
    except KeyboardInterrupt:
        print("byheart: stopped: the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    measures = found.measures
    lost = sum(len(measures["unreadable"][where]) for where in ("train", "outputs", "held_out"))
    notes = measures["notes"]
    if lost:
        notes = [*notes, f"{lost} file{'s' * (lost > 1)} could not be read: listed on the page."]
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    for words in [f"{heading(measures)}.", *verdict(measures), *notes]:
        print(*textwrap.wrap(words, width), sep="\n", end="\n\n")
    print(found.page)
    if not found.failed:
        return 0
    print(f"byheart: {fail_line(measures, typed.fail_above)}", file=sys.stderr)
    return ABOVE
