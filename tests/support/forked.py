"""Real processes that start in a moment: forked from one that has imported train/overfit.py.

Nothing is computed in the parent, so that its children begin as a fresh program does.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import sys
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support.launching import SMALL, STORY, story

# Only the server of forks, and who is forked from it, has the name below set.
SERVER = "BYHEART_FORKSERVER"
LOADED_BY = os.getpid()
STORY_MODULE = story() if os.environ.get(SERVER) else None
# Python's audit events that change the disk, and which of their arguments is the path.
CHANGES = {"open": 0, "os.mkdir": 0, "os.remove": 0, "os.rename": 1}


def forked(work: Callable[..., object], *arguments: object, said: Path) -> BaseProcess:
    """`work` in a process of its own; what it prints goes to a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.forked"])
    # The server does not look for what it is to import where pytest does.
    with patch.dict(os.environ, {SERVER: "1", "PYTHONPATH": os.pathsep.join(sys.path)}):
        forkserver.ensure_running()
    said.touch()
    process = context.Process(target=_printed, args=(work, arguments, str(said)))
    process.start()
    return process


def _printed(work: Callable[..., object], arguments: tuple[object, ...], said: str) -> None:
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    assert os.getpid() != LOADED_BY, "the server of forks has not imported anything"
    del os.environ[SERVER], os.environ["PYTHONPATH"]
    work(*arguments)


def type_words(words: list[str], before: Callable[[], object], there: dict[str, str]) -> None:
    """In the child: as if the words had been typed behind train/overfit.py."""
    os.environ.update(there)
    module = STORY_MODULE
    assert module is not None
    before()
    sys.argv = [str(STORY), *words]
    code = module.run_command(module.overfit, module.CONFIGS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def strike(number: int, ending: str, times: int = 1) -> None:
    """In a child, before it begins: it gets this signal just before it changes a path with this
    ending for the so-manieth time. A file is changed when it is opened for writing, another takes
    its place or it is removed."""
    changes = itertools.count(1)

    def seen(event: str, about: tuple[Any, ...]) -> None:
        if event not in CHANGES or (event == "open" and not (about[2] or 0) & os.O_ACCMODE):
            return
        if str(about[CHANGES[event]]).endswith(ending) and next(changes) == times:
            os.kill(os.getpid(), number)

    sys.addaudithook(seen)


def begin(
    root: Path,
    *words: str,
    said: Path | None = None,
    before: Callable[[], object] = int,
    **environment: str,
) -> BaseProcess:
    """Start the small run with these settings. Its words go to <root>.txt, or to `said`.

    before: done in the process before it begins. environment: variables it finds set.
    """
    typed = [*SMALL, f"root={root}", *words]
    return forked(type_words, typed, before, environment, said=said or Path(f"{root}.txt"))


def ended(root: Path, *words: str, **how: Any) -> tuple[int | None, str]:
    """`begin`, until it has ended: its exit code, and what was printed for this root so far."""
    process, said = begin(root, *words, **how), how.get("said") or Path(f"{root}.txt")
    process.join()
    return process.exitcode, said.read_text()


def finished(root: Path, *words: str) -> str:
    """The small run with these settings, to its end, and what was printed for this root so far."""
    code, said = ended(root, *words)
    assert code == 0, said[-3000:]
    return said
