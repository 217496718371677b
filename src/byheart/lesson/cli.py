"""`byheart lesson`: from what was typed to the page; where no folder is, a small sweep first."""

from __future__ import annotations

import argparse
import getpass
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from byheart.runtime.environment import quiet_libraries
from byheart.runtime.files import STORY
from byheart.show.runs import begun_runs, finished_runs

SMALL = Path("outputs") / "lesson-avatars"  # where configs/experiment/lesson.yaml writes
COUNTS = (1, 10, 3000)  # pictures of its runs
PASSWORD = "BYHEART_LESSON_PASSWORD"


def add_parser(commands: Any) -> None:
    command = commands.add_parser(
        "lesson",
        help="a page a class can play with, on the runs of a sweep",
        description="Open a web page on the finished runs of a folder: ask any prompt, watch the "
        "curve, find your own tolerance, count the bits, teach a picture. Without a folder a small "
        "sweep runs first, about nine minutes on two cores. Only this machine sees it, "
        "unless --host says otherwise.",
        allow_abbrev=False,
    )
    command.add_argument("folder", nargs="?", help="folder of a sweep: outputs/<name>")
    command.add_argument("--port", type=_port, help="where it listens (7860, or the next free one)")
    command.add_argument("--host", default="127.0.0.1", help="0.0.0.0: the whole network sees it")
    command.add_argument(
        "--password",
        action="store_true",
        help="ask for a password to let people in with; or set BYHEART_LESSON_PASSWORD",
    )
    command.set_defaults(do=_lesson)


def _lesson(typed: argparse.Namespace) -> None:
    open_lesson(typed.folder, typed.host, typed.port, typed.password)


def _port(word: str) -> int:
    if word.isdecimal() and 1 <= int(word) <= 65535:
        return int(word)
    raise argparse.ArgumentTypeError(f"{word!r} is not a port from 1 to 65535")


def open_lesson(folder: str | None, host: str, port: int | None, ask_password: bool) -> None:
    """Check, run the small sweep where no folder was named, and serve until it is closed.

    ValueError: no run there that can be asked, now or later, or nowhere to listen.
    """
    quiet_libraries()
    password = password_of(ask_password)
    from byheart.lesson.serve import check_gradio, free_port, serve

    place = SMALL if folder is None else Path(folder)
    if folder is not None:
        check_folder(place)
    # Before minutes of work: whether the page can be opened at all.
    check_gradio()
    free_port(host, port)
    if folder is None:
        small_sweep()
        check_folder(place, f"remove {SMALL} and type byheart lesson again")

    print("opening the page, which takes some seconds", flush=True)
    serve(place, host, port, password)


def check_folder(
    folder: Path, instead: str = "type byheart lesson alone, which runs a small sweep first"
) -> None:
    """Where a run is still learning there is a page too: it can be asked when it is finished.

    ValueError: what to do instead of showing this folder.
    """
    begun = begun_runs(folder)
    if begun and not any(folder.glob("*/report.html")):
        return
    try:
        runs = finished_runs(folder)
    except ValueError as error:
        raise ValueError(f"{error}; or {instead}") from None
    if not begun and not any((run.path / "model" / "unet").is_dir() for run in runs):
        raise ValueError(f"{folder} has finished runs, but none has kept its model/: {instead}")


def small_sweep() -> None:
    """1, 10 and 3,000 avatars, by train/overfit.py as a process of its own; finished runs are kept.

    ValueError: the source tree is missing, or the sweep failed.
    """
    if not STORY.exists():
        raise ValueError("byheart lesson needs the source tree: install it with pip install -e .")
    if not all((SMALL / f"n{n}-s0" / "report.html").exists() for n in COUNTS):
        print(
            "no folder was named: first a small sweep, 1, 10 and 3,000 pictures into "
            f"{SMALL}; about nine minutes on two cores. Ctrl-C stops it, and the same "
            "command goes on from there.",
            flush=True,
        )
        command = [sys.executable, str(STORY), "-m", "experiment=lesson"]
        code, stopped = _waited(subprocess.Popen(command))
        if stopped:
            raise ValueError("stopped: the same command goes on from what was saved")
        if code:
            raise ValueError(
                f"the small sweep ended with code {code}; what it said stands above. The same "
                "command goes on from what was saved"
            )


def _waited(sweep: subprocess.Popen[bytes]) -> tuple[int, bool]:
    """Its code, and whether Ctrl-C was pressed: that goes to the sweep as well, which saves before
    it ends, or ends at once where it is pressed again."""
    stopped = False
    while True:
        try:
            return sweep.wait(), stopped
        except KeyboardInterrupt:
            stopped = True


def password_of(asked: bool) -> str | None:
    """From the environment, or typed without being shown; never from the command line, which every
    user of the machine can read. ValueError: an empty one."""
    word = os.environ.get(PASSWORD) or (getpass.getpass("password: ") if asked else None)
    if asked and not word:
        raise ValueError(f"an empty password: type one, or set {PASSWORD}")
    return word
