"""`byheart ledger | report | curve`, and whatever wings there are: audit, bench, lesson.

Only the wings need torch, and only once they work.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import textwrap
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from decimal import Decimal
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

from byheart.measure.ledger import Ledger, from_json, lines, stable_diffusion
from byheart.runtime.files import Run, read_measures

WINGS = ("auditing", "bench", "lesson")  # each may be taken away as a folder
USER_MISTAKE, NOT_MET = 2, 3  # exit codes
NUMBERS = {  # of a ledger by hand; the last two may be left out
    "parameters": "how many the model has",
    "images": "trained on so many, such as 2.3e9",
    "size": "their side in pixels; three colours",
    "latent": "numbers in the latent of one image",
    "precision": "bits of one parameter (32)",
}
LARGEST = 10**18  # beyond it a ratio may not fit into a float

NOTE = (
    "* depends on the precision assumed for a parameter. Half as many bits halve the bits of the "
    "parameters and those per training image, double the raw bits per parameter bit and add 0.30 "
    "orders of magnitude. No other figure changes. 1 kbit = 1,000 bits; n/a = not measured."
)


class Parser(argparse.ArgumentParser):
    """argparse, but a mistake is one line without the usage text."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}: try {self.prog} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was typed and return the exit code: 0, or 2 with one line on stderr; 3 where an audit
    finds more copies than --fail-above allows."""
    try:
        typed = _parser().parse_args(arguments)
        return typed.do(typed) or 0
    except SystemExit:  # --help has printed what it had to say
        return 0
    except (ValueError, OSError) as error:
        from byheart.runtime.errors import one_line  # brings Hydra

        print("byheart:", one_line(error), file=sys.stderr)
        return USER_MISTAKE


def _parser() -> Parser:
    parser = Parser("byheart", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, parser_class=Parser)

    def add(
        name: str, do: Callable[[argparse.Namespace], int | None], help: str, description: str
    ) -> Parser:
        command = commands.add_parser(name, help=help, description=description, allow_abbrev=False)
        command.set_defaults(do=do)
        return command

    command = add(
        "ledger",
        _ledger,
        help="bits of training images against bits of parameters, line by line",
        description="Print the ledger of a finished run, or of numbers given by hand, beside "
        "Stable Diffusion's.",
    )
    command.add_argument("run", nargs="?", help="folder of a finished run: outputs/<name>/<run>")
    for name, words in NUMBERS.items():
        command.add_argument(f"--{name}", type=_count, help=words)
    command = add(
        "report",
        _report,
        help="draw a run's report.html again from its files",
        description="Draw report.html again from the files that a finished run left.",
    )
    command.add_argument("run", help="folder of a finished run: outputs/<name>/<run>")
    command = add(
        "curve",
        _curve,
        help="draw the curve over all finished runs of a folder",
        description="Draw curve.csv, curve.svg, curve.png, figures/ and report.html over all "
        "finished runs of a folder, from the files they left.",
    )
    command.add_argument("folder", help="folder of a sweep: outputs/<name>")
    command.add_argument(
        "--against",
        choices=("n", "steps", "exposures"),
        default="n",
        help="what else to draw the figures against: optimizer steps, or looks at each image; "
        "beside the others, as curve-against-steps.svg",
    )
    command = add(
        "controls",
        _controls,
        help="the measure against pictures whose right verdict is known",
        description="Judge copies, noisy and saved ones, blends, wrecks and pictures never shown, "
        "made of a source's own pictures, and print what each was called and what it must be. "
        "Exit code 3 where one is not called so often enough.",
    )
    command.add_argument("settings", nargs="*", help="as for train/overfit.py: images=avatars")
    command.add_argument(
        "--n", nargs="+", type=_count, default=[1, 10, 100], help="sizes of the training set"
    )
    for wing in WINGS:
        if find_spec(f"byheart.{wing}") is not None:
            import_module(f"byheart.{wing}.cli").add_parser(commands)
    commands.metavar = " | ".join(commands.choices)
    return parser


def _controls(typed: argparse.Namespace) -> int:
    from byheart.experiment.truth import score

    text, met = score(typed.settings, typed.n)
    print(text)
    return 0 if met else NOT_MET


def _count(word: str) -> int:
    """A whole number of 1 or more; 2.3e9 is one."""
    with suppress(ArithmeticError):
        value = Decimal(word)
        if 1 <= value <= LARGEST and value == int(value):
            return int(value)
    raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 1 to 10^18")


def _width() -> int | None:
    """Of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _ledger(typed: argparse.Namespace) -> None:
    given = [f"--{name}" for name in NUMBERS if getattr(typed, name) is not None]
    if typed.run is not None:
        if given:
            raise ValueError(f"{typed.run} and {given[0]}: type a run or numbers, not both")
        record = read_measures(Path(typed.run)).get("ledger")
        if not isinstance(record, dict):
            raise ValueError(
                f"{typed.run} has no ledger yet: an older version made it; run it again, or type "
                "byheart ledger --parameters <number> --images <number> --size <pixels>"
            )
        found, title = from_json(record), f"The ledger of {typed.run}"
    else:
        missing = [f"--{name} <number>" for name in [*NUMBERS][:3] if getattr(typed, name) is None]
        if missing:
            what = "" if given else "type a run's folder, or "
            raise ValueError(f"numbers are missing: {what}add {' '.join(missing)}")
        title = "The ledger of the numbers given"
        found = Ledger(
            typed.parameters, typed.images, typed.size * typed.size * 3, typed.precision or 32,
            latent_dimensions=typed.latent,
        )  # fmt: skip
    print(f"{title}\n\n{table(found, _width())}")


