"""Who works in a folder. The lock is the operating system's (flock): it ends with the process that
holds it, however that ends, so none is ever left behind. What a killed process leaves is its name
and what it was writing."""

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
from typing import TYPE_CHECKING, Any

import psutil
from filelock import FileLock, Timeout

from byheart.config import Config
from byheart.runtime.files import Run, check_folder

if TYPE_CHECKING:
    from accelerate import Accelerator

LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def locked(
    file: Path, cure: str = "type root=<a folder on a local disk>", seconds: float = 0
) -> Iterator[None]:
    """Hold the lock `file`. Folders made for it that hold nothing in the end are removed again.

    TimeoutError: another process holds it, after so many seconds too. ValueError: it cannot be
    locked there; `cure` says what to do instead.
    """
    made = [p for p in file.parents if not p.exists()]
    lock = FileLock(file, timeout=seconds)
    try:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise
        except (OSError, NotImplementedError) as error:  # the latter: no flock on this file system
            raise ValueError(
                f"{file.parent} cannot be written to or locked ({error}): {cure}"
            ) from error
        try:
            yield
        finally:
            # While the lock is still held: whoever comes next must not lose its own.
            with suppress(OSError):
                file.unlink(missing_ok=True)
            lock.release()
    finally:
        for folder in made:
            with suppress(OSError):  # it is in use
                folder.rmdir()


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait for whoever else draws in this folder; a minute at most, then draw all the same."""
    with ExitStack() as stack:
        # Without a lock (a folder to read only, no flock) it is still better to draw than not to:
        # each file takes its place whole, and only who drew last is left to chance.
        with suppress(TimeoutError, ValueError):
            stack.enter_context(locked(folder / ".curve.lock", seconds=60))
            for part in folder.glob(".*.part*"):  # by a process that was killed
                part.unlink(missing_ok=True)
        yield


@dataclass(frozen=True)
class Claim:
    """What lay in a run's folder when it became ours."""

    finished: bool
    left: str | None = None  # who left it behind unfinished


@contextmanager
def claimed(run: Run, config: Config, accelerator: Accelerator) -> Iterator[Claim]:
    """Keep others off the run's folder, unless it is finished: then nothing is touched.

    Of several processes the first one looks and locks, and all of them get the same answer.
    ValueError: another process works there, it holds a run with other settings, or it cannot be
    written to.
    """
    from byheart.runtime.processes import from_first  # torch, which drawing does without

    with ExitStack() as stack:
        yield from_first(accelerator, lambda: _enter(run, config, stack))


def finished(run: Run, config: Config) -> bool:
    """Whether the run is done and nobody works in its folder. ValueError: as `check_folder`."""
    check_folder(run, config)
    return run.finished and not run.file(OWNER).exists()


def _enter(run: Run, config: Config, stack: ExitStack) -> Claim:
    if finished(run, config):
        return Claim(True)
    try:
        stack.enter_context(locked(run.file(LOCK)))
    except TimeoutError:
        if run.finished:  # its owner may be in its very last line
            return Claim(True)
        raise ValueError(
            f"{run.path} is being worked on by {owner(run) or 'another process'}: wait for it, "
            "stop it, or type run=<new name>"
        ) from None
    left = owner(run)
    for part in run.path.rglob(".*.part*"):  # what a killed process was writing
        shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    me = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
    run.file(OWNER).write_text(json.dumps(me), encoding="utf-8")
    stack.callback(run.file(OWNER).unlink, missing_ok=True)  # before the lock goes
    return Claim(run.finished, None if run.finished else left)


def owner(run: Run) -> str | None:
    """Who wrote its name there last and has not taken it away. None: nobody, or unreadable."""
    found = _owner(run.path)
    if found is None:
        return None
    return f"process {found['pid']} on {found['host']} since {found['since']}"


def at_work(folder: Path) -> bool:
    """Whether a process of this machine is busy with the run in a folder, as far as is known.

    The lock is not tried: who wants it at that moment would be refused.
    """
    found = _owner(folder)
    if found is None or found["host"] != socket.gethostname():
        return False
    try:
        return psutil.pid_exists(found["pid"])
    except OverflowError:
        return False


def _owner(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / OWNER).read_text(encoding="utf-8"))
        return {"pid": int(found["pid"]), "host": found["host"], "since": found["since"]}
    except (OSError, ValueError, LookupError, TypeError):
        return None
