"""What becomes of a run of a sweep: a failure is an outcome too, so that the others go on."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from byheart.checks import read
from byheart.config import Config

USER_MISTAKE, FAILURE = 2, 1  # exit codes
MISTAKES = (HydraException, OmegaConfBaseException, ValueError)

Task = Callable[[Config], str]
Tell = Callable[[str], None]  # a line on standard error


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
    except MISTAKES as error:
        if os.environ.get("BYHEART_TRACEBACK"):
            raise
        return Outcome(run, one_line(error), USER_MISTAKE, folder)
    except Exception as error:
        # Hydra would tell only after the last run.
        traceback.print_exc()
        return Outcome(run, f"{type(error).__name__}: {one_line(error)}", FAILURE, folder)


def told(outcome: Outcome, tell: Tell) -> Outcome:
    """The outcome, after naming the run if it failed."""
    if outcome.code == USER_MISTAKE:
        tell(f"{outcome.run}: {outcome.words}")
    elif outcome.code:
        tell(f"{outcome.run} failed: {outcome.words}; the other runs go on")
    return outcome


def one_line(error: BaseException) -> str:
    """An error's message without line breaks; of Hydra's and OmegaConf's many lines the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines or not isinstance(error, HydraException | OmegaConfBaseException):
        return " ".join(lines) or type(error).__name__
    where = re.search(r"full_key: (\S+)", f"{error} {error.__cause__}")
    return f"{where[1]}: {lines[0]}" if where and where[1] not in lines[0] else lines[0]
