"""Runs in processes of their own: through Ray or submitit, with the settings that Hydra's plugins
for them declare."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

# hydra/launcher=, and which of our extras brings it.
LAUNCHERS = {"basic": "", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}
# A Ray of our own: no web server, and room enough for outcomes of a few bytes.
OWN_RAY = {"address": "local", "include_dashboard": False, "object_store_memory": 78_643_200,
           "logging_level": "error"}  # fmt: skip
# A process for each run, so that its peak memory is its own. A killed run is told, not repeated.
RAY_TASK = {"max_calls": 1, "max_retries": 0}
LAST_WORDS = 1.0  # seconds until Ray has passed on what the runs printed
POLL = 1.0  # seconds between looks at submitit's jobs

# Jobs as they end, each with what the work returned or with why it did not.
Ended = Iterator[tuple[Any, Any | Exception]]


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


def launch(
    work: Callable[[Any], Any], jobs: Sequence[Any], launcher: str, settings: dict[str, Any]
) -> Ended:
    """Each job worked on in a process of its own, through one of LAUNCHERS but basic.

    settings: `hydra.launcher`. ValueError: the launcher cannot start runs here.
    """
    if launcher == "ray":
        return _on_ray(work, jobs, settings["ray"])
    return _on_submitit(work, jobs, launcher.removeprefix("submitit_"), settings)


def why_it_died(error: Exception) -> str:
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


def _on_ray(work: Callable[[Any], Any], jobs: Sequence[Any], cluster: dict[str, Any]) -> Ended:
    """Each job as a task of Ray's.

    Without an address it is a Ray of our own, that listens on the loopback interface only.
    """
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

    asked = {**RAY_TASK, **cluster["remote"]}
    ray.init(**{**(OWN_RAY if own else {}), **given})
    try:
        if own:
            asked = fitting(asked, ray.cluster_resources())
        remote = ray.remote(**{key: v for key, v in asked.items() if v is not None})
        start = remote(lambda job: work(job))  # Ray takes functions only
        waiting = {start.remote(job): job for job in jobs}
        while waiting:
            (reference,), _ = ray.wait([*waiting], num_returns=1)
            try:
                back = ray.get(reference)
            except Exception as error:
                back = error
            yield waiting.pop(reference), back
    finally:
        time.sleep(LAST_WORDS)
        ray.shutdown()


def _on_submitit(
    work: Callable[[Any], Any], jobs: Sequence[Any], kind: str, settings: dict[str, Any]
) -> Ended:
    """Each as a job of Slurm's, or as a process here. ValueError: there is no Slurm here."""
    if kind == "slurm" and shutil.which("srun") is None:
        raise ValueError(
            "there is no srun here, so this is no machine of a Slurm cluster: log in to one, or "
            "type cluster=ray"
        )
    import submitit
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf

    # What both kinds know by its name, what one of them knows with its prefix.
    given = {key: value for key, value in settings.items() if key != "_target_"}
    folder = given.pop("submitit_folder")
    again = {f"{kind}_{key}": given.pop(key) for key in ["max_num_timeout"] if key in given}
    executor = submitit.AutoExecutor(cluster=kind, folder=folder, **again)
    common = BaseQueueConf.__dataclass_fields__
    options = {key if key in common else f"{kind}_{key}": value for key, value in given.items()}
    executor.update_parameters(**options)
    started = executor.map_array(work, jobs)
    print(f"{len(jobs)} runs started; what they say: {folder.replace('%j', '*')}", flush=True)
    job_of = {id(handle): job for handle, job in zip(started, jobs, strict=True)}
    for handle in submitit.helpers.as_completed(started, poll_frequency=POLL):
        try:
            back = handle.result()
        except Exception:
            back = RuntimeError(f"see {handle.paths.stderr}")
        yield job_of[id(handle)], back
