"""One run, one owner."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import psutil
import pytest
from support.composing import composed
from support.forked import begin, ended, strike
from support.launching import SMALL
from support.processes import Process

from byheart.runtime.files import Run, locate, open_folder
from byheart.runtime.lock import Claim, claimed, one_at_a_time, owner


def run_at(path: Path) -> Run:
    return Run(path / "outputs" / "name" / "run", path / "cache")


def own(run: Run) -> AbstractContextManager[Claim]:
    return claimed(run, composed(), Process())


def test_the_folder_is_there_while_it_is_owned_and_gone_if_nothing_was_put_in(
    tmp_path: Path,
) -> None:
    run = run_at(tmp_path)
    with own(run) as found:
        assert found == Claim(False) and run.path.is_dir()
        assert f"process {os.getpid()} on " in str(owner(run))
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_told_who_was_first_and_changes_nothing(tmp_path: Path) -> None:
    root, words = tmp_path / "outputs", ("trajectory.points=0",)
    config = composed(*SMALL, *words, root=root)
    run = locate(config)
    first = begin(root, *words, before=partial(strike, signal.SIGSTOP, "training.jsonl", 3))
    while first.is_alive() and not (run.file("training.jsonl").exists() and stopped(first.pid)):
        time.sleep(0.01)
    before = {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    code, said = ended(root, *words, said=tmp_path / "second.txt")
    told = rf"being worked on by process {first.pid} on \S+ since .* UTC: wait for it, stop it"
    assert code == 2 and re.search(told, said) and said.count("\n") == 1, said
    assert before == {file: file.read_bytes() for file in root.rglob("*") if file.is_file()}
    first.kill()
    first.join()
    # A killed one's lock is void, and its name is told.
    with claimed(run, config, Process()) as found:
        assert f"process {first.pid} on " in str(found.left)
        assert f"process {os.getpid()} on " in str(owner(run))


def stopped(pid: int | None) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_STOPPED


def test_what_a_killed_one_was_writing_is_swept_away_and_nothing_else(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    (run.path / ".model.77.part").mkdir(parents=True)
    (run.path / ".model.77.part" / "unet.safetensors").write_bytes(b"half")
    (run.path / ".outputs.csv.77.part.csv").write_text("half")
    (run.path / "outputs.csv").write_text("whole")
    with own(run):
        assert {f.name for f in run.path.iterdir()} == {"outputs.csv", ".lock", ".owner.json"}
    assert [f.name for f in run.path.iterdir()] == ["outputs.csv"]


def test_a_finished_run_is_not_touched_unless_a_killed_ones_name_lies_there(
    tmp_path: Path,
) -> None:
    run = run_at(tmp_path)
    open_folder(run, composed(), {})
    run.file("report.html").write_text("x")
    before = run.path.stat().st_mtime_ns
    with own(run) as found:
        assert found == Claim(True) and not run.file(".lock").exists()
    assert run.path.stat().st_mtime_ns == before
    run.file(".owner.json").write_text("{}")  # killed in its last line
    with own(run) as found:
        assert found == Claim(True)
    assert {f.name for f in run.path.iterdir()} == {
        "config.yaml", "pictures.json", "report.html",
    }  # fmt: skip


def test_a_run_with_other_settings_is_not_ours(tmp_path: Path) -> None:
    run = run_at(tmp_path)
    open_folder(run, composed("seed=3"), {})
    with pytest.raises(ValueError, match="seed is 3 there, 0 here"), own(run):
        pass
    assert {f.name for f in run.path.iterdir()} == {"config.yaml", "pictures.json"}


def test_drawing_is_done_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [0], [0]

    def draw() -> None:
        for _ in range(20):
            with one_at_a_time(tmp_path):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                time.sleep(0.001)
                inside[0] -= 1

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] and inside == [0]
    assert list(tmp_path.iterdir()) == []
