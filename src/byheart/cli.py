"""The front door: `byheart ledger | report | curve | audit | bench | lesson`. The last three need
torch."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import textwrap
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from byheart.measure.ledger import Ledger, from_json, ledger, lines, stable_diffusion
from byheart.runtime.files import Run
from byheart.runtime.lock import one_at_a_time

# exit codes; ABOVE: more copies than --fail-above allows
USER_MISTAKE, ABOVE, INTERRUPTED = 2, 3, 130
NUMBERS = ("parameters", "images", "size")
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
        code: int | None = typed.do(typed)
    except SystemExit:  # --help and --version have printed what they had to say
        return 0
    except (ValueError, OSError) as error:
        print("byheart:", " ".join(str(error).split()), file=sys.stderr)
        return USER_MISTAKE
    return code or 0


def _parser() -> Parser:
    parser = Parser("byheart", description=__doc__, allow_abbrev=False)
    doors = parser.add_subparsers(
        required=True,
        metavar="ledger | report | curve | audit | bench | lesson",
        parser_class=Parser,
    )

    door = doors.add_parser(
        "ledger",
        help="bits of training images against bits of parameters, line by line",
        description="Print the ledger of a finished run, or of numbers given by hand, beside "
        "Stable Diffusion's.",
        allow_abbrev=False,
    )
    door.add_argument("run", nargs="?", help="folder of a finished run: outputs/<name>/<run>")
    door.add_argument("--parameters", type=_count, help="how many the model has")
    door.add_argument("--images", type=_count, help="how many it was trained on, such as 2.3e9")
    door.add_argument("--size", type=_count, help="their side in pixels; three colours")
    door.add_argument("--latent", type=_count, help="numbers in the latent of one image")
    door.add_argument("--precision", type=_count, help="bits of one parameter (32)")
    door.set_defaults(do=_ledger)

    door = doors.add_parser(
        "report",
        help="draw a run's report.html again from its files",
        description="Draw report.html again from the files that a finished run left.",
        allow_abbrev=False,
    )
    door.add_argument("run", help="folder of a finished run: outputs/<name>/<run>")
    door.set_defaults(do=_report)

    door = doors.add_parser(
        "curve",
        help="draw the curve over all finished runs of a folder",
        description="Draw curve.csv, curve.svg, curve.png, figures/ and report.html over all "
        "finished runs of a folder, from the files they left.",
        allow_abbrev=False,
    )
    door.add_argument("folder", help="folder of a sweep: outputs/<name>")
    door.add_argument(
        "--against",
        choices=("n", "steps", "exposures"),
        default="n",
        help="what else to draw the figures against: optimizer steps, or looks at each image; "
        "beside the others, as curve-against-steps.svg",
    )
    door.set_defaults(do=_curve)

    _audit_door(doors)

    door = doors.add_parser(
        "bench",
        help="how fast this machine trains, samples and measures",
        description="Measure, print and write outputs/bench/<device>.json: training against the "
        "bare step and the machine's peak, sampling, measuring, and the time until one image is "
        "known by heart. Some minutes on two cores, and with the baseline ten times as long.",
        allow_abbrev=False,
    )
    door.add_argument("settings", nargs="*", help="as for train/overfit.py, such as unet=sd15")
    door.add_argument(
        "--only",
        nargs="+",
        default=["training", "breakdown", "sampling", "measuring", "memorize"],
        metavar="PART",
        help="training | breakdown | sampling | measuring | memorize | audit, of thousands of "
        "pictures | baseline, the recipe of the widely used trainers; all but the last two where "
        "nothing is typed",
    )
    door.add_argument("--out", default="outputs/bench", help="folder to write to")
    door.set_defaults(do=_bench)

    door = doors.add_parser(
        "lesson",
        help="a page a class can play with, on the runs of a sweep",
        description="Open a web page on the finished runs of a folder: ask any prompt, watch the "
        "curve, find your own tolerance, count the bits, teach a picture. Without a folder a small "
        "sweep runs first, about three minutes on two cores. Only this machine sees it, "
        "unless --host says otherwise.",
        allow_abbrev=False,
    )
    door.add_argument("folder", nargs="?", help="folder of a sweep: outputs/<name>")
    door.add_argument("--port", type=_port, help="where it listens (7860, or the next free one)")
    door.add_argument("--host", default="127.0.0.1", help="0.0.0.0: the whole network sees it")
    door.add_argument(
        "--password",
        action="store_true",
        help="ask for a password to let people in with; or set BYHEART_LESSON_PASSWORD",
    )
    door.set_defaults(do=_lesson)
    return parser


def _count(word: str) -> int:
    """A whole number of 1 or more; 2.3e9 is one."""
    try:
        value = float(word)
        if 1 <= value <= LARGEST and value == int(value):
            return int(word) if word.isdecimal() else int(value)
    except (ValueError, OverflowError):
        pass
    raise argparse.ArgumentTypeError(f"{word!r} is not a whole number from 1 to 10^18")


def _port(word: str) -> int:
    if word.isdecimal() and 1 <= int(word) <= 65535:
        return int(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a port from 1 to 65535")


def _ledger(typed: argparse.Namespace) -> None:
    given = [
        f"--{name}"
        for name in (*NUMBERS, "latent", "precision")
        if getattr(typed, name) is not None
    ]
    if typed.run is not None:
        if given:
            raise ValueError(f"{typed.run} and {given[0]}: type a run or numbers, not both")
        found = _ledger_of(Path(typed.run))
        title = f"The ledger of {typed.run}"
    else:
        missing = [f"--{name} <number>" for name in NUMBERS if getattr(typed, name) is None]
        if missing:
            what = "" if given else "type a run's folder, or "
            raise ValueError(f"numbers are missing: {what}add {' '.join(missing)}")
        dimensions = typed.size * typed.size * 3
        found = ledger(
            typed.parameters, typed.images, dimensions, typed.precision or 32,
            latent_dimensions=typed.latent,
        )  # fmt: skip
        title = "The ledger of the numbers given"
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(f"{title}\n\n{table(found, terminal)}")


def _ledger_of(folder: Path) -> Ledger:
    record = _measures(folder).get("ledger")
    if not isinstance(record, dict):
        raise ValueError(
            f"{folder} has no ledger yet: an older version made it; run it again, or type "
            "byheart ledger --parameters <number> --images <number> --size <pixels>"
        )
    return from_json(record)


def _measures(folder: Path) -> dict[str, Any]:
    """measures.json of a finished run. ValueError: no such run, or it cannot be read."""
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: type the path of a run, outputs/<name>/<run>")
    file = folder / "measures.json"
    if not file.exists():
        raise ValueError(
            f"{folder} has no measures.json: it is not a run, or the run is not finished"
        )
    try:
        measures = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
    if not isinstance(measures, dict):
        raise ValueError(f"{file} does not hold the numbers of a run")
    return measures


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
    indent = sum(widths) + 3 * 2 + 3
    reach = indent + max(len(row[4]) for row in rows)
    wide = columns is None or reach <= columns
    text = []
    for row in (heads, *rows):
        values = "  ".join(row[k].rjust(widths[k]) for k in (1, 2, 3))
        start = f"{row[0].ljust(widths[0])}  {values}"
        if wide:
            text.append(f"{start}   {row[4]}")
        else:
            text += [start] if row is heads else [start, *_below(row[4], columns or 80)]
    text += ["", *textwrap.wrap(NOTE, columns or 100)]
    return "\n".join(line.rstrip() for line in text)


def _below(how: str, columns: int) -> list[str]:
    return textwrap.wrap(how, max(40, columns), initial_indent="    ", subsequent_indent="    ")


def _report(typed: argparse.Namespace) -> None:
    folder = Path(typed.run)
    _measures(folder)
    # Here, since drawing needs matplotlib and the ledger does not.
    from jinja2 import TemplateError

    from byheart.show.pages import write_report

    try:
        print(write_report(Run(folder, folder.parent.parent / ".cache")))
    except FileNotFoundError as error:
        raise ValueError(f"{error.filename} is missing: the run is not finished") from error
    except (KeyError, TypeError, TemplateError) as error:
        raise ValueError(
            f"{folder} was left by another version of byheart ({error}): run it again"
        ) from error


def _curve(typed: argparse.Namespace) -> None:
    from byheart.show.pages import write_curve
    from byheart.show.runs import finished_runs
    from byheart.show.trends import sentences

    folder = Path(typed.folder)
    with one_at_a_time(folder) if folder.is_dir() else nullcontext():
        page = write_curve(folder, against=typed.against)
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else 100
    for words in sentences(finished_runs(folder)):
        print(*textwrap.wrap(words, terminal), sep="\n", end="\n\n")
    print(page)
    if typed.against != "n":
        print(folder / f"curve-against-{typed.against}.svg")


def _audit_door(doors: Any) -> None:
    # Its flags stand with what they do; parsing them needs no torch.
    from byheart.auditing.cli import add_door

    add_door(doors, _audit)


def _audit(typed: argparse.Namespace) -> int:
    from byheart.auditing.cli import run_audit

    try:
        return ABOVE if run_audit(typed) else 0
    except KeyboardInterrupt:
        print("byheart: stopped: the same command goes on from there", file=sys.stderr)
        return INTERRUPTED


def _bench(typed: argparse.Namespace) -> None:
    # torch, unlike every other door's needs
    from byheart.bench.cli import run_bench

    print(run_bench(typed.settings, Path(typed.out), typed.only))


def _lesson(typed: argparse.Namespace) -> None:
    from byheart.lesson.cli import open_lesson

    open_lesson(typed.folder, typed.host, typed.port, typed.password)


if __name__ == "__main__":
    sys.exit(main())
