"""One run, one owner."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from support.composing import composed
from support.forked import begin
from support.processes import Process

from byheart.runtime.files import Run, open_folder
from byheart.runtime.lock import Claim, claimed, one_at_a_time, owner


def run_at(path: Path) -> Run:
    return Run(path / "outputs" / "name" / "run", path / "cache")


def own(run: Run, index: int = 0) -> AbstractContextManager[Claim]:
    return claimed(run, composed(), Process(index))


def test_the_folder_is_there_while_it_is_owned_and_gone_if_nothing_was_put_in(
    tmp_path: Path,
) -> None:
    run = run_at(tmp_path)
    with own(run) as found:
        assert found == Claim(False) and run.path.is_dir()
        assert f"process {os.getpid()} on " in str(owner(run))
    assert list(tmp_path.iterdir()) == []


def hold(path: Path, held: threading.Event, done: threading.Event) -> None:
    with own(run_at(path)):
        held.set()
        done.wait(60)


def test_the_second_is_told_who_was_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, held, done))
    first.start()
    assert held.wait(60)
    told = rf"being worked on by process {first.pid} on \S+ since .* UTC: wait for it, stop it"
    for _ in range(2):  # asking changes nothing
        with pytest.raises(ValueError, match=told), own(run_at(tmp_path)):
            pass
    done.set()
    first.join()
    with own(run_at(tmp_path)) as found:
        assert found.left is None


def test_a_killed_ones_lock_is_void_and_its_name_is_told(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, done = context.Event(), context.Event()
    first = context.Process(target=hold, args=(tmp_path, held, done))
    first.start()
    assert held.wait(60)
    first.kill()
    first.join()
    with own(run_at(tmp_path)) as found:
        assert f"process {first.pid} on " in str(found.left)
        assert f"process {os.getpid()} on " in str(owner(run_at(tmp_path)))


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


def test_a_second_run_in_the_same_folder_is_told_and_changes_nothing(tmp_path: Path) -> None:
    root = tmp_path / "outputs"
    first = begin(root, "budget.steps=2000", "trajectory.points=0")
    rows = root / "photos-tiny" / "n1-s0" / "training.jsonl"
    while first.is_alive() and not rows.exists():
        time.sleep(0.01)
    said = tmp_path / "second.txt"
    second = begin(root, "budget.steps=2000", "trajectory.points=0", said=said)
    second.join()
    assert first.is_alive() and second.exitcode == 2
    told = said.read_text()
    assert told.count("\n") == 1, told
    assert f"is being worked on by process {first.pid} on " in told
    assert first.pid is not None
    os.kill(first.pid, signal.SIGTERM)
    first.join()
    assert first.exitcode == 143
