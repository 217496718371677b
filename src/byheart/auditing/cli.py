"""The arguments of `byheart audit`, and what it prints. torch is needed only once it runs."""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from byheart.auditing.arguments import FLAGS, flag
from byheart.runtime.environment import quiet_libraries
from byheart.runtime.errors import INTERRUPTED

if TYPE_CHECKING:
    from byheart.auditing.audit import Audit

SEVERAL = ("pipeline", "lora")  # of which several make one page
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
        if name in SEVERAL:
            how["nargs"] = "+"
        command.add_argument(flag(name), help=one.help, **how)
    command.set_defaults(do=_audit)


def _audit(typed: argparse.Namespace) -> int:
    """Do it, print the verdict, and return the exit code."""
    quiet_libraries()
    from byheart.auditing.audit import audit

    if typed.allow_pickle and typed.pipeline:
        print(
            "byheart: warning: --allow-pickle: opening weights that are no safetensors can run any "
            "program that whoever made them put in",
            file=sys.stderr,
        )
    given = {name: value for name, value in vars(typed).items() if name != "do"}
    models = {name: given[name] or [] for name in SEVERAL}
    given |= {name: one[0] if one else None for name, one in models.items()}
    try:
        if any(len(one) > 1 for one in models.values()):
            return _several(given, models)
        found = audit(**given)
    except KeyboardInterrupt:
        print("byheart: stopped: the same command goes on from there", file=sys.stderr)
        return INTERRUPTED
    from byheart.auditing.report import heading, lost, searched, verdict

    measures = found.measures
    said = [f"{heading(measures)}.", *verdict(measures), searched(measures)]
    _say([*said, *measures["notes"], *lost(measures)])
    print(found.page)
    return _judged({"": found})


def _several(given: dict[str, Any], models: dict[str, list[str]]) -> int:
    from byheart.auditing.several import audit_several, heading

    (which, several), *more = [(name, one) for name, one in models.items() if len(one) > 1]
    if more:
        raise ValueError("--pipeline and --lora: several of each: type several of one of them")
    del given[which]
    found = audit_several(several, which, **given)
    print(f"{heading(found.rows)}.\n")
    for row in found.rows:
        print(f"{row['either']:7.1%}  {row['model']}")
    print()
    _say(found.words)
    print(found.page)
    names = [f"{row['model']}: " for row in found.rows]
    return _judged(dict(zip(names, found.audits, strict=True)))


def _say(paragraphs: list[str]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    for words in paragraphs:
        print(*textwrap.wrap(words, width), sep="\n", end="\n\n")


def _judged(audits: dict[str, Audit]) -> int:
    """Print which of them --fail-above fails, by the name of its model. The exit code."""
    from byheart.auditing.report import fail_line

    failed = {name: one for name, one in audits.items() if one.failed}
    for name, one in failed.items():
        assert one.fail_above is not None
        print(f"byheart: {name}{fail_line(one.measures, one.fail_above)}", file=sys.stderr)
    return ABOVE if failed else 0
