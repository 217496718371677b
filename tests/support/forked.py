"""Real processes that start in a moment: forked from one that has imported train/overfit.py.

Nothing is computed in the parent, so that its children begin as a fresh program does.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

from support.launching import SMALL, STORY, story

# Only the server of forks, and who is forked from it, has the name below set.
SERVER = "BYHEART_FORKSERVER"
LOADED_BY = os.getpid()
STORY_MODULE = story() if os.environ.get(SERVER) else None


def forked(work: Callable[..., object], *arguments: object, said: Path) -> BaseProcess:
    """`work` in a process of its own; what it prints goes to a file."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.forked"])
    # The server does not look for what it is to import where pytest does.
    with patch.dict(os.environ, {SERVER: "1", "PYTHONPATH": str(Path(__file__).parents[1])}):
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


def _typed(words: list[str], largest: int | None, slow: float, there: dict[str, str]) -> None:
    """In the child: as if the words had been typed."""
    os.environ.update(there)
    if slow:
        fsync = os.fsync

        def slowly(handle: int) -> None:
            time.sleep(slow)
            fsync(handle)

        os.fsync = slowly
    if largest is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))
    module = STORY_MODULE
    assert module is not None
    sys.argv = [str(STORY), *words]
    code = module.run_command(module.overfit, module.CONFIGS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def begin(
    root: Path,
    *words: str,
    said: Path | None = None,
    largest: int | None = None,
    slow: float = 0.0,
    **environment: str,
) -> BaseProcess:
    """Start the small run with these settings. Its words go to <root>.txt, or to `said`.

    largest: bytes of a file beyond which the system refuses to write, as on a full disk.
    slow: seconds that the disk takes longer for each file. environment: variables it finds set.
    """
    typed = [*SMALL, f"root={root}", *words]
    return forked(_typed, typed, largest, slow, environment, said=said or Path(f"{root}.txt"))


def finished(root: Path, *words: str) -> str:
    """The small run with these settings, to its end, and what was printed for this root so far."""
    process, said = begin(root, *words), Path(f"{root}.txt")
    process.join()
    assert process.exitcode == 0, said.read_text()[-3000:]
    return said.read_text()
