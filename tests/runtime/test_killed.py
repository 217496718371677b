"""A run that is killed anywhere, as often as one likes, ends as if it had not been."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.forked import begin, finished

WORDS = ("budget.steps=24", "checkpoint.every=2", "trajectory.points=0", "n_images=2")
RUN = Path("photos-tiny") / "n2-s0"
TIMES = {"images_per_second", "seconds"}


def rows(file: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return [{key: v for key, v in row.items() if key not in TIMES} for row in lines]


def left(root: Path) -> dict[str, Any]:
    """All that a run leaves, times aside."""
    run = root / RUN
    found: dict[str, Any] = {
        str(file.relative_to(run)): file.read_bytes()
        for file in run.rglob("*")
        if file.is_file()
        and file.name not in {"measures.json", "environment.json", "training.jsonl", "report.html"}
    }
    config = found["config.yaml"].decode().splitlines()
    found["config.yaml"] = [line for line in config if not line.startswith("root:")]
    measures = json.loads((run / "measures.json").read_text())
    measures.pop("seconds")
    return found | {"measures": measures, "training": rows(run / "training.jsonl")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], float]:
    """What the run leaves that nobody disturbs, and the seconds it takes."""
    root = tmp_path_factory.mktemp("whole")
    begin(root, "--help").join()  # the server has imported everything
    began = time.monotonic()
    finished(root, *WORDS)
    return left(root), time.monotonic() - began


def saving(root: Path) -> bool:
    return any((root / RUN / "checkpoints").glob(".step-*.part"))


def kill_once(root: Path, seconds: float, until: Callable[[Path], bool], slow: float = 0.0) -> bool:
    """Start, and kill after the seconds or as soon as `until` is so. Whether it was killed."""
    process, end = begin(root, *WORDS, slow=slow), time.monotonic() + seconds
    while process.is_alive() and time.monotonic() < end and not until(root):
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode in {0, -9}, Path(f"{root}.txt").read_text()[-2000:]
    return process.exitcode == -9


def killed_often(folder: Path, whole: tuple[dict[str, Any], float], kills: int, seed: int) -> int:
    """How many of the kills hit a save. Whenever a run gets through, it is compared."""
    expected, first = whole
    seconds = first
    draws, done, in_a_save, through = random.Random(seed), 0, 0, 0
    while done < kills:
        root = folder / f"root{through}"
        moment = draws.uniform(0, 1.1 * seconds)
        began = time.monotonic()
        # Every third waits for a save, which on a slow disk takes long enough to be seen.
        if done % 3 == 0:
            killed = kill_once(root, 600, saving, slow=draws.uniform(0.02, 0.1))
        else:
            killed = kill_once(root, moment, lambda _: False)
        if killed:
            done += 1
            in_a_save += saving(root)
        else:
            assert left(root) == expected
            through += 1
            # A machine that was busy may be so no longer: later moments would all be too late.
            seconds = max(time.monotonic() - began, first / 4)
    root = folder / f"root{through}"
    finished(root, *WORDS)
    assert left(root) == expected
    return in_a_save


def test_killed_seven_times_it_leaves_the_same_bytes(
    whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    assert killed_often(tmp_path, whole, kills=7, seed=2) >= 2


def test_a_full_disk_stops_it_with_what_was_saved_intact(
    whole: tuple[dict[str, Any], float], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    assert kill_once(root, 60, lambda root: (root / RUN / "checkpoints" / "step-00000006").exists())
    saved = {
        file: file.read_bytes()
        for file in (root / RUN / "checkpoints").rglob("*")
        if file.is_file() and ".part" not in str(file)
    }
    said = tmp_path / "full.txt"
    process = begin(root, *WORDS, said=said, largest=100_000)
    process.join()
    told = [line for line in said.read_text().splitlines() if line.startswith("byheart:")]
    assert process.exitcode == 2 and len(told) == 1, said.read_text()[-2000:]
    assert "cannot be written" in told[0] and "the checkpoints before it are whole" in told[0]
    assert "Traceback" not in said.read_text()
    assert all(file.read_bytes() == content for file, content in saved.items() if file.exists())
    assert not saving(root)
    finished(root, *WORDS)
    assert left(root) == whole[0]