def table(found: Ledger, columns: int | None = None) -> str:
    """The ledger as text, Stable Diffusion's beside it, with the arithmetic of every line.

    columns: width of the terminal. Where the table is wider, the arithmetic goes below its line;
    None: as wide as it must be.
    """
    beside = (stable_diffusion(32), stable_diffusion(16))
    others = [{line.key: line.text for line in lines(other)} for other in beside]
    heads = ("", "here", "Stable Diffusion", "at 16 bits", "how")
    rows = [
        (
            f"{line.label}{' *' if line.depends_on_precision else ''}",
            line.text,
            *(other.get(line.key, "n/a") for other in others),
            line.how,
        )
        for line in lines(found)
    ]
    widths = [max(len(row[k]) for row in (heads, *rows)) for k in range(4)]
    wide = sum(widths) + 9 + max(len(row[4]) for row in rows) <= (columns or sys.maxsize)
    text = []
    for row in (heads, *rows):
        start = "  ".join([row[0].ljust(widths[0]), *(row[k].rjust(widths[k]) for k in (1, 2, 3))])
        text.append(f"{start}   {row[4]}" if wide else start)
        if not wide and row is not heads:
            text += textwrap.wrap(row[4], max(40, columns or 80), initial_indent="    ",
                                  subsequent_indent="    ")  # fmt: skip
    text += ["", *textwrap.wrap(NOTE, columns or 100)]
    return "\n".join(line.rstrip() for line in text)


def _report(typed: argparse.Namespace) -> None:
    from byheart.show.pages import write_report  # matplotlib, which the ledger does not need

    folder = Path(typed.run)
    read_measures(folder)
    print(write_report(Run(folder, folder.parent.parent / ".cache")))


def _curve(typed: argparse.Namespace) -> None:
    from byheart.runtime.lock import one_at_a_time
    from byheart.show.runs import finished_runs
    from byheart.show.sweep import write_curve
    from byheart.show.trends import sentences

    folder = Path(typed.folder)
    with one_at_a_time(folder) if folder.is_dir() else nullcontext():
        page = write_curve(folder, against=typed.against)
    for words in sentences(finished_runs(folder)):
        print(*textwrap.wrap(words, _width() or 100), sep="\n", end="\n\n")
    print(page)
    if typed.against != "n":
        print(folder / f"curve-against-{typed.against}.svg")


if __name__ == "__main__":
    sys.exit(main())
