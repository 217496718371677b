"""Two processes as one: the same result, one voice, and no one left waiting."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import time
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.composing import composed
from support.forked import begin, finished
from support.launching import ROOT, SMALL, STORY
from support.processes import Process

from byheart.runtime.files import Run
from byheart.runtime.lock import claimed

RUN = Path("photos-tiny") / "n2-s0"
WORDS = ("n_images=2", "checkpoint.every=4")
# Runs the story, after something has gone wrong with the second process's sixth loss.
SPOILED = """
import os, runpy, sys
from byheart.model import fit as module
real, calls = module.loss, iter(range(10**6))
def loss(*arguments):
    if os.environ["RANK"] == "1" and next(calls) == 5:
        {what}
    return real(*arguments)
module.loss = loss
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def pair(script: Path, root: Path, port: int, *words: str) -> subprocess.Popen[str]:
    """Two gloo processes; `script` may be the story, or something that runs it."""
    command = [
        shutil.which("accelerate"), "launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--main_process_port", port, script,
        *([] if script == STORY else [STORY]), *SMALL, f"root={root}", *WORDS, *words,
    ]  # fmt: skip
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=ROOT, env=environment, start_new_session=True,
    )  # fmt: skip


def forked_pair(root: Path, port: int, *words: str) -> list[BaseProcess]:
    """The same two without accelerate's launcher, which only sets these; both print to one file."""
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        begin(root, *WORDS, *words, ACCELERATE_USE_CPU="true", RANK=rank, LOCAL_RANK=rank, **told)
        for rank in ("0", "1")
    ]


def rows(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "training.jsonl").read_text().splitlines()]


def verdicts(run: Path) -> list[tuple[str, ...]]:
    with (run / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        keys = ("weights", "condition", "prompt", "noise", "kind", "nearest_index")
        return [tuple(row[key] for key in keys) for row in csv.DictReader(handle)]


def distances(run: Path) -> list[float]:
    with (run / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        return [float(row["rmse"]) for row in csv.DictReader(handle)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run by one process."""
    root = tmp_path_factory.mktemp("alone")
    finished(root, *WORDS)
    return root / RUN


def test_two_processes_learn_and_judge_as_one(alone: Path, tmp_path: Path) -> None:
    process = pair(STORY, tmp_path, 29531)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]
    both = tmp_path / RUN
    assert json.loads((both / "environment.json").read_text())["processes"] == 2
    expected = [row["loss"] for row in rows(alone)]
    assert [row["loss"] for row in rows(both)] == pytest.approx(expected, rel=1e-5)
    assert verdicts(both) == verdicts(alone)
    assert distances(both) == pytest.approx(distances(alone), abs=2e-3)


def test_what_two_began_one_can_finish(alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    both = forked_pair(root, 29532)
    saved = root / RUN / "checkpoints" / "step-00000004"
    while all(one.is_alive() for one in both) and not saved.exists():
        time.sleep(0.01)
    for one in both:
        one.kill()
    for one in both:
        one.join()
        assert one.exitcode == -signal.SIGKILL, Path(f"{root}.txt").read_text()[-2000:]
    assert saved.exists() and not (root / RUN / "report.html").exists()
    assert "resuming at step" in finished(root, *WORDS)
    expected = [row["loss"] for row in rows(alone)]
    assert [row["loss"] for row in rows(root / RUN)] == pytest.approx(expected, rel=1e-5)
    assert verdicts(root / RUN) == verdicts(alone)


@pytest.mark.parametrize(
    ("what", "told", "port"),
    [
        ('raise ValueError("no such luck: try again")', "byheart: process 1: no such luck", 29533),
        ('raise RuntimeError("out of luck")', "RuntimeError: out of luck", 29534),
    ],
)
def test_the_failure_of_one_is_told_and_ends_both(
    tmp_path: Path, what: str, told: str, port: int
) -> None:
    script = tmp_path / "spoiled.py"
    script.write_text(SPOILED.format(what=what))
    began = time.monotonic()
    process = pair(script, tmp_path / "out", port)
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0 and told in error, error[-3000:]
    # Starting takes most of it; nobody waits for the time-out of a collective, half an hour.
    assert time.monotonic() - began < 100
    assert not [
        p for p in psutil.process_iter(["cmdline"]) if str(script) in (p.info["cmdline"] or [])
    ]


def test_what_both_find_wrong_is_told_once(tmp_path: Path) -> None:
    process = pair(STORY, tmp_path / "out", 29535, "n_images=999")
    _, error = process.communicate(timeout=120)
    assert process.returncode != 0
    assert error.count("byheart: n_images=999") == 1 and "process 1:" not in error
    assert not (tmp_path / "out").exists()


def test_a_signal_to_one_stops_both_after_the_same_step(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    both = forked_pair(root, 29536, "budget.steps=4000", "checkpoint.every=0")
    log = root / RUN / "training.jsonl"
    while all(one.is_alive() for one in both) and not log.exists():
        time.sleep(0.01)
    assert both[1].pid
    os.kill(both[1].pid, signal.SIGTERM)
    for one in both:
        one.join(120)
    said = Path(f"{root}.txt").read_text()
    assert [one.exitcode for one in both] == [143, 143], said[-3000:]
    assert said.count("byheart: stopped after step ") == 1, said[-3000:]
    (place,) = (root / RUN / "checkpoints").iterdir()
    assert f"stopped after step {int(place.name[5:])} of 4000, saved" in said


def hold(path: Path, held: Event, done: Event) -> None:
    with claimed(Run(path, path), composed(), Process()):
        held.set()
        done.wait(300)


@pytest.mark.slow
def test_two_are_refused_together_where_another_works_and_go_on_to_the_next_run(
    tmp_path: Path, alone: Path
) -> None:
    """Else one would go on alone and meet the other in another run."""
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    place = tmp_path / "photos-tiny" / "n1-s0"
    first = context.Process(target=hold, args=(place, held, done))
    first.start()
    assert held.wait(60)
    both = forked_pair(tmp_path, 29537, "-m", "n_images=1,2")
    for one in both:
        one.join(300)
    done.set()
    first.join()
    said = Path(f"{tmp_path}.txt").read_text()
    assert [one.exitcode for one in both] == [2, 2], said[-3000:]
    told = [line for line in said.splitlines() if line.startswith("byheart: ")]
    assert len(told) == 1 and "is being worked on by process" in told[0], said[-3000:]
    rows_told = [line.split() for line in said.splitlines() if line.startswith("photos-tiny/")]
    table = {row[0]: row[1] for row in rows_told}
    assert table == {"photos-tiny/n1-s0": "failed:", "photos-tiny/n2-s0": "finished"}
    expected = [row["loss"] for row in rows(alone)]
    assert [row["loss"] for row in rows(tmp_path / RUN)] == pytest.approx(expected, rel=1e-5)
