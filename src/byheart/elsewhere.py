"""Runs in processes of their own: through Ray or submitit, which Hydra's plugins bring."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf, open_dict

from byheart.outcome import FAILURE, Outcome, Tell, told

# hydra/launcher=, and which of our extras brings it.
LAUNCHERS = {"basic": "", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}
# A Ray of our own: no web server, and room enough for outcomes of a few bytes.
OWN_RAY = {"address": "local", "include_dashboard": False, "object_store_memory": 78_643_200,
           "logging_level": "error"}  # fmt: skip
# A process for each run, so that its peak memory is its own. A killed run is told, not repeated.
RAY_TASK = {"max_calls": 1, "max_retries": 0}
LAST_WORDS = 1.0  # seconds until Ray has passed on what the runs printed
POLL = 1.0  # seconds between looks at submitit's jobs


def check_launcher(word: str, launcher: str, sweep: bool) -> None:
    """Whether it can start runs here. ValueError: one line.

    word: as typed, hydra/launcher=… or the cluster=… that stands for it.
    """
    if launcher not in LAUNCHERS:
        raise ValueError(f"{word}: allowed is {' | '.join(LAUNCHERS)}")
    extra = LAUNCHERS[launcher]
    try:
        there = not extra or find_spec(f"hydra_plugins.hydra_{extra}_launcher") is not None
    except ModuleNotFoundError:  # no plugin of Hydra's at all
        there = False
    if not there:
        raise ValueError(f"{word} is not installed: pip install -e '.[{extra}]'")
    if not sweep:
        raise ValueError(f"{word} starts the runs of a sweep, and has no effect without -m: add it")
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if extra and count > 1:
        raise ValueError(
            f"{word} gives each run a process of its own, and {count} processes would start every "
            f"run {count} times: type python train/overfit.py -m {word} …"
        )


@dataclass(frozen=True)
class Job:
    """A run that is still to be started."""

    number: int
    overrides: list[str]
    config: DictConfig

    @property
    def run(self) -> str:
        return f"{self.config.name}/{self.config.run}"

    @property
    def folder(self) -> str:
        return f"{self.config.root}/{self.config.name}"


class Patient(Launcher):
    """A launcher from one of the plugins that waits for every run.

    Left alone, it gives up at the first run whose process died, and nobody learns of the rest.
    """

    def __init__(self, plugin: Any, tell: Tell) -> None:
        self.plugin, self.tell = plugin, tell

    def setup(self, **_: Any) -> None:
        """The plugin has had its own."""

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int
    ) -> Sequence[JobReturn]:
        jobs = [self._job(k, words) for k, words in enumerate(job_overrides, initial_job_idx)]
        for place, count in Counter(f"{job.folder}/{job.config.run}" for job in jobs).items():
            if count > 1:
                raise ValueError(
                    f"{place} would be written by {count} runs at once: put what differs between "
                    "them into run, such as 'run=n${n_images}-${captions.mode}'"
                )
        start = _on_ray if hasattr(self.plugin, "ray_cfg") else _on_submitit
        ended = {job.number: self._ended(job, back) for job, back in start(self.plugin, jobs)}
        return [ended[job.number] for job in jobs]

    def _job(self, number: int, overrides: Sequence[str]) -> Job:
        loader = self.plugin.hydra_context.config_loader
        config = loader.load_sweep_config(self.plugin.config, [*overrides])
        with open_dict(config):
            config.hydra.job.num, config.hydra.job.id = number, str(number)
        return Job(number, [*overrides], config)

    def _ended(self, job: Job, back: JobReturn | Exception) -> JobReturn:
        if isinstance(back, Exception):
            words = f"its process died: {_gist(back)}"
            back = JobReturn(status=JobStatus.COMPLETED)
            back.return_value = Outcome(job.run, words, FAILURE, job.folder)
        if back.status == JobStatus.COMPLETED:
            told(back.return_value, self.tell)
        return back


# Runs as they end, each with what came back or with why nothing did.
Ended = Iterator[tuple[Job, JobReturn | Exception]]


def _back(get: Callable[[], JobReturn]) -> JobReturn | Exception:
    try:
        return get()
    except Exception as error:
        return error


def _gist(error: Exception) -> str:
    """One line of what Ray or submitit tell at length: of a traceback the last, else the first."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    trace = any(line.startswith('File "') for line in lines)
    return lines[-1 if trace else 0][:200] if lines else type(error).__name__


