"""Two processes as one: the same result, one voice, and no one left waiting."""

from __future__ import annotations

import csv
import itertools
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from accelerate.utils.other import get_free_port
from support.composing import composed
from support.forked import begin, finished, strike
from support.launching import ROOT, SMALL, STORY
from support.processes import Process

from byheart.model import fit
from byheart.runtime.files import Run
from byheart.runtime.lock import claimed

RUN = Path("photos-tiny") / "n2-s0"
WORDS = ("n_images=2", "checkpoint.every=4")


def pair(
    root: Path, *words: str, before: Callable[[], object] = int
) -> tuple[list[int | None], str]:
    """Two gloo processes, to their end: their exit codes, and what they said. Without accelerate's
    launcher, which sets these variables and ends one when the other has failed.

    before: as for `begin`, in both.
    """
    told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(get_free_port())}
    both = [
        begin(
            root, *WORDS, *words, before=before,
            ACCELERATE_USE_CPU="true", RANK=rank, LOCAL_RANK=rank, **told,
        )
        for rank in ("0", "1")
    ]  # fmt: skip
    for one in both:
        one.join(300)
    return [one.exitcode for one in both], Path(f"{root}.txt").read_text()


def in_the_sixth_step(what: int | Exception) -> None:
    """In the second process there comes this signal, or this goes wrong."""
    real, calls = fit.loss, itertools.count(1)

    def loss(*arguments: Any) -> Any:
        if os.environ["RANK"] == "1" and next(calls) == 6:
            if isinstance(what, Exception):
                raise what
            os.kill(os.getpid(), what)
        return real(*arguments)

    fit.loss = loss


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "training.jsonl").read_text().splitlines()]


def outputs(run: Path) -> tuple[list[tuple[str, ...]], list[float]]:
    """Verdicts and distances."""
    with (run / "outputs.csv").open(encoding="utf-8", newline="") as handle:
        rows = list(csv.DictReader(handle))
    keys = ("weights", "condition", "prompt", "noise", "kind", "nearest_index")
    return [tuple(row[key] for key in keys) for row in rows], [float(row["rmse"]) for row in rows]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run by one process."""
    root = tmp_path_factory.mktemp("alone")
    finished(root, *WORDS)
    return root / RUN


def check_same(both: Path, alone: Path) -> None:
    assert losses(both) == pytest.approx(losses(alone), rel=1e-5)
    (verdicts, distances), (expected, far) = outputs(both), outputs(alone)
    assert verdicts == expected and distances == pytest.approx(far, abs=2e-3)


def test_two_processes_learn_and_judge_as_one(alone: Path, tmp_path: Path) -> None:
    command = [
        shutil.which("accelerate"), "launch", "--multi_gpu", "--num_processes", "2",
        "--num_machines", "1", "--main_process_port", "0", STORY, *SMALL, f"root={tmp_path}",
    ]  # fmt: skip
    done = subprocess.run(
        [*map(str, command), *WORDS], capture_output=True, text=True, timeout=300, cwd=ROOT,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((tmp_path / RUN / "environment.json").read_text())["processes"] == 2
    check_same(tmp_path / RUN, alone)


def test_what_two_began_one_can_finish(alone: Path, tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    codes, said = pair(root, before=partial(strike, signal.SIGKILL, "training.jsonl", 6))
    # The first was killed, and the second did not wait for it.
    assert codes[0] == -signal.SIGKILL and codes[1] not in (0, None), said[-2000:]
    assert "resuming at step 4 " in finished(root, *WORDS)
    check_same(root / RUN, alone)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ValueError("no such luck: try again"), "byheart: process 1: no such luck: try again\n"),
        (RuntimeError("out of luck"), "RuntimeError: out of luck\n"),
    ],
)
def test_the_failure_of_one_is_told_and_ends_both(
    tmp_path: Path, error: Exception, told: str
) -> None:
    """Nobody waits for the time-out of a collective, half an hour."""
    codes, said = pair(tmp_path / "out", before=partial(in_the_sixth_step, error))
    assert None not in codes and 0 not in codes and told in said, said[-3000:]


def test_what_both_find_wrong_is_told_once(tmp_path: Path) -> None:
    codes, said = pair(tmp_path / "out", "n_images=999")
    assert codes == [2, 2] and not (tmp_path / "out").exists()
    assert said.count("byheart: n_images=999") == 1 and "process 1:" not in said


def test_a_signal_to_one_stops_both_after_the_same_step(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    hit = partial(in_the_sixth_step, signal.SIGTERM)
    codes, said = pair(root, "checkpoint.every=0", before=hit)
    assert codes == [143, 143], said[-3000:]
    assert said.count("byheart: stopped after step ") == 1, said[-3000:]
    (place,) = (root / RUN / "checkpoints").iterdir()
    assert f"stopped after step {int(place.name[5:])} of 12, saved" in said


@pytest.mark.slow
def test_two_are_refused_together_where_another_works_and_go_on_to_the_next_run(
    tmp_path: Path, alone: Path
) -> None:
    """Else one would go on alone and meet the other in another run."""
    place = tmp_path / "photos-tiny" / "n1-s0"
    with claimed(Run(place, place), composed(), Process()):
        codes, said = pair(tmp_path, "-m", "n_images=1,2")
    assert codes == [2, 2], said[-3000:]
    told = [line for line in said.splitlines() if line.startswith("byheart: ")]
    assert len(told) == 1 and f"is being worked on by process {os.getpid()} on" in told[0]
    rows = [line.split() for line in said.splitlines() if line.startswith("photos-tiny/")]
    table = {row[0]: row[1] for row in rows}
    assert table == {"photos-tiny/n1-s0": "failed:", "photos-tiny/n2-s0": "finished"}
    check_same(tmp_path / RUN, alone)
