"""Several runs in one go (-m): one after another here, or each in a process of its own."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from contextlib import suppress
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
from byheart.outcome import DONE, USER_MISTAKE, Outcome, Task, Tell, attempt, told
from byheart.runs import one_at_a_time, writable


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
        place = Path(config.hydra.sweep.dir)
        writable(place)
        made = [p for p in (place, *place.parents) if not p.exists()]
        try:
            batches = sweeper.sweep(arguments=_typed(config.hydra))
        finally:
            # Hydra's, who says there what every run's config.yaml says better.
            (place / "multirun.yaml").unlink(missing_ok=True)
            for folder in made:
                with suppress(OSError):  # a run is there
                    folder.rmdir()
        callbacks.on_multirun_end(config=config, config_name="overfit")
    finally:
        GlobalHydra.instance().clear()
    outcomes = [job.return_value for batch in batches for job in batch]
    if os.environ.get("RANK", "0") == "0":
        redraw(outcomes)
    return outcomes


def _here(task: Task, tell: Tell, config: DictConfig) -> Outcome:
    return told(attempt(task, config), tell)


def _there(task: Task, config: DictConfig) -> Outcome:
    started = HydraConfig.get()
    # A cluster that was there before us starts its processes in a folder of its own.
    try:
        os.chdir(started.runtime.cwd)
    except OSError as error:
        why = f"{started.runtime.cwd} is not there on {socket.gethostname()} ({error.strerror})"
        return Outcome(f"{config.name}/{config.run}", why, USER_MISTAKE)
    # environment.json shall name the command that does this one run again.
    words = [word for word in _typed(started) if not word.startswith("cluster=")]
    sys.argv = ["train/overfit.py", *words]
    return attempt(task, config)


def _typed(hydra: Any) -> list[str]:
    """The settings as typed: a `run=n${n_images}` is not to be resolved yet."""
    words: Any = OmegaConf.to_container(hydra.overrides.task, resolve=False)
    return [*words]


def redraw(outcomes: Sequence[Outcome]) -> None:
    """The curve of every folder once more, as SVG and PNG: after each run there is time for less,
    and of two runs that ended together the slower one may have left the page without the other."""
    from byheart.show.sweep import write_curve  # matplotlib: only now

    new = {outcome.folder for outcome in outcomes if not outcome.code and outcome.words != DONE}
    for folder in sorted(new):
        if not any(Path(folder).glob("*/report.html")):
            continue
        try:
            with one_at_a_time(Path(folder)):
                write_curve(Path(folder))
        except ValueError as error:
            print(f"no curve over {folder}: {error}")