def fitting(asked: dict[str, Any], there: dict[str, float]) -> dict[str, Any]:
    """What a run asks of Ray on this machine: where there are GPUs and nothing is said, one.

    Ray hides none from a run that asked for none, and all runs would crowd onto the first.
    ValueError: more than there is, for which Ray would wait for ever.
    """
    if asked.get("num_gpus") is None and there.get("GPU"):
        asked = {**asked, "num_gpus": 1}
    for key, kind in (("num_cpus", "CPU"), ("num_gpus", "GPU")):
        most = there.get(kind, 0)
        if (asked.get(key) or 0) > most:
            raise ValueError(
                f"hydra.launcher.ray.remote.{key}={asked[key]}: this machine has {most:g} of them"
            )
    return asked


def _on_ray(plugin: Any, jobs: Sequence[Job]) -> Ended:
    """Each run as a task of Ray's.

    Without an address it is a Ray of our own, that listens on the loopback interface only.
    """
    cluster: Any = OmegaConf.to_container(plugin.ray_cfg, resolve=True)
    given = {key: value for key, value in cluster["init"].items() if value is not None}
    own = "address" not in given and "RAY_ADDRESS" not in os.environ
    # Read when ray is imported or started: it reports nothing to its makers, and leaves no line
    # out because another run's differs in a number only.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    if own:
        # Ray's only switch for loopback; the name says where 0 is the default.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    import ray
    from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

    asked = {**RAY_TASK, **cluster["remote"]}
    ray.init(**{**(OWN_RAY if own else {}), **given})
    try:
        if own:
            asked = fitting(asked, ray.cluster_resources())
        start = partial(launch_job_on_ray, plugin.hydra_context, OmegaConf.create(asked))
        work, state = plugin.task_function, Singleton.get_state()
        waiting = {start(job.config, work, state): job for job in jobs}
        while waiting:
            for reference in ray.wait([*waiting], num_returns=1)[0]:
                yield waiting.pop(reference), _back(partial(ray.get, reference))
    finally:
        time.sleep(LAST_WORDS)
        ray.shutdown()


def _on_submitit(plugin: Any, jobs: Sequence[Job]) -> Ended:
    """Each run as a job of Slurm's, or as a process here. ValueError: there is no Slurm here."""
    kind, given = plugin._EXECUTOR, dict(plugin.params)
    if kind == "slurm" and shutil.which("srun") is None:
        raise ValueError(
            "there is no srun here, so this is no machine of a Slurm cluster: log in to one, or "
            "type cluster=ray"
        )
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    # As the plugin has it: what both kinds know by its name, what one knows with its prefix.
    folder = given.pop("submitit_folder")
    again = {f"{kind}_{key}": given.pop(key) for key in ["max_num_timeout"] if key in given}
    executor = submitit.AutoExecutor(cluster=kind, folder=folder, **again)
    common = BaseQueueConf.__dataclass_fields__
    named = {key if key in common else f"{kind}_{key}": value for key, value in given.items()}
    executor.update_parameters(**named)
    state = Singleton.get_state()
    each = [(j.overrides, "hydra.sweep.dir", j.number, str(j.number), state) for j in jobs]
    started = executor.map_array(plugin, *zip(*each, strict=True))
    print(f"{len(jobs)} runs started; what they say: {folder.replace('%j', '*')}", flush=True)
    job_of = {id(handle): job for handle, job in zip(started, jobs, strict=True)}
    for handle in submitit.helpers.as_completed(started, poll_frequency=POLL):
        back = _back(handle.result)
        where = RuntimeError(f"see {handle.paths.stderr}")
        yield job_of[id(handle)], where if isinstance(back, Exception) else back
