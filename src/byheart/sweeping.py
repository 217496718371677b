"""Several runs in one go (-m): one after another here, or each in a process of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf

from byheart.elsewhere import Patient
from byheart.outcome import Outcome, Task, Tell, attempt, told


def sweep(task: Task, configs: Path, words: Sequence[str], tell: Tell) -> list[Outcome]:
    """Every run that the words ask for. A failed one is told at once, and the others go on.

    This is hydra.main, which drops what the runs return. (They cannot leave it in a variable:
    a variable does not reach other processes.)
    """
    version.setbase("1.3")
    # The plugin for Ray lists none of Ray's many options, so Hydra would ask for a plus.
    words = [f"++{word}" if word.startswith("hydra.launcher.ray.") else word for word in words]
    search = create_config_search_path(str(configs))
    hydra = Hydra.create_main_hydra2(Path(sys.argv[0]).stem, search)
    try:
        config = hydra.compose_config("overfit", [*words, "hydra.mode=MULTIRUN"], RunMode.MULTIRUN)
        here = config.hydra.runtime.choices["hydra/launcher"] == "basic"
        callbacks = Callbacks(config)
        callbacks.on_multirun_start(config=config, config_name="overfit")
        sweeper: Any = Plugins.instance().instantiate_sweeper(
            config=config,
            hydra_context=HydraContext(config_loader=hydra.config_loader, callbacks=callbacks),
            task_function=partial(_here, task, tell) if here else partial(_there, task),
        )
        if not here:
            sweeper.launcher = Patient(sweeper.launcher, tell)
        batches = sweeper.sweep(arguments=_typed(config.hydra))
        callbacks.on_multirun_end(config=config, config_name="overfit")
    finally:
        GlobalHydra.instance().clear()
    outcomes = [job.return_value for batch in batches for job in batch]
    if not here:
        redraw(outcomes)
    return outcomes


def _here(task: Task, tell: Tell, config: DictConfig) -> Outcome:
    return told(attempt(task, config), tell)


def _there(task: Task, config: DictConfig) -> Outcome:
    started = HydraConfig.get()
    # A cluster that was there before us starts its processes in a folder of its own.
    os.chdir(started.runtime.cwd)
    # environment.json shall name the command that does this one run again.
    words = [word for word in _typed(started) if not word.startswith("cluster=")]
    sys.argv = ["train/overfit.py", *words]
    return attempt(task, config)


def _typed(hydra: Any) -> list[str]:
    """The settings as typed: a `run=n${n_images}` is not to be resolved yet."""
    words: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return [*words]


def redraw(outcomes: Sequence[Outcome]) -> None:
    """The curve of every folder once more: of two runs that ended together, the one that took
    longer to draw may have left the page without the other."""
    from byheart.show.sweep import write_curve  # matplotlib: only now

    for folder in {Path(outcome.folder): None for outcome in outcomes if not outcome.code}:
        finished = sorted(report.parent for report in folder.glob("*/report.html"))
        try:
            if finished:
                write_curve(folder, last=finished[-1])
        except ValueError as error:
            print(f"no curve over {folder}: {error}")
