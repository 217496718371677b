"""What the user can mend in one line, and what is our own fault. Every error text is cut here."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError

FAILURE, USER_MISTAKE, INTERRUPTED = 1, 2, 130  # exit codes
MISTAKES = (HydraException, OmegaConfBaseException, ValueError)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # of a disk


def say(words: str) -> None:
    """A line on standard error."""
    print(f"byheart: {words}", file=sys.stderr, flush=True)


def mistake(error: BaseException) -> str | None:
    """One line for what the user can mend. None: it is our fault, or BYHEART_TRACEBACK=1 asks to be
    shown where it came from."""
    if os.environ.get("BYHEART_TRACEBACK"):
        return None
    if isinstance(error, MISTAKES):
        return one_line(error)
    if isinstance(error, SafetensorError):  # what it writes through tells no number
        return f"{one_line(error)}: make room and type the same command"
    if isinstance(error, OSError) and error.errno in FULL:
        return (
            f"{error.filename or 'a file'} cannot be written ({error.strerror}): make room and "
            "type the same command; what was saved before is whole"
        )
    return None


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; of Hydra's and OmegaConf's many lines the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or not isinstance(error, HydraException | OmegaConfBaseException):
        return " ".join(lines) or type(error).__name__
    where = re.search(r"full_key: (\S+)", f"{error} {error.__cause__}")
    return f"{where[1]}: {lines[0]}" if where and where[1] not in lines[0] else lines[0]


def short(error: BaseException, most: int = 300) -> str:
    """The beginning of a library's message, without its line breaks and final stop."""
    return " ".join(str(error).split())[:most].rstrip(".: ") or type(error).__name__


def few(names: Sequence[str], most: int) -> str:
    """The first of them in a line, and a sign where there are more."""
    return ", ".join(names[:most]) + ", …" * (len(names) > most)
