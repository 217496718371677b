"""One run, one owner: who works on a folder, told to whoever comes second.

The lock is the operating system's (flock): it ends with the process that holds it, however that
ends, so no lock is ever left behind. What a killed process leaves is its name and what it was
writing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from filelock import FileLock, Timeout

from byheart.config import Config
from byheart.runs import Run, claim

LOCK, OWNER = ".lock", ".owner.json"


@dataclass(frozen=True)
class Found:
    """What lay in the folder when it became ours."""

    finished: bool
    left: str | None = None  # who left it behind unfinished
    refused: str | None = None  # why it does not become ours


@contextmanager
def owned(run: Run, config: Config, accelerator: Accelerator) -> Iterator[Found]:
    """Keep others off the run's folder, unless it is finished: then nothing is touched.

    Of several processes the first one looks and locks, and all of them get the same answer.
    Folders made for the lock that hold nothing in the end are removed again.

    ValueError: another process works there, it holds a run with other settings, or it cannot be
    written to.
    """
    with ExitStack() as stack:
        answer: list[Found | None] = [None]
        if accelerator.is_main_process:
            try:
                answer = [_enter(run, config, stack)]
            except ValueError as error:
                answer = [Found(False, refused=str(error))]
        if accelerator.num_processes > 1:
            broadcast_object_list(answer)
        found = answer[0]
        assert found is not None
        if found.refused is not None:
            raise ValueError(found.refused)
        yield found


def _enter(run: Run, config: Config, stack: ExitStack) -> Found:
    claim(run, config)
    if run.finished and not run.file(OWNER).exists():
        return Found(True)
    try:
        stack.enter_context(_locked(run))
    except ValueError:
        # Its owner may be in its very last line.
        if run.finished:
            return Found(True)
        raise
    left = owner(run)
    for part in run.path.rglob(".*.part*"):  # what a killed process was writing
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
    run.file(OWNER).write_text(json.dumps(me), encoding="utf-8")
    return Found(run.finished, None if run.finished else left)


@contextmanager
def _locked(run: Run) -> Iterator[None]:
    made = [p for p in (run.path, *run.path.parents) if not p.exists()]
    lock = FileLock(run.file(LOCK))
    try:
        _acquire(lock, run)
        try:
            yield
        finally:
            # While the lock is still held: whoever comes next must not lose its own.
            for name in (OWNER, LOCK):
                with suppress(OSError):
                    run.file(name).unlink(missing_ok=True)
            lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # it is in use
                folder.rmdir()


def _acquire(lock: FileLock, run: Run) -> None:
    try:
        run.path.mkdir(parents=True, exist_ok=True)
        lock.acquire(blocking=False)
    except Timeout:
        raise ValueError(
            f"{run.path} is being worked on by {owner(run) or 'another process'}: wait for it, "
            "stop it, or type run=<new name>"
        ) from None
    except (OSError, NotImplementedError) as error:  # the latter: no flock on this file system
        raise ValueError(
            f"{run.path} cannot be written to or locked ({error}): "
            "type root=<a folder on a local disk>"
        ) from error


def owner(run: Run) -> str | None:
    """Who wrote its name there last and has not taken it away. None: nobody, or unreadable."""
    try:
        found = json.loads(run.file(OWNER).read_text(encoding="utf-8"))
        return f"process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, LookupError, TypeError):
        return None


def at_work(folder: Path) -> bool:
    """Whether a process of this machine is busy with the run in a folder, as far as is known.

    The lock is not tried: who wants it at that moment would be refused.
    """
    try:
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        if found["host"] != socket.gethostname():
            return False
        os.kill(int(found["pid"]), 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except (OSError, ValueError, LookupError, TypeError, OverflowError):
        return False
    return True


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
