"""Several runs (-m): each composed by itself, then done one after another here, or each in a
process of its own (launchers.py). A failure is an outcome too, so that the others go on."""

from __future__ import annotations

import os
import socket
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from byheart.config import Config, declare, read
from byheart.runtime.errors import FAILURE, USER_MISTAKE, mistake, one_line
from byheart.runtime.files import check_writable
from byheart.runtime.launchers import launch, why_it_died

Task = Callable[[Config], str]


@dataclass(frozen=True)
class Job:
    """A run that is still to be done. Plain values, since it may go to another process."""

    words: tuple[str, ...]  # what would have to be typed for it alone
    config: DictConfig

    @property
    def run(self) -> str:
        return f"{self.config.name}/{self.config.run}"

    @property
    def folder(self) -> str:
        """<root>/<name>: the curve it belongs to."""
        return f"{self.config.root}/{self.config.name}"


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    run: str  # <name>/<run>
    words: str  # what the task returned, or why it failed
    code: int = 0  # exit code
    folder: str = ""


def sweep(task: Task, configs: Path, words: Sequence[str]) -> list[Outcome]:
    """Every run that the words ask for. A failed one is named at once, and the others go on.

    ValueError: words that no run can be made of, a root that cannot be written to, or a launcher
    that cannot start runs here.
    """
    # The plugin for Ray lists none of Ray's many options, so Hydra would ask for a plus.
    words = [f"++{word}" if word.startswith("hydra.launcher.ray.") else word for word in words]
    jobs, launcher, settings = jobs_of(configs, words)
    check_writable(Path(jobs[0].folder))
    if launcher == "basic":
        return [_reported(attempt(task, job)) for job in jobs]
    for place, count in Counter(f"{job.folder}/{job.config.run}" for job in jobs).items():
        if count > 1:
            raise ValueError(
                f"{place} would be written by {count} runs at once: put what differs between "
                "them into run, such as 'run=n${n_images}-${captions.mode}'"
            )
    found: dict[int, Outcome] = {}
    for job, back in launch(RemoteRun(task, os.getcwd()), jobs, launcher, settings):
        if isinstance(back, Exception):
            back = Outcome(job.run, f"its process died: {why_it_died(back)}", FAILURE, job.folder)
        found[id(job)] = _reported(back)
    return [found[id(job)] for job in jobs]


def jobs_of(configs: Path, words: Sequence[str]) -> tuple[list[Job], str, dict[str, Any]]:
    """The runs in their order, the launcher's name and its settings."""
    declare()
    plain = [values[0] for values in _parsed(words).values() if len(values) == 1]
    with initialize_config_dir(str(configs), version_base="1.3"):
        whole = compose("overfit", plain, return_hydra_config=True)
        swept: Any = OmegaConf.to_container(whole.hydra.sweeper)
        # What a preset varies comes first; what is typed takes its place.
        preset = [f"{key}={value}" for key, value in (swept["params"] or {}).items()]
        each = _parsed([*preset, *words])
        jobs = []
        for typed in product(*each.values()):
            alone = tuple(w for w in typed if not w.startswith(("cluster=", "hydra", "++hydra")))
            jobs.append(Job(alone, compose("overfit", [*typed])))
        settings: Any = OmegaConf.to_container(whole.hydra.launcher, resolve=True)
        launcher = str(whole.hydra.runtime.choices["hydra/launcher"])
    return jobs, launcher, settings


def _parsed(words: Sequence[str]) -> dict[str, list[str]]:
    """Of each key the words that set it: several where it is swept."""
    found: dict[str, list[str]] = {}
    for override in OverridesParser.create().parse_overrides([*words]):
        assert override.input_line is not None
        key = override.get_key_element()
        if not override.is_sweep_override():
            found[key] = [override.input_line]
            continue
        if not override.is_discrete_sweep():
            raise ValueError(f"{override.input_line}: allowed are values with commas between them")
        found[key] = [f"{key}={value}" for value in override.sweep_string_iterator()]
    return found


def attempt(task: Task, job: Job) -> Outcome:
    run = folder = ""
    try:
        run, folder = job.run, job.folder
        return Outcome(run, task(read(job.config)), folder=folder)
    except Exception as error:
        words = mistake(error)
        if words is not None:
            return Outcome(run, words, USER_MISTAKE, folder)
        traceback.print_exc()  # of our own fault, at once
        return Outcome(run, f"{type(error).__name__}: {one_line(error)}", FAILURE, folder)


@dataclass(frozen=True)
class RemoteRun:
    """One run in a process of its own."""

    task: Task
    cwd: str

    def __call__(self, job: Job) -> Outcome:
        # A cluster that was there before us starts its processes in a folder of its own.
        try:
            os.chdir(self.cwd)
        except OSError as error:
            why = f"{self.cwd} is not there on {socket.gethostname()} ({error.strerror})"
            return Outcome(job.run, why, USER_MISTAKE)
        # environment.json shall name the command that does this one run again.
        sys.argv = ["train/overfit.py", *job.words]
        return attempt(self.task, job)

    def checkpoint(self, job: Job) -> Any:
        """submitit asks for this when a job's time is up: the same once more."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, job)


def _reported(outcome: Outcome) -> Outcome:
    """The outcome, after naming the run if it failed."""
    from byheart.runtime.processes import report_failure  # torch

    if outcome.code == USER_MISTAKE:
        report_failure(f"{outcome.run}: {outcome.words}", USER_MISTAKE)
    elif outcome.code:
        words = f"{outcome.run} failed: {outcome.words}; the other runs go on"
        report_failure(words, outcome.code)
    return outcome
