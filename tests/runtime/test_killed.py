"""A run that is killed anywhere, as often as one likes, ends as if it had not been."""

from __future__ import annotations

import json
import resource
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.forked import ended, finished, strike

WORDS = ("checkpoint.every=2", "trajectory.points=0", "n_images=2")
RUN = Path("photos-tiny") / "n2-s0"
TIMES = {"images_per_second", "seconds"}
# Just before such a path changes. Between two changes of the disk a kill leaves the same.
KILLS = [
    "n2-s0/config.yaml",  # all that the folder holds is unfinished
    "manifest.json",  # of the first checkpoint, in a folder that has no place yet
    "step-00000004",  # a whole one, about to take its place
    "n2-s0/outputs.csv",  # all is learned, measured and in part written
    "figures/kinds.svg",
    "unet.safetensors",  # of an old checkpoint that is being removed
    "n2-s0/report.html",  # the last file of all
]


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
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the run leaves that nobody disturbs."""
    root = tmp_path_factory.mktemp("whole")
    finished(root, *WORDS)
    return left(root)


def killed(root: Path, ending: str) -> None:
    code, said = ended(root, *WORDS, before=partial(strike, signal.SIGKILL, ending))
    assert code == -signal.SIGKILL, said[-2000:]
    assert not (root / RUN / "report.html").exists()


def saving(root: Path) -> bool:
    return any((root / RUN / "checkpoints").glob(".step-*.part"))


def test_killed_seven_times_it_leaves_the_same_bytes(whole: dict[str, Any], tmp_path: Path) -> None:
    root, saves = tmp_path / "root", []
    for ending in KILLS:
        killed(root, ending)
        saves += [ending] * saving(root)
    assert saves == ["manifest.json", "step-00000004"]
    finished(root, *WORDS)
    assert left(root) == whole


def test_a_full_disk_stops_it_with_what_was_saved_intact(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    root = tmp_path / "root"
    killed(root, "step-00000008")
    saved = {
        file: file.read_bytes()
        for file in (root / RUN / "checkpoints").rglob("*")
        if file.is_file() and ".part" not in str(file)
    }
    full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    code, said = ended(root, *WORDS, said=tmp_path / "full.txt", before=full)
    told = [line for line in said.splitlines() if line.startswith("byheart:")]
    assert code == 2 and len(told) == 1 and "Traceback" not in said, said[-2000:]
    assert "cannot be written" in told[0] and "the checkpoints before it are whole" in told[0]
    assert len(saved) > 4 and all(file.read_bytes() == saved[file] for file in saved)
    assert not saving(root)
    finished(root, *WORDS)
    assert left(root) == whole
