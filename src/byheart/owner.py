"""One run, one owner: who works on a folder, told to whoever comes second.

The lock is the operating system's (flock): it ends with the process that holds it, however that
ends, so no lock is ever left behind. What is left behind by a killed process is its name.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from byheart.runs import Run

LOCK, OWNER = ".lock", ".owner.json"


@contextmanager
def owned(run: Run) -> Iterator[str | None]:
    """Keep other processes off the run's folder. Yields who left it behind unfinished, if anyone.

    Of several processes that work together the first one holds the lock. Folders made for it that
    hold nothing in the end are removed again.

    ValueError: another process works there, or locks cannot be had.
    """
    if os.environ.get("RANK", "0") != "0":
        yield None
        return
    made = [p for p in (run.path, *run.path.parents) if not p.exists()]
    lock = FileLock(run.file(LOCK))
    try:
        _acquire(lock, run)
        try:
            left = owner(run)
            me = {"pid": os.getpid(), "host": socket.gethostname(), "since": _now()}
            run.file(OWNER).write_text(json.dumps(me), encoding="utf-8")
            yield left
        finally:
            # While the lock is still held: whoever waits for it must not lose its own.
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
    except (OSError, NotImplementedError) as error:
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


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait for whoever else draws in this folder; a minute at most, then draw all the same."""
    lock = FileLock(folder / ".curve.lock", timeout=60)
    with suppress(Timeout, OSError, NotImplementedError):
        lock.acquire()
    try:
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
            lock.release()


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
