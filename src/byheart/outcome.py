"""What becomes of a run of a sweep: a failure is an outcome too, so that the others go on."""

from __future__ import annotations

import errno
import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from safetensors import SafetensorError

from byheart.checks import read
from byheart.config import Config
from byheart.ranks import settled

USER_MISTAKE, FAILURE = 2, 1  # exit codes
DONE = "done already"  # what a task says of a finished run
MISTAKES = (HydraException, OmegaConfBaseException, ValueError)
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}  # of a disk

Task = Callable[[Config], str]
Tell = Callable[[str | None], None]  # a line on standard error; None: nothing


@dataclass(frozen=True)
class Outcome:
    """Plain values, since it may come back from another process."""

    run: str  # <name>/<run>
    words: str  # what the task returned, or why it failed
    code: int = 0  # exit code
    folder: str = ""  # <root>/<name>: the curve it belongs to

    @property
    def cell(self) -> str:
        """Its words in the table."""
        return f"failed: {self.words}" if self.code else self.words


def attempt(task: Task, config: DictConfig) -> Outcome:
    """Do the task. BYHEART_TRACEBACK=1 shows where a mistake of the user's was found."""
    run = folder = ""
    try:
        run, folder = f"{config.name}/{config.run}", f"{config.root}/{config.name}"
        return Outcome(run, task(read(config)), folder=folder)
    except Exception as error:
        words = mistake(error)
        if words is not None:
            if os.environ.get("BYHEART_TRACEBACK"):
                raise
            return Outcome(run, words, USER_MISTAKE, folder)
        # Hydra would tell only after the last run.
        traceback.print_exc()
        return Outcome(run, f"{type(error).__name__}: {one_line(error)}", FAILURE, folder)


def told(outcome: Outcome, tell: Tell) -> Outcome:
    """The outcome, after naming the run if it failed."""
    if outcome.code == USER_MISTAKE:
        tell(settled(f"{outcome.run}: {outcome.words}", USER_MISTAKE))
    elif outcome.code:
        words = f"{outcome.run} failed: {outcome.words}; the other runs go on"
        tell(settled(words, outcome.code))
    return outcome


def mistake(error: Exception) -> str | None:
    """One line for what the user can mend; None: it is our fault."""
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
